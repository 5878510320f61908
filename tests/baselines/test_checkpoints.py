"""A customization goes on from what it left on the way, and from nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fc_bench.errors import UserError
from fc_bench.model.backbones.fingerprint import fingerprint
from fc_bench.protocols import Checkpoints

from .conftest import CASES, of_sd1


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """Every second step."""
    (tmp_path / "checkpoints").mkdir()
    return Checkpoints(tmp_path / "checkpoints", 2)


def watch(method: Any, stop: tuple[int, int] | None = None) -> list[tuple[int, int]]:
    """The steps that the method takes, as (training, step); Ctrl-C when the one to stop at begins."""
    taken: list[tuple[int, int]] = []
    trainings = 0
    tune = method.tune

    def watched(training, *rest, **more):
        nonlocal trainings
        number, batch = trainings, training.batch
        trainings += 1

        def noted(step, draws):
            if (number, step) == stop:
                raise KeyboardInterrupt
            taken.append((number, step))
            return batch(step, draws)

        training.batch = noted
        return tune(training, *rest, **more)

    method.tune = watched
    return taken


def interrupted(method: Any, stop: tuple[int, int], *customizing: Any) -> None:
    """Customize, with Ctrl-C when a step begins."""
    customize, subjects, folder, checkpoints = customizing
    watch(method, stop)
    with pytest.raises(KeyboardInterrupt):
        customize(method, subjects, folder, checkpoints=checkpoints)


def test_continued_from_a_checkpoint_the_artefact_is_the_same(case, build, customize, subjects, checkpoints, tmp_path):
    customize(build(case), subjects[:1], tmp_path / "whole")
    interrupted(build(case), (0, 3), customize, subjects[:1], tmp_path / "first", checkpoints)
    method = build(case)
    taken = watch(method)
    continued = customize(method, subjects[:1], tmp_path / "second", checkpoints=checkpoints)
    assert taken == [(0, 2), (0, 3)]
    assert continued.details["continued_from"] == [2]
    assert continued.earlier_seconds > 0
    assert fingerprint(tmp_path / "second") == fingerprint(tmp_path / "whole")


@of_sd1
@pytest.mark.parametrize("case", CASES)
def test_continued_after_the_last_step_no_step_is_taken(case, build, customize, subjects, checkpoints, tmp_path):
    whole = customize(build(case), subjects[:1], tmp_path / "whole", checkpoints=checkpoints)
    method = build(case)
    taken = watch(method)
    continued = customize(method, subjects[:1], tmp_path / "again", checkpoints=checkpoints)
    assert taken == []
    assert continued.details["continued_from"] == [continued.steps] == [4]
    assert continued.details["updates"] == [4]
    assert continued.details["last_loss"] == pytest.approx(whole.details["last_loss"])
    assert fingerprint(tmp_path / "again") == fingerprint(tmp_path / "whole")


@of_sd1
def test_a_pair_of_adapters_goes_on_in_the_second_one(build, customize, subjects, checkpoints, tmp_path):
    case = "dreambooth-lora with text encoder"
    customize(build(case), subjects, tmp_path / "whole")
    interrupted(build(case), (1, 3), customize, subjects, tmp_path / "first", checkpoints)
    method = build(case)
    taken = watch(method)
    continued = customize(method, subjects, tmp_path / "second", checkpoints=checkpoints)
    assert taken == [(1, 2), (1, 3)]
    assert continued.details["continued_from"] == [4, 2]
    assert fingerprint(tmp_path / "second") == fingerprint(tmp_path / "whole")


@of_sd1
@pytest.mark.parametrize(
    ("person", "options", "seed"), [("bob", {}, 1), ("ann", {"learning_rate": 2e-2}, 1), ("ann", {}, 2)]
)
def test_the_checkpoint_of_another_customization_is_refused(
    person, options, seed, build, customize, tunable, checkpoints, tmp_path
):
    interrupted(build("dreambooth"), (0, 3), customize, [tunable["ann"]], tmp_path / "first", checkpoints)
    other = build("dreambooth", **options)
    taken = watch(other)
    with pytest.raises(UserError, match=r"The checkpoint .*checkpoint.pt belongs to another .* delete it to tune from"):
        customize(other, [tunable[person]], tmp_path / "second", seed, checkpoints)
    assert taken == []


@of_sd1
def test_a_damaged_checkpoint_is_reported_with_its_file(build, customize, subjects, checkpoints, tmp_path):
    interrupted(build("dreambooth"), (0, 3), customize, subjects[:1], tmp_path / "first", checkpoints)
    (file,) = checkpoints.folder.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"checkpoint.pt cannot be read .* delete it to tune from the beginning"):
        customize(build("dreambooth"), subjects[:1], tmp_path / "second", checkpoints=checkpoints)
