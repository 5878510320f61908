"""What is extrapolated from few steps is what all of them take, on the pocket backbone."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from fc_bench import registry
from fc_bench.builtin import POCKET_SUITE
from fc_bench.cost import phases
from fc_bench.cost.extrapolation import extrapolated, seconds_per_step
from fc_bench.cost.measurement import SHORT, TEMPLATE
from fc_bench.cost.phases import Assignment
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Sampler, Setting
from fc_bench.suites.suite import read_suite

WITHIN = 0.10
TURNS = 3
"""Measurements of each kind, in turns, so that what else the machine does meets both; their medians are compared."""

pytestmark = pytest.mark.slow


@pytest.fixture
def assignment(tmp_path: Path) -> Any:
    """A phase of a method on the pocket backbone."""
    backbone = read_backbone("pocket")
    sampler = Sampler(
        backbone.sampler.scheduler, backbone.sampler.steps, backbone.sampler.guidance_scale, backbone.resolution
    )

    def made(name: str, phase: str) -> Assignment:
        kind = registry.load("methods", name)
        options = kind.Options.model_validate(backbone.methods.get(name, {}))
        setting = Setting(backbone, sampler, "cpu", "float32")
        subject = read_suite(POCKET_SUITE).subjects[0]
        artefact = tmp_path / name
        artefact.mkdir(exist_ok=True)
        return Assignment(kind, options, setting, phase, subject, TEMPLATE, 1, artefact, time.time())

    return made


@pytest.mark.parametrize("name", ["textual-inversion", "dreambooth", "dreambooth-lora", "custom-diffusion"])
def test_of_a_customization(assignment, name):
    task = assignment(name, "customize")
    asked = task.options.steps
    found: dict[str, list[float]] = {"extrapolated": [], "whole": []}
    for turn in range(TURNS + 1):
        calls = []
        for steps in (asked // 4, asked):
            method = task.built(steps=steps)
            phases._spare_drawing(task, method)
            calls.append(phases._tuned(task, method, steps))
        part, whole = calls
        step = seconds_per_step([part["step_seconds"]])
        figure = extrapolated(part["seconds"], part["steps"], asked, step)
        assert figure is not None
        if turn:  # the first turn of a process warms up
            found["extrapolated"].append(figure.value)
            found["whole"].append(whole["seconds"])
    assert median(found["extrapolated"]) == pytest.approx(median(found["whole"]), rel=WITHIN), found


def test_of_an_image(assignment):
    task = assignment("text-only", "image")
    short = replace(task, setting=replace(task.setting, sampler=replace(task.setting.sampler, steps=SHORT)))
    asked = task.setting.sampler.steps
    draws = {}
    for kind in (short, task):
        method = kind.built()
        draws[kind is task] = phases._drawing(kind, method, phases._customized(kind, method)[1])
        draws[kind is task]()
    found: dict[str, list[float]] = {"extrapolated": [], "whole": []}
    for _ in range(4 * TURNS):
        with phases.sampler_steps("cpu") as ends:
            seconds = draws[False]()
        figure = extrapolated(seconds, SHORT, asked, seconds_per_step([ends.seconds()]))
        assert figure is not None
        found["extrapolated"].append(figure.value)
        found["whole"].append(draws[True]())
    assert median(found["extrapolated"]) == pytest.approx(median(found["whole"]), rel=WITHIN), found
