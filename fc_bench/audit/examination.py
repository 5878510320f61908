"""The examination of metrics on drawn pictures, of which everything is known; only scores are kept.

Groups of people are examined in processes of their own. Metrics get the pictures as they get a run's images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from fc_bench.audit.design import Case, Design, Request
from fc_bench.errors import UserError
from fc_bench.metrics.embedders import metric_classes
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.pocket.factors import SubjectMatter, draw
from fc_bench.model.pocket.people import Person, make_person
from fc_bench.model.pocket.render import Picture, compose_caption, render_photograph
from fc_bench.progress import Progress
from fc_bench.protocols import (
    Metric,
    Sampler,
    Score,
    ScoredSample,
    Setting,
    Sibling,
    Subject,
    derived_from,
    needs_attention,
    needs_siblings,
)
from fc_bench.scoring.faces import NoFaceError

PHOTOGRAPHS = 5
"""Photographs of each subject, as in the pocket suites."""
TARGET_SEED = 500
"""What the seed of the target differs by: another picture of the requested people in the same scene."""
ATTENTION_SIDE = 32
DIGITS = 5
FACTS = ("factor", "level", "subjects", "others", "people", "seed")
"""Columns of the scores beside those of the metrics."""


def setting_of(backbone: str) -> Setting:
    """The setting of an examination: the backbone's models on the CPU."""
    found = read_backbone(backbone)
    defaults = found.sampler
    sampler = Sampler(defaults.scheduler, defaults.steps, defaults.guidance_scale, found.resolution)
    return Setting(found, sampler, "cpu", "float32")


class Examiner:
    """Applies metrics to the pictures of a design, one group of people at a time."""

    def __init__(self, metrics: Mapping[str, type[Metric]], setting: Setting) -> None:
        order = sorted(metrics, key=lambda name: derived_from(metrics[name]) is not None)
        self._metrics = {name: metrics[name](setting) for name in order}

    def examine(self, design: Design, group: Sequence[int]) -> list[dict[str, Any]]:
        """A row for each picture of a group: what it shows and its value in each column.

        Raises UserError if a metric fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self._examine(list(design.cases(group)), _Files(Path(folder)))

    def _examine(self, cases: Sequence[Case], files: _Files) -> list[dict[str, Any]]:
        samples = [_sample(case, files) for case in cases]
        subjects = list({subject.id: subject for sample in samples for subject in sample.subjects}.values())
        scores: dict[str, Sequence[Score | None]] = {}
        for name, metric in self._metrics.items():
            source = scores.get(derived_from(metric) or "")
            if source is None:
                with _reported(name, "the photographs"):
                    known = _prepare(metric, subjects)
                asked = [_concerns(metric, one) and known.issuperset(who.id for who in one.subjects) for one in samples]
                _look_ahead(metric, [sample for sample, one in zip(samples, asked, strict=True) if one])
            else:
                known_scores = zip(samples, source, strict=True)
                asked = [_concerns(metric, sample) and score is not None for sample, score in known_scores]
            own: list[Score | None] = []
            for number, (case, sample) in enumerate(zip(cases, samples, strict=True)):
                with _reported(name, f"{case.level.factor}, {case.level.name}"):
                    before = None if source is None else source[number]
                    own.append(_score(metric, sample, before) if asked[number] else None)
            scores[name] = own
        rows = []
        for number, case in enumerate(cases):
            people = "+".join(map(str, case.request.key))
            facts = (*case.level.key, len(case.request.people), case.others, people, case.request.seed)
            found = [own[number] for own in scores.values()]
            values = {name: value for score in found if score is not None for name, value in score.values.items()}
            rows.append({**dict(zip(FACTS, facts, strict=True)), **values})
        return rows


def examine(
    design: Design, metrics: Mapping[str, type[Metric]], setting: Setting, show: Progress | None = None
) -> pd.DataFrame:
    """The scores of all pictures, examined in this process."""
    examiner = Examiner(metrics, setting)
    found = []
    for group in design.groups():
        found.append(examiner.examine(design, group))
        if show is not None:
            show.advance(len(found[-1]))
    return _frame(found)


def examine_in_processes(
    design: Design, names: Sequence[str], backbone: str, processes: int, show: Progress
) -> pd.DataFrame:
    """The scores of all pictures under metrics of these names, examined in several processes."""
    groups = design.groups()
    found: list[list[dict[str, Any]]] = [[] for _ in groups]
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(design, names, backbone))
    with pool:
        waiting = {pool.submit(_examine_group, group): number for number, group in enumerate(groups)}
        try:
            for done in as_completed(waiting):
                found[waiting[done]] = done.result()
                show.advance(len(found[waiting[done]]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _frame(found)


_OWN: dict[str, Any] = {}
"""What a process of an examination holds."""


def _begin(design: Design, names: Sequence[str], backbone: str) -> None:
    import torch

    from fc_bench.progress import silence_loading_bars
    from fc_bench.quiet_libraries import quiet_libraries

    quiet_libraries()
    silence_loading_bars()
    torch.set_num_threads(1)
    setting = setting_of(backbone)
    _OWN.update(design=design, examiner=Examiner(metric_classes(names, setting.backbone), setting))


def _examine_group(group: Sequence[int]) -> list[dict[str, Any]]:
    return _OWN["examiner"].examine(_OWN["design"], group)


def _frame(found: Sequence[Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    rows = pd.DataFrame([row for own in found for row in own])
    columns = [name for name in rows if name not in FACTS]
    rows[columns] = rows[columns].astype(float).round(DIGITS)
    return rows


class _Files:
    """Pictures that metrics read from files, each written once: photographs, targets, siblings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subjects: dict[int, Subject] = {}
        self._drawn: dict[tuple[Any, ...], Path] = {}

    def subject(self, person: Person) -> Subject:
        """A person with photographs."""
        if person.seed not in self._subjects:
            photographs = []
            for number in range(PHOTOGRAPHS):
                photographs.append(self._folder / f"{person.seed}-{number}.png")
                Image.fromarray(render_photograph(person, number).image).save(photographs[-1], compress_level=1)
            self._subjects[person.seed] = Subject(str(person.seed), person.noun, tuple(photographs))
        return self._subjects[person.seed]

    def drawn(self, matter: SubjectMatter) -> Path:
        """The picture of a subject matter that shows who was requested as usual."""
        key = (matter.key, matter.seed, matter.scene)
        if key not in self._drawn:
            self._drawn[key] = self._folder / f"drawn-{len(self._drawn)}.png"
            Image.fromarray(draw(matter).image).save(self._drawn[key], compress_level=1)
        return self._drawn[key]


