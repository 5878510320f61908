"""Variance components are recovered in simulation, and what a design cannot separate is named together."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from fc_bench.analysis.variance_components import IMAGE, PERSON, PERSON_PROMPT, PROMPT, SEED, components

TRUE = {PERSON: 1.0, PROMPT: 0.5, PERSON_PROMPT: 0.7, SEED: 0.3, IMAGE: 1.5}


def simulated(people: int, prompts: int, seeds: int, seed: int, kept: float = 1.0) -> tuple[list, ...]:
    """Values, people, prompts and seeds of a crossed design with seeds in prompts, of which a share is kept."""
    random = np.random.default_rng(seed)
    sizes = {
        PERSON: (people, 1, 1),
        PROMPT: (1, prompts, 1),
        PERSON_PROMPT: (people, prompts, 1),
        SEED: (1, prompts, seeds),
        IMAGE: (people, prompts, seeds),
    }
    y = sum(np.sqrt(TRUE[name]) * random.normal(size=size) for name, size in sizes.items())
    images = [at for at in product(range(people), range(prompts), range(seeds)) if random.random() < kept]
    return [y[at] for at in images], *([at[place] for at in images] for place in range(3))


@pytest.mark.parametrize("kept", [1.0, 0.7], ids=["balanced", "unbalanced"])
def test_components_are_recovered_on_average(kept):
    found = [components(*simulated(12, 12, 3, seed, kept)).variances for seed in range(150)]
    for name, true in TRUE.items():
        assert np.mean([one[(name,)] for one in found]) == pytest.approx(true, rel=0.12), name


def test_balanced_components_are_those_of_the_analysis_of_variance():
    values, *labels = simulated(9, 6, 2, seed=4)
    y = np.array(values).reshape(9, 6, 2)
    cell, person, prompt, seed = y.mean(2), y.mean((1, 2)), y.mean((0, 2)), y.mean(0)
    interaction = cell - person[:, None] - prompt + y.mean()
    image = y - cell[:, :, None] - seed + prompt[:, None]
    squares = {
        "person": 12 * person.var(ddof=1),
        "interaction": 2 * (interaction**2).sum() / (8 * 5),
        "seed": 9 * ((seed - prompt[:, None]) ** 2).sum() / 6,
        "image": (image**2).sum() / (6 * 8),
    }
    found = components(values, *labels)
    assert min(found.variances.values()) > 0
    assert found.variances[IMAGE,] == pytest.approx(squares["image"])
    assert found.variances[SEED,] == pytest.approx((squares["seed"] - squares["image"]) / 9)
    assert found.variances[PERSON_PROMPT,] == pytest.approx((squares["interaction"] - squares["image"]) / 2)
    assert found.variances[PERSON,] == pytest.approx((squares["person"] - squares["interaction"]) / 12)
    assert found.own_variance(6, 2) == pytest.approx(found.set_variance) == pytest.approx(person.var(ddof=1))


@pytest.mark.parametrize(
    ("prompts", "seeds", "together", "prompts_vary", "images_vary"),
    [
        (8, 1, [(PERSON,), (PROMPT, SEED), (PERSON_PROMPT, IMAGE)], True, False),
        (1, 4, [(PERSON, PERSON_PROMPT), (SEED,), (IMAGE,)], False, True),
        (1, 1, [(PERSON, PERSON_PROMPT, IMAGE)], False, False),
    ],
)
def test_what_a_design_does_not_separate_is_one_component(prompts, seeds, together, prompts_vary, images_vary):
    found = components(*simulated(10, prompts, seeds, seed=0))
    assert sorted(found.variances) == sorted(together)
    assert (found.prompts_vary, found.images_vary) == (prompts_vary, images_vary)


def test_prompts_of_their_own_for_each_person_belong_to_the_person():
    values, people, prompts, seeds = simulated(10, 5, 2, seed=0)
    found = components(values, people, [f"{who} {which}" for who, which in zip(people, prompts, strict=True)], seeds)
    assert sorted(found.variances) == sorted([(PERSON,), (PROMPT, PERSON_PROMPT), (SEED, IMAGE)])


def test_missing_values_are_left_out_and_one_person_is_refused():
    values, *labels = simulated(6, 5, 2, seed=1)
    whole = components(values[10:], *(own[10:] for own in labels))
    assert components([np.nan] * 10 + values[10:], *labels) == whole
    with pytest.raises(ValueError, match="two people"):
        components(values[:10], *(own[:10] for own in labels))
