"""Amortized cost: seconds per image over the images of a subject, break-even points, speed-up, storage.

The total for n images of a subject is load + customize + n image. Costs that all subjects of a class share (class
images) are counted in full for this one subject, or not at all. Both are reported; the true value for any number of
subjects of a class lies between.
"""

from __future__ import annotations

from dataclasses import dataclass

from fc_bench.cost.figures import Figure, difference, ratio, total
from fc_bench.cost.results import MethodCost

IMAGES = (*(digit * 10**power for power in range(4) for digit in range(1, 10)), 10_000)
"""Numbers of images per subject at which the curves are reported."""
SUBJECTS = (1, 1_000, 1_000_000)


def preparation(cost: MethodCost, shared: bool = False, load: bool = True) -> Figure | None:
    """Seconds before the first image of a subject; None if customization was not measured."""
    customize = cost.customize if cost.personalizes else Figure(0.0)
    if customize is None or (load and cost.load is None):
        return None
    parts = [customize]
    parts += [cost.load] if load and cost.load is not None else []
    parts += [cost.class_images] if shared and cost.class_images is not None else []
    return total(*parts)


def total_seconds(cost: MethodCost, images: float, shared: bool = False, load: bool = True) -> Figure | None:
    """Seconds for this number of images of one subject; None if a part was not measured."""
    before = preparation(cost, shared, load)
    if before is None or cost.image is None:
        return None
    return total(before, cost.image.times(images))


def seconds_per_image(cost: MethodCost, images: float, shared: bool = False) -> Figure | None:
    """The total over the number of images."""
    found = total_seconds(cost, images, shared)
    return None if found is None else found.times(1 / images)


@dataclass(frozen=True)
class BreakEven:
    """The number of images of a subject from which `later` is cheaper than `sooner`, whose preparation takes less.

    `images` None: never, because its images take no less time. With `low` and `high` None there is no interval; `high`
    None with a `low`: the interval has no upper end, because the difference of the images' seconds may be zero.
    """

    sooner: str
    later: str
    images: float | None
    low: float | None = None
    high: float | None = None


def break_even(one: MethodCost, other: MethodCost, shared: bool = False) -> BreakEven | None:
    """The break-even point of two methods; None if one of them was not measured.

    The interval holds every crossing of totals within those of preparation and images (`figures`).
    """
    prepared = {cost.method: preparation(cost, shared) for cost in (one, other)}
    if any(found is None for found in prepared.values()) or one.image is None or other.image is None:
        return None
    sooner, later = sorted((one, other), key=lambda cost: prepared[cost.method].value)  # type: ignore[union-attr]
    first, second, slow, fast = prepared[sooner.method], prepared[later.method], sooner.image, later.image
    assert first is not None
    assert second is not None
    assert slow is not None
    assert fast is not None
    ahead, gained = difference(second, first), difference(slow, fast)
    images = ahead.value / gained.value if gained.value > 0 else None
    most = gained.value if gained.high is None else gained.high
    least = gained.value if gained.low is None else gained.low
    if most <= 0 or (gained.low is None and ahead.low is None):
        return BreakEven(sooner.method, later.method, images)
    if least <= 0 or images is None:
        lowest = (ahead.value if ahead.low is None else ahead.low) / most
        return BreakEven(sooner.method, later.method, images, max(lowest, 0.0), None)
    interval = ratio(ahead, gained) if ahead.value > 0 else Figure(0.0)
    return BreakEven(sooner.method, later.method, images, interval.low, interval.high)


def speed_up(fast: MethodCost, slow: MethodCost, images: int = 1, shared: bool = False) -> Figure | None:
    """How many times longer `slow` takes for a new subject's first images, with customization and without loading.

    This is the published claim's measure (arXiv 2305.10431): one image of a subject that was never seen.
    """
    short, long = (total_seconds(cost, images, shared, load=False) for cost in (fast, slow))
    return None if short is None or long is None else ratio(long, short)


def stored_bytes(cost: MethodCost, subjects: int) -> int | None:
    """Bytes stored for this number of subjects, without shared weights: calculated from one measured artefact."""
    return None if cost.artefact_bytes is None else cost.artefact_bytes * subjects
