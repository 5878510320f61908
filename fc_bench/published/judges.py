"""Answers of language models that judge images: what each benchmark reads from them, and its means.

Every reader is strict: an answer that it cannot read is missing (None), never a number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

LARGEST = 10.0
"""The scores of OmniContext and PSRBench lie between 0 and this."""
PSRBENCH_UNREADABLE = 5.0
"""What PSRBench's own code takes for an answer without a score."""
MOST_DIGITS = 10
"""Most questions that an answer to MultiHuman-Testbench holds."""
DREAMBENCH_PLUS_LARGEST = 4.0
DREAMBENCH_PLUS_KINDS = ("animal", "human", "object", "style")
DREAMBENCH_PLUS_PROMPTS = {
    "photorealistic": range(4),
    "style_transfer": range(4, 7),
    "imaginative": range(7, 9),
}
"""Kinds of subjects, and numbers of the prompts of each kind, in DreamBench++."""


def omnicontext_score(text: str) -> float | None:
    """The score of an OmniContext answer (VectorSpaceLab/OmniGen2, commit 0f72fa9), from 0 to 10.

    A JSON object with the number `score`, which may stand in other text, or the number alone. Theirs
    (omnicontext/json_util.py) also accepts lists, text and numbers out of range, and draws a random one otherwise.
    """
    try:
        return _in_range(float(text.strip()))
    except ValueError:
        pass
    begin, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[begin : end + 1]) if 0 <= begin < end else None
    except ValueError:
        return None
    score = found.get("score") if isinstance(found, dict) else None
    return _in_range(float(score)) if isinstance(score, (int, float)) and not isinstance(score, bool) else None


def _in_range(value: float) -> float | None:
    return value if 0 <= value <= LARGEST else None


def omnicontext_means(tasks: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, tuple[float, ...]]:
    """Prompt following, subject consistency and overall of each task from (PF, SC) an image, and their `average`.

    Overall is the mean of the images' geometric means. The average is that of the tasks' means
    (omnicontext/calculate_statistics.py).
    """
    means: dict[str, tuple[float, ...]] = {}
    for task, own in tasks.items():
        if own:
            images = np.array([(pf, sc, math.sqrt(pf * sc)) for pf, sc in own])
            means[task] = tuple(images.mean(axis=0).tolist())
    means["average"] = tuple(np.mean(list(means.values()), axis=0).tolist())
    return means


def psrbench_score(text: str) -> float | None:
    """The score of a PSRBench answer (wang-shulei/PSR, commit c719168), from 0 to 10: the number after `[Score]:`.

    Theirs (eval/semantic-alignment/attribute-alignment.py) takes 5 where there is none.
    """
    found = re.search(r"\[Score\]:\s*([0-9.]+)", text)
    try:
        return _in_range(float(found[1])) if found else None
    except ValueError:
        return None


def dreambench_plus_score(text: str) -> float | None:
    """The score of a DreamBench++ answer (yuangpeng/dreambench_plus, commit 66ca27e), from 0 to 4.

    The whole number after `Score:` or `score:`, one word may stand between them, exactly once. Theirs
    (dreambench_plus/eval_prompt_following.py) also takes larger numbers, and the first digits of a fraction.
    """
    found = re.findall(r"(?:score|Score):\s*[a-zA-Z]*\s*([0-9]+(?:[.,][0-9]+)?)", text)
    if len(found) != 1 or not found[0].isdigit():
        return None
    score = float(found[0])
    return score if score <= DREAMBENCH_PLUS_LARGEST else None


def multihuman_scores(text: str, count: int | None = None) -> tuple[float, ...] | None:
    """The scores of a MultiHuman-Testbench answer (Qualcomm-AI-research, commit ff9f120), from 1 to 10.

    Digits alone, one for each of `count` questions (None: as many as there are), each plus 1. Theirs
    (benchmarking/compute_scores.py) counts the digits before the first character that is none.
    """
    digits = "".join(text.split())
    if not re.fullmatch(rf"[0-9]{{1,{MOST_DIGITS}}}", digits) or count not in (None, len(digits)):
        return None
    return tuple(1.0 + int(digit) for digit in digits)


def dreambench_plus_means(ratings: Mapping[str, float]) -> dict[str, float]:
    """The means of ratings from 0 to 4 by `ID-PROMPT`, divided by 4: of all and of each group with any rating.

    A subject belongs to each kind whose name is part of its id, so that a human skull counts as a human; prompts 0 to 3
    are photorealistic, 4 to 6 style transfers, 7 and 8 imaginative (yuangpeng/dreambench_plus, commit 66ca27e,
    dreambench_plus/benchmarking.py, `cal_score`).
    """
    groups: dict[str, list[float]] = {"all": list(ratings.values())}
    for name, rating in ratings.items():
        prompt = int(name.rpartition("-")[2])
        inside = [kind for kind in DREAMBENCH_PLUS_KINDS if kind in name]
        inside += [kind for kind, prompts in DREAMBENCH_PLUS_PROMPTS.items() if prompt in prompts or kind in name]
        for kind in inside:
            groups.setdefault(kind, []).append(rating)
    return {kind: float(np.mean(own)) / 4 for kind, own in groups.items() if own}


def imagenhub_means(ratings: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Means and standard deviations of semantic consistency and perceptual quality of one rater, and their overall.

    Overall is the mean of the images' geometric means (TIGER-AI-Lab/ImagenHub, commit 439f72c).
    """
    consistency, quality = np.asarray(ratings, dtype=np.float64).T
    return {
        "SC_avg": float(consistency.mean()),
        "PR_avg": float(quality.mean()),
        "SC_std": float(consistency.std()),
        "PR_std": float(quality.std()),
        "HumanEvalAvg": float(np.sqrt(consistency * quality).mean()),
    }
