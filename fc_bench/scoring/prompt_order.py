"""Whether images from another source are assigned to their own prompts, or match them better in another order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from fc_bench.errors import UserError
from fc_bench.generation.plan import Plan, Remark, Sample
from fc_bench.run_folder.json_lines import stream_lines
from fc_bench.run_folder.records import SAMPLES, RunFolder
from fc_bench.scoring.clip import ClipScorer
from fc_bench.suites.photographs import read_photograph

MOST_IMAGES = 400
"""Images checked per method and number of subjects, from whole subject sets spread over all of them."""
FEWEST = 6
"""Least number of images out of order, and `REPEATED` per prompt; fewer may be chance."""
REPEATED = 2
CONTRAST = 0.5
"""How much closer the other prompt must be, in standard deviations of an image's similarities to all prompts."""
CERTAINTY = 3.0
"""Standard errors by which the mean of this difference must exceed 0."""
OWN_SHARE = 0.2
"""Largest share of images closest to their own prompt, relative to those closest to the other prompt."""


@dataclass(frozen=True)
class Misplaced:
    """How many of the checked images match another prompt than their own, and which prompts are exchanged."""

    images: int
    of: int
    fits: dict[int, int]


def misplaced(similarities: np.ndarray, own: np.ndarray) -> Misplaced | None:
    """Whether the images match a permutation of the prompts much better than their current order.

    `similarities` [images, prompts] are cosines of images and texts, `own` [images] the assigned prompt of each image;
    every prompt has an image. The permutation is the best assignment by the prompts' mean similarities, after removing
    each prompt's overall mean. It counts only if it matches far better than chance: images have to be closest to the
    permuted prompt, hardly one to its own, by a contrast that similar prompts do not have.
    """
    from scipy.optimize import linear_sum_assignment

    count = similarities.shape[1]
    means = np.stack([similarities[own == prompt].mean(axis=0) for prompt in range(count)])
    alike = similarities - means.mean(axis=0)  # without what a prompt has in common with all images
    fitting = linear_sum_assignment(-means)[1]
    nearest, spread = alike.argmax(axis=1), alike.std(axis=1) + 1e-12
    rows = np.arange(len(own))
    contrast = (alike[rows, fitting[own]] - alike[rows, own]) / spread
    moved: list[int] = []
    for cycle in _cycles(fitting):
        among = np.isin(own, cycle)
        if among.sum() >= REPEATED * len(cycle) and contrast[among].mean() >= CONTRAST:
            moved += cycle
    among = np.isin(own, moved)
    if among.sum() < FEWEST:
        return None
    found = int((nearest == fitting[own])[among].sum())
    error = contrast[among].std(ddof=1) / np.sqrt(among.sum())
    clear = (
        found >= max(FEWEST, _clear_share(count) * among.sum())
        and (nearest == own)[among].sum() <= OWN_SHARE * found
        and contrast[among].mean() >= CERTAINTY * error
        and (nearest == fitting[own]).mean() >= _clear_share(count)
    )
    return Misplaced(found, len(own), {prompt: int(fitting[prompt]) for prompt in sorted(moved)}) if clear else None


def _clear_share(prompts: int) -> float:
    """Share of images closest to the correct one of `prompts` that is far above chance, by simulation."""
    return min(0.9, 0.4 + 1.5 / prompts)


def _cycles(permutation: np.ndarray) -> Iterator[list[int]]:
    """The prompts that are exchanged with each other."""
    left = {place for place, to in enumerate(permutation) if to != place}
    while left:
        cycle = [left.pop()]
        while (following := int(permutation[cycle[-1]])) != cycle[0]:
            cycle.append(following)
            left.discard(following)
        yield cycle


@dataclass(frozen=True)
class _LookedAt:
    """Finished images of subject sets with the same prompts: `files` by their original names, and `templates`.

    `similarities` [images, prompts] are cosines with the prompts of the image's set, class nouns filled in.
    """

    files: list[str]
    templates: list[str]
    similarities: np.ndarray
    own: np.ndarray


def order_remarks(plan: Plan, folder: RunFolder, scorer: ClipScorer, cause: str) -> list[Remark]:
    """A remark for each method and number of subjects whose images match their sets' prompts better in another order.

    `cause` names the likely cause and the remedy.
    """
    groups: dict[tuple[str, int, tuple[str, ...]], list[list[Sample]]] = {}
    for job in plan.jobs:
        samples = list(job.samples)
        templates = tuple(dict.fromkeys(sample.template for sample in samples))
        groups.setdefault((job.row.label, len(job.subject_set.subjects), templates), []).append(samples)
    remarks = []
    for (label, subjects, _), sets in groups.items():
        seen = _looked_at(_spread(sets), folder, scorer)
        found = misplaced(seen.similarities, seen.own) if len(seen.templates) > 1 else None
        if found is None:
            continue
        pairs = [f'"{seen.templates[own]}" shows "{seen.templates[other]}"' for own, other in found.fits.items()]
        first = seen.files[int(np.argmax(np.isin(seen.own, list(found.fits))))]
        more = f" and {len(pairs) - 3} prompts more" if len(pairs) > 3 else ""
        message = (
            f"{found.images} of {found.of} images (such as {first}) match another prompt of their set much better "
            f"than their own: {', '.join(pairs[:3])}{more}; {cause}"
        )
        remarks.append(Remark(label, subjects, message))
    return remarks


def _spread(sets: Sequence[list[Sample]]) -> Iterator[Sample]:
    """The samples of subject sets spread over all of them, as `MOST_IMAGES` allows."""
    size = max(map(len, sets))
    step = max(1, -(-len(sets) * size // MOST_IMAGES))
    for samples in sets[::step]:
        yield from samples


def _looked_at(samples: Iterator[Sample], folder: RunFolder, scorer: ClipScorer) -> _LookedAt:
    """The finished samples with readable images, and their similarities with the prompts."""
    wanted = {sample.id: sample for sample in samples}
    texts: dict[tuple[str, ...], dict[str, str]] = {}
    for sample in wanted.values():
        texts.setdefault(sample.subjects, {})[sample.template] = sample.prompt
    finished = {
        record["id"]: record
        for record in stream_lines(folder.path / SAMPLES)
        if record["id"] in wanted and record["status"] == "ok"
    }
    images = {}
    for name, record in finished.items():
        with suppress(UserError):
            images[name] = scorer.image(read_photograph(folder.image(record), "image"))
    shown = list(dict.fromkeys(wanted[name].template for name in images))
    cosines = [
        [float(image @ scorer.text(texts[wanted[name].subjects][template])) for template in shown]
        for name, image in images.items()
    ]
    return _LookedAt(
        [finished[name]["made_elsewhere"] for name in images],
        shown,
        np.array(cosines),
        np.array([shown.index(wanted[name].template) for name in images]),
    )
