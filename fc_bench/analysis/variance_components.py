"""Variance components of a column: what people, prompts, seeds and their interactions contribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

PERSON, PROMPT, PERSON_PROMPT, SEED, IMAGE = "person", "prompt", "person × prompt", "seed", "image"
"""Components: of people; of prompts, common to all people; of people and prompts together; of the seeds of a prompt,
common to all people; and of the single image."""
Labels = Sequence[object] | np.ndarray
OWN = (PERSON, PERSON_PROMPT, IMAGE)
"""Components by which people differ under the same prompts and seeds; the others shift all people alike."""

# What two observations differ in -> the components that their squared difference holds.
_CLASSES = {
    "person": (PERSON, PERSON_PROMPT, IMAGE),
    "seed": (SEED, IMAGE),
    "prompt": (PROMPT, PERSON_PROMPT, SEED, IMAGE),
    "person and seed": (PERSON, PERSON_PROMPT, SEED, IMAGE),
    "person and prompt": (PERSON, PROMPT, PERSON_PROMPT, SEED, IMAGE),
}


@dataclass(frozen=True)
class Components:
    """Variances by component, and the design they were estimated from.

    A key of `variances` is one component, or several that this design does not separate. `prompts` and `images` (of a
    person and prompt) are means per person; `set_variance` is the variance of the people's means as measured.
    """

    variances: Mapping[tuple[str, ...], float]
    people: int
    prompts: float
    images: float
    set_variance: float

    @property
    def prompts_vary(self) -> bool:
        """Whether the effect of another number of prompts is known: person and interaction are separate."""
        return not self._merged(PERSON)

    @property
    def images_vary(self) -> bool:
        """Whether the effect of another number of images a prompt is known: image and interaction are separate."""
        return not self._merged(IMAGE)

    def own_variance(self, prompts: float, images: float) -> float:
        """Variance of a person's mean over so many prompts and images of each, given the prompts and seeds."""
        return sum(
            variance * _share(names, prompts, images)
            for names, variance in self.variances.items()
            if not set(names).isdisjoint(OWN)
        )

    def common_variance(self, prompts: float, images: float) -> float:
        """Variance of the mean over all people that other prompts and seeds would add, whatever the people are."""
        return sum(
            variance * _share(names, prompts, images)
            for names, variance in self.variances.items()
            if set(names).isdisjoint(OWN)
        )

    def deviation(self, prompts: float, images: float) -> float:
        """Standard deviation between people's means over so many prompts and images; of this design, as measured."""
        here = self.own_variance(self.prompts, self.images)
        share = self.own_variance(prompts, images) / here if here else 1.0
        return sqrt(share * self.set_variance)

    def _merged(self, name: str) -> bool:
        return any(name in names and len(set(names).intersection(OWN)) > 1 for names in self.variances)


def components(values: Sequence[float] | np.ndarray, people: Labels, prompts: Labels, seeds: Labels) -> Components:
    """Method of moments for y = mean + person + prompt + person × prompt + seed (in its prompt, over people) + image.

    The arguments have one entry per image; missing values are left out. Half the mean squared difference of two images
    is the sum of the components that they do not share: five classes of pairs give five equations (Koch 1967, "A
    general approach to the estimation of variance components", Technometrics 9), for unbalanced data as well; for
    balanced data the solution is that of the analysis of variance. Components that no class separates (one image a
    prompt: image and person × prompt) are estimated together. Negative solutions are avoided by non-negative least
    squares. Images of a person with equal prompt and seed count once, with their mean. Raises ValueError with fewer
    than two people.
    """
    from scipy.optimize import nnls

    measured = np.asarray(values, dtype=float)
    there = ~np.isnan(measured)
    labels = [np.unique(np.asarray(own).astype(str)[there], return_inverse=True)[1] for own in (people, prompts, seeds)]
    names, cell = np.unique(np.stack(labels), axis=1, return_inverse=True)
    y = _means(measured[there], cell.reshape(-1))
    means = _means(y, names[0])
    if len(means) < 2:
        raise ValueError("variance components take two people or more")
    halves = {name: value for name, value in _half_squares(y, *names).items() if value is not None}
    merged: dict[tuple[bool, ...], tuple[str, ...]] = {}
    for name in (PERSON, PROMPT, PERSON_PROMPT, SEED, IMAGE):
        shown = tuple(name in _CLASSES[row] for row in halves)
        if any(shown):
            merged[shown] = (*merged.get(shown, ()), name)
    solved, _ = nnls(np.array(list(merged), dtype=float).T, np.array(list(halves.values())))
    cells = np.unique(names[:2], axis=1).shape[1]
    return Components(
        dict(zip(merged.values(), solved.tolist(), strict=True)),
        len(means),
        cells / len(means),
        len(y) / cells,
        float(means.var(ddof=1)),
    )


def _half_squares(y: np.ndarray, people: np.ndarray, prompts: np.ndarray, seeds: np.ndarray) -> dict[str, float | None]:
    """Half the mean squared difference of two images, by what they differ in; None where no two images do."""
    groups = ((), (people,), (prompts,), (people, prompts), (prompts, seeds))
    every, person, prompt, cell, seed = (_pairs(y - y.mean(), labels) for labels in groups)
    classes = {
        "person": seed,
        "seed": cell,
        "prompt": person - cell,
        "person and seed": prompt - cell - seed,
        "person and prompt": every - person - prompt + cell,
    }
    return {
        name: max(float(square / count), 0.0) / 2 if count > 0.5 else None for name, (square, count) in classes.items()
    }


def _pairs(y: np.ndarray, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of squared differences over all pairs with equal labels, and the number of pairs."""
    if labels:
        group = np.unique(np.stack(labels), axis=1, return_inverse=True)[1].reshape(-1)
    else:
        group = np.zeros(len(y), dtype=int)
    count, total, square = (np.bincount(group, weights) for weights in (None, y, y**2))
    return np.array([(count * square - total**2).sum(), (count * (count - 1) / 2).sum()])


def _means(y: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.bincount(group, y) / np.bincount(group)


def _share(names: Sequence[str], prompts: float, images: float) -> float:
    """Share of a component that the mean over prompts and images keeps; of several, that of the one kept most."""
    kept = {PERSON: 1.0, PROMPT: 1 / prompts, PERSON_PROMPT: 1 / prompts}
    return max(kept.get(name, 1 / prompts / images) for name in names)
