"""A run as a pilot: its plans hold in simulated runs under the test of the tables; what it cannot say is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from fc_bench.analysis.differences import paired_rows
from fc_bench.analysis.power import power
from fc_bench.analysis.sample_size import doublings, pilots, plans, study
from fc_bench.errors import UserError
from fc_bench.protocols import Column

IDENTITY = Column("identity", "identity", True, "similarity")


def run(
    people: int,
    prompts: int,
    images: int,
    seed: int,
    difference: float = 0.0,
    spread: tuple[float, float, float] = (0.1, 0.15, 0.2),
    methods: Sequence[str] = ("old", "new"),
) -> pd.DataFrame:
    """Samples of a run whose paired differences vary by person, person and prompt, and image; prompts shift both."""
    random = np.random.default_rng(seed)
    person, interaction, image = (
        scale * random.normal(size=size)
        for scale, size in zip(spread, ((people, 1, 1), (people, prompts, 1), (people, prompts, images)), strict=True)
    )
    common = random.normal(size=(people, prompts, images)) + random.normal(size=(1, prompts, 1))
    parts = []
    for number, method in enumerate(methods):
        values = common + (difference + person + interaction + image if number else 0)
        at = np.indices(values.shape).reshape(3, -1)
        parts.append(
            pd.DataFrame(
                {
                    "method": method,
                    "set": [f"p{place:03d}" for place in at[0]],
                    "subjects": 1,
                    "template": [f"prompt {place}" for place in at[1]],
                    "index": at[2],
                    "image": [f"{method}-{place}" for place in range(at.shape[1])],
                    "identity": values.ravel(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def found(samples: pd.DataFrame) -> bool:
    """Whether the test of the tables is significant."""
    (row,) = paired_rows(samples, [IDENTITY], "old")
    return row["p"] <= 0.05


def expected(people: int, prompts: int, images: int, difference: float) -> float:
    return power(difference, (0.1**2 + 0.15**2 / prompts + 0.2**2 / prompts / images) ** 0.5, people)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("people", "prompts", "images", "difference"), [(8, 5, 1, 0.18), (10, 2, 3, 0.12), (30, 4, 1, 0.1)]
)
def test_planned_power_is_that_of_simulated_runs_under_the_test_of_the_tables(people, prompts, images, difference):
    share = np.mean([found(run(people, prompts, images, seed, difference)) for seed in range(1200)])
    assert share == pytest.approx(expected(people, prompts, images, difference), abs=0.03)


def test_planned_power_is_about_that_of_a_few_simulated_runs():
    share = np.mean([found(run(9, 2, 2, seed, 0.15)) for seed in range(150)])
    assert share == pytest.approx(expected(9, 2, 2, 0.15), abs=0.1)


def test_pilot_of_many_people_plans_what_the_true_components_need():
    (pair,) = pilots(run(400, 6, 3, seed=0), IDENTITY, "new", "old").pairs
    assert pair.name == "new − old"
    for plan in plans(pair, 0.05, 0.8):
        assert expected(plan.people, plan.prompts, plan.images, 0.05) == pytest.approx(0.8, abs=0.08)
        assert plan.total == plan.people * plan.prompts * plan.images


def test_each_doubling_halves_the_variances_that_it_divides():
    (pair,) = pilots(run(40, 5, 2, seed=1), IDENTITY).pairs
    now, people, prompts, images = doublings(pair, 0.8)
    assert (people.people, prompts.prompts, images.images) == (80, 10, 4)
    assert people.error == pytest.approx(now.error / 2**0.5)
    assert people.error < prompts.error < images.error < now.error
    assert now.error_anew >= now.error
    assert now.error == pytest.approx((pair.components.set_variance / 40) ** 0.5)


def test_chosen_pair_is_the_one_whose_people_differ_most():
    samples = run(20, 4, 1, seed=2, methods=("old", "new"))
    third = samples[samples["method"] == "old"].assign(method="third", image="third")
    made = study(pd.concat([samples, third.assign(image=[f"t{n}" for n in range(len(third))])]), IDENTITY, 0.05, 0.8)
    assert {pilot.name for pilot in made.pilots.singles} == {"old", "new", "third"}
    assert len(made.pilots.pairs) == 3
    assert made.chosen.components.set_variance == max(pair.components.set_variance for pair in made.pilots.pairs)
    assert all(plan.images == 1 for plan in made.plans)


def test_order_of_a_pair_is_method_minus_against():
    samples = run(10, 2, 1, seed=0)
    assert [pair.name for pair in pilots(samples, IDENTITY, against="new").pairs] == ["old − new"]
    assert [pair.name for pair in pilots(samples, IDENTITY, method="old").pairs] == ["old − new"]
    assert [pair.name for pair in pilots(samples, IDENTITY).pairs] == ["new − old"]


def test_pairs_that_share_images_are_left_out_and_named():
    samples = run(10, 3, 1, seed=0, methods=("old", "new", "newest"))
    blind = samples[samples["method"] == "old"].assign(method="blind", image="the same for all")
    column = Column("identity", "identity", True, "of the image", of_image_alone=True)
    found = pilots(pd.concat([samples, blind]), column)
    assert found.left_out == ("blind − old", "blind − new", "blind − newest")
    assert [pilot.name for pilot in found.singles] == ["old", "new", "newest"]
    assert len(found.pairs) == 3
    with pytest.raises(UserError, match=r"share images, .* compare methods that see the subjects"):
        pilots(pd.concat([samples, blind]), column, against="blind")


@pytest.mark.parametrize(
    ("samples", "chosen", "sentence"),
    [
        (run(10, 2, 1, 0), {"method": "newer"}, 'no method "newer", did you mean "new"'),
        (run(10, 2, 1, 0), {"method": "new", "against": "new"}, "does not differ from itself"),
        (run(10, 2, 1, 0), {"subjects": 2}, "no images of 2 subjects; it has those of 1"),
        (run(2, 5, 2, 0), {}, '"identity" has values of 2 subjects, .* run 3 or more'),
        (run(1, 5, 2, 0), {}, "values of 1 subject, "),
        (run(10, 2, 1, 0, methods=("old",)), {}, '"old" alone; a difference takes a second method'),
        (run(10, 2, 1, 0).assign(identity=np.nan), {}, "no value of .identity. with 1 subjects an image; score it"),
        (run(4, 2, 1, 0).replace({"set": {"p001": "p000+p002"}}), {}, "share subjects, .* no independent differences"),
    ],
)
def test_run_that_cannot_serve_is_refused_in_one_sentence(samples, chosen, sentence):
    with pytest.raises(UserError, match=sentence):
        pilots(samples, IDENTITY, **chosen)
