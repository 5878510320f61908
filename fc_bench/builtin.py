"""Built-in suites, and the default methods of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fc_bench.model.backbones.backbone import Backbone

_PACKAGE = Path(__file__).resolve().parent

DATASETS = next(
    (folder for folder in (_PACKAGE / "datasets", _PACKAGE.parent / "datasets") if folder.is_dir()),
    _PACKAGE / "datasets",
)
"""The suites' folder: `fc_bench/datasets` in a wheel, `datasets` beside it in a checkout."""

POCKET_SUITE = DATASETS / "pocket" / "suite.yaml"
POCKET_FULL_SUITE = DATASETS / "pocket" / "full.yaml"
POCKET_TUNING_SUITE = DATASETS / "pocket" / "tuning.yaml"
POCKET_FIVE_SUITE = DATASETS / "pocket" / "five.yaml"
POCKET_PLANTED_SINGLE_SUITE = DATASETS / "pocket" / "planted-single.yaml"
POCKET_PLANTED_MULTI_SUITE = DATASETS / "pocket" / "planted-multi.yaml"
DREAMBOOTH_SUITE = DATASETS / "dreambooth" / "suite.yaml"
FASTCOMPOSER_SINGLE_SUITE = DATASETS / "fastcomposer" / "single.yaml"
FASTCOMPOSER_MULTI_SUITE = DATASETS / "fastcomposer" / "multi.yaml"

DEFAULT_METHODS = (
    "text-only",
    "fastcomposer",
    "photomaker",
    "ip-adapter",
    "textual-inversion",
    "dreambooth",
    "dreambooth-lora",
    "custom-diffusion",
)
QUICK_METHODS = ("text-only", "fastcomposer", "dreambooth-lora")
"""For a first look: no subject, a subject without tuning, a subject with tuning."""
QUICK_SUBJECTS = 2


NEEDED_WEIGHTS = {"fastcomposer": "fastcomposer", "photomaker": "photomaker", "ip-adapter": "ip_adapter"}
"""Default method -> the field of a backbone with its weights, if these are not only those of the pipeline."""


def default_methods(backbone: Backbone, of: Sequence[str] = DEFAULT_METHODS) -> tuple[str, ...]:
    """The methods of a run that names none: those `of` these that the backbone has weights for."""
    return tuple(
        name for name in of if name not in NEEDED_WEIGHTS or getattr(backbone, NEEDED_WEIGHTS[name]) is not None
    )
