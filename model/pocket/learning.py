"""The learning curves of FastComposer's pocket fine-tuning, which show the effect of more training.

    python -m fc_bench.model.pocket.learning --training training-output

measures the snapshots of each fine-tuning on people that no model was trained on, and writes
`model/pocket/cards/learning.json` with the figure `learning.png`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from fc_bench.model.command_line import as_command
from fc_bench.model.errors import ModelInputError
from fc_bench.model.pocket import quality
from fc_bench.model.pocket.assemble import folders_parser, open_overlay
from fc_bench.model.pocket.train import FASTCOMPOSER_STAGES, SNAPSHOTS, Workspace

LEARNING = "learning.json"
"""Name of the file beside the cards with the points of each stage's curve."""
FIGURE = "learning.png"
SUBJECTS = {"one_subject": 1, "two_subjects": 2}


def measure_learning(work: Workspace, weights: Path, stage: str, pictures: int = 64) -> list[dict[str, Any]]:
    """The learning curve of a stage: identity of its snapshots, with all sampling steps conditioned on the subjects.

    The autoencoder, the text encoder and the face models are those of `weights`. Raises ModelInputError when the
    stage has no snapshots.
    """
    kept = sorted((work.folder / stage / SNAPSHOTS).glob("*/training.json"), key=_steps)
    if not kept:
        raise ModelInputError(f"{work.folder / stage} has no snapshots: train the stage '{stage}' there")
    faces, points = quality.open_face_pack(weights / "faces"), []
    for file in kept:
        pipeline = open_overlay(weights, file.parent)
        point: dict[str, Any] = {"steps": _steps(file)}
        for name, subjects in SUBJECTS.items():
            measured = quality.measure_identity(faces, quality.generate_set(pipeline, subjects, pictures, 1.0))
            point[name] = {key: measured[key] for key in ("identity", "interval_low", "interval_high")}
        points.append(point)
        print(f"{stage}: {json.dumps(point)}", flush=True)
    return points


def _steps(file: Path) -> int:
    return int(json.loads(file.read_text(encoding="utf-8"))["step"])


def draw_learning(curves: Mapping[str, Sequence[Mapping[str, Any]]], real: Mapping[str, Any], file: Path) -> None:
    """Plot identity over training steps, in one panel per number of subjects, with the level of true pictures."""
    figure = Figure(figsize=(7.6, 3.0), layout="constrained")
    panels = figure.subplots(1, len(SUBJECTS), sharey=True)
    for axes, name in zip(panels, SUBJECTS, strict=True):
        for (stage, points), color, marker in zip(curves.items(), ("#0072B2", "#D55E00"), "os", strict=True):
            means = np.array([point[name]["identity"] for point in points])
            ends = np.array([[point[name][end] for point in points] for end in ("interval_low", "interval_high")])
            label = stage.removeprefix("fastcomposer-").replace("-", " ")
            look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4, "capsize": 2, "label": label}
            axes.errorbar([point["steps"] for point in points], means, abs(ends - means), **look)
        level = real[name]["through_vae"]["identity"]
        axes.axhline(level, color="#7F7F7F", linestyle=":", label="true pictures through the autoencoder")
        axes.set(title=name.replace("_", " ").capitalize(), xlabel="steps", ylim=(0, 1))
    panels[0].set_ylabel("identity")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(file, dpi=160)


@as_command
def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit code."""
    options = folders_parser("learning", __doc__).parse_args(arguments)
    work = Workspace(options.training, torch.device("cpu"))
    curves = {stage: measure_learning(work, options.weights, stage) for stage in FASTCOMPOSER_STAGES.values()}
    (options.cards / LEARNING).write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    real = json.loads((options.cards / "quality.json").read_text(encoding="utf-8"))["reference"]
    draw_learning(curves, real, options.cards / FIGURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