def _sample(case: Case, files: _Files) -> ScoredSample:
    """What a metric gets of a case."""
    request, shown = case.request, case.shown
    picture = draw(shown.matter) if shown.photograph is None else render_photograph(request.people[0], shown.photograph)
    subjects = tuple(files.subject(make_person(person.seed)) for person in request.people)
    siblings = [files.drawn(matter) for matter in shown.siblings]
    return ScoredSample(
        image=Image.fromarray(picture.image),
        prompt=compose_caption(request.people, shown.asked)[0],
        subjects=subjects[::-1] if shown.reversed_request else subjects,
        siblings=tuple(Sibling(f"sibling-{number}", file) for number, file in enumerate(siblings)),
        attention=None if shown.attention is None else _attention(picture, shown.attention),
        target=files.drawn(_target(request)),
    )


def _target(request: Request) -> SubjectMatter:
    matter = request.matter()
    return SubjectMatter(matter.people, matter.key, matter.seed + TARGET_SEED, matter.scene)


def _attention(picture: Picture, where: str) -> np.ndarray:
    """Maps float32 [people, side, side] of attention that lies where it is said to."""
    side = (ATTENTION_SIDE, ATTENTION_SIDE)
    own = np.stack([cv2.resize(mask.astype(np.float32), side, interpolation=cv2.INTER_AREA) for mask in picture.masks])
    chosen = {
        "own": own,
        "other": own[::-1],
        "both": np.broadcast_to(own.sum(0), own.shape),
        "everywhere": np.ones_like(own),
    }[where]
    return chosen / chosen.sum((1, 2), keepdims=True)


def _prepare(metric: Metric, subjects: Sequence[Subject]) -> set[str]:
    """Prepare a metric for the subjects; the ids of those whose reference photograph shows it a face, if it looks."""
    known = {subject.id: subject for subject in subjects}
    while known:
        try:
            metric.prepare(list(known.values()))
            break
        except NoFaceError as error:
            del known[error.subject]
    return set(known)


def _concerns(metric: Metric, sample: ScoredSample) -> bool:
    """Whether a metric is examined on a sample: cases about attention or siblings are for metrics that need these."""
    return bool(sample.attention is not None) == needs_attention(metric) and bool(sample.siblings) == needs_siblings(
        metric
    )


def _look_ahead(metric: Any, samples: Sequence[ScoredSample]) -> None:
    compute = getattr(metric, "look_ahead", None)
    if compute is not None and len(samples) > 1:
        with suppress(Exception):  # `score` raises it again, for the picture that it belongs to
            compute(samples)


def _score(metric: Any, sample: ScoredSample, source: Score | None) -> Score:
    """The score of a sample, from the record of another metric's score of it if there is one."""
    return metric.score(sample) if source is None else metric.derive(source.details)


@contextmanager
def _reported(metric: str, where: str) -> Iterator[None]:
    """Turn what a metric raises into a sentence."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f'The metric "{metric}" fails on a drawn picture ({where}): {type(error).__name__}: {error}; '
            "mend it, or name the metrics to examine with --metrics."
        ) from error
