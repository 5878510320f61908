"""Methods, a metric and a suite that live outside fc-bench and are found through their entry points alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from fc_bench.baselines.fastcomposer import FastComposer
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.protocols import (
    AskedSet,
    Checkpoints,
    Column,
    Customization,
    Request,
    Score,
    ScoredSample,
    Setting,
    Subject,
)

ARTEFACT = b"x" * 2**20
COUPLE_SUITE = Path(__file__).with_name("couple.yaml")


class PasteOptions(BaseModel):
    """`seconds` per image; prompts or subjects that contain one of the words given fail, and `refuses` is refused.

    Every process that draws `die_subject` ends itself; with a file `died`, the one that draws the third image leaves
    the file and ends itself, and none after that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = 0.0
    fail_prompt: str = ""
    fail_subject: str = ""
    fail_load: bool = False
    die_subject: str = ""
    died: str = ""
    refuses: str = ""


class Paste:
    """Pastes the subjects' photographs side by side, with seeded noise at the bottom; keeps 1 MiB per subject set."""

    description: ClassVar[str] = "pastes photographs"
    max_subjects: ClassVar[int] = 2
    uses_photographs: ClassVar[bool] = True
    Options: ClassVar[type[BaseModel]] = PasteOptions

    def __init__(self, setting: Setting, options: PasteOptions) -> None:
        if options.fail_load:
            raise RuntimeError("no such accelerator")
        self._options = options
        self._drawn = 0

    @classmethod
    def weights(cls, backbone: Backbone, options: PasteOptions) -> Mapping[str, Path]:
        return {}

    @classmethod
    def check(cls, setting: Setting, options: PasteOptions, asked: Sequence[AskedSet]) -> None:
        if options.refuses == "nonsense":
            raise ZeroDivisionError("by subjects")
        for one in asked:
            if options.refuses in [subject.id for subject in one.subjects]:
                raise UserError(f"{options.refuses} cannot be pasted; set the option refuses to nobody.")

    def mention(self, subject: Subject, position: int) -> str:
        return f"<{position}> {subject.noun}"

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        if any(subject.id == self._options.fail_subject for subject in subjects):
            raise RuntimeError("diverged")
        (artefact_folder / "weights.bin").write_bytes(ARTEFACT)
        images = [np.asarray(Image.open(subject.photographs[0]).convert("RGB")) for subject in subjects]
        return Customization(tuple(subjects), artefact_folder, steps=3, details={"seed": seed}, state=images)

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        import torch

        for request in requests:
            if self._options.fail_prompt and self._options.fail_prompt in request.prompt:
                raise ValueError(f"cannot draw {request.prompt}")
            time.sleep(self._options.seconds)
            self._die(customization.subjects)
            images = customization.state
            picture = images[0].copy() if len(images) == 1 else np.concatenate([im[:, 32:96] for im in images], axis=1)
            noise = torch.randint(0, 200, (16, 128, 3), generator=request.generator(), dtype=torch.uint8)
            picture[112:] = noise.numpy()
            yield Image.fromarray(picture)

    def _die(self, subjects: Sequence[Subject]) -> None:
        self._drawn += 1
        died = Path(self._options.died) if self._options.died else None
        third = died is not None and self._drawn == 3 and not died.exists()
        if third or self._options.die_subject == "+".join(subject.id for subject in subjects):
            if died is not None:
                died.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class CollageOptions(PasteOptions):
    """`apart`: each subject is customized alone; `shared_seconds` are said to be for the whole class."""

    apart: bool = False
    shared_seconds: float = 0.0


class Collage(Paste):
    """Paste that keeps the pixels it needs and can be loaded from them."""

    Options: ClassVar[type[BaseModel]] = CollageOptions

    def __init__(self, setting: Setting, options: CollageOptions) -> None:
        super().__init__(setting, options)
        self._shared_seconds = options.shared_seconds
        self.tunes_apart = options.apart

    @classmethod
    def remark(cls, options: CollageOptions, subjects: int) -> str | None:
        return "Two people are pasted side by side." if subjects > 1 else None

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        fitted = super().customize(subjects, seed, artefact_folder, checkpoints)
        (artefact_folder / "weights.bin").unlink()
        for position, image in enumerate(fitted.state):
            np.save(artefact_folder / f"{position}.npy", image)
        return replace(fitted, shared_seconds=self._shared_seconds, seconds_per_step=0.25 * len(subjects))

    def restore(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Customization:
        files = [file for folder in artefacts for file in sorted(folder.glob("*.npy"))]
        return Customization(tuple(subjects), state=[np.load(file) for file in files])


class WrongPeople(FastComposer):
    """FastComposer with a planted mistake: everyone's photograph is taken from the next folder of the suite."""

    description: ClassVar[str] = "FastComposer that confuses its subjects"

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        return super().customize([_next(subject) for subject in subjects], seed, artefact_folder, checkpoints)


class WrongOrder(FastComposer):
    """FastComposer with a planted mistake: the people of a set change places, each stands for another one's noun."""

    description: ClassVar[str] = "FastComposer that confuses the order of its subjects"

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        shown = [subject.photographs for subject in subjects]
        turned = [*shown[1:], shown[0]]
        confused = [replace(who, photographs=photographs) for who, photographs in zip(subjects, turned, strict=True)]
        return super().customize(confused, seed, artefact_folder, checkpoints)


def _next(subject: Subject) -> Subject:
    own = subject.photographs[0].parent
    folders = sorted(folder for folder in own.parent.iterdir() if folder.is_dir())
    following = folders[(folders.index(own) + 1) % len(folders)]
    return replace(subject, photographs=tuple(following / file.name for file in subject.photographs))


class Brightness:
    """Mean of all pixels in [0, 1]; fails where asked."""

    description: ClassVar[str] = "mean pixel"
    columns: ClassVar[tuple[Column, ...]] = (Column("brightness", "brightness", None, "mean of all pixels"),)

    def __init__(self, setting: Setting) -> None:
        pass

    def prepare(self, subjects: Sequence[Subject]) -> None:
        pass

    def score(self, sample: ScoredSample) -> Score:
        if "beach" in sample.prompt:
            raise ValueError("too bright to look at")
        return Score({"brightness": float(np.asarray(sample.image).mean() / 255)})

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        return {}

    def provenance(self) -> Mapping[str, Any]:
        return {}
