"""XVerseBench (bytedance/XVerse, commit 65e2581) and UMO's additions to it (bytedance/UMO, commit aada3dc)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fc_bench.model.matching import optimal_matching

PERCENT = 100.0


def id_similarities(similarities: np.ndarray) -> np.ndarray:
    """Of each subject the largest cosine with any face [subjects]; 0 without a face, negative ones kept.

    One face may serve several subjects. The ID Score of XVerse (eval/tools/idip_face_score.py) and the ID-Sim of UMO
    are the mean over all subjects of all images, in percent.
    """
    return similarities.max(axis=1) if similarities.shape[1] else np.zeros(len(similarities))


def id_confidences(similarities: np.ndarray) -> np.ndarray | None:
    """Of each subject how far its best face is ahead of its second best, relative to it [subjects], from 0 to 1.

    None with fewer than two faces: UMO leaves these images out of the mean (eval/id_conf_xversebench.py).
    """
    if similarities.shape[1] < 2:
        return None
    ordered = np.sort(similarities, axis=1)
    best, second = ordered[:, -1], ordered[:, -2]
    ahead = np.divide(best - second, best, out=np.zeros(len(best)), where=best > 0)
    return np.minimum(1.0, ahead)


def matching_reward(similarities: np.ndarray) -> float:
    """Mean over the matrix of the cosines, with the opposite sign where a face is not the subject's own.

    0 without a face. Faces are assigned one to one with the largest sum. UMO trains with this reward
    (reward_models/MIMR); it is no score of theirs.
    """
    if not similarities.size:
        return 0.0
    signs = -np.ones(similarities.shape)
    for subject, face in optimal_matching(similarities).items():
        signs[subject, face] = 1.0
    return float(np.mean(signs * similarities))


def question_scores(parents: Mapping[str, Sequence[str]], answers: Mapping[str, str]) -> tuple[dict[str, float], float]:
    """The score of each question and their mean in percent, in which a question with a failed parent counts 0.

    An answer scores 1 if it is "yes" to the letter, 0 otherwise; a parent that is no question does not count. The DPG
    score of XVerse (eval/tools/dpg_score.py).
    """
    scores = {question: float(answers[question] == "yes") for question in parents}
    failed = {
        question for question, above in parents.items() if any(scores.get(parent, 1.0) == 0.0 for parent in above)
    }
    kept = [0.0 if question in failed else score for question, score in scores.items()]
    return scores, PERCENT * float(np.mean(kept))


def omnicontext_means(found: Sequence[tuple[str, Sequence[float]]], tasks: Collection[str]) -> dict[str, float | None]:
    """The mean of each task and `avg`, the mean over all values, from (task, values) an image (None: no value).

    UMO's ID-Sim and ID-Conf on OmniContext (eval/id_omnicontext.py): the scale is 10, and tasks of `tasks` alone count.
    """
    values: dict[str, list[float]] = {task: [] for task in tasks}
    for task, own in found:
        if task in values:
            values[task].extend(own)
    pooled = [value for own in values.values() for value in own]
    means = {"avg": pooled, **values}
    return {name: float(np.mean(own)) if own else None for name, own in means.items()}
