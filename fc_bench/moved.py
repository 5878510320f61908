"""Import paths of version 0.1 for modules that lie elsewhere now; they work with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "fc_bench.aggregate": "fc_bench.analysis.aggregate",
    "fc_bench.ahead": "fc_bench.generation.prefetch",
    "fc_bench.anchors": "fc_bench.scoring.anchors",
    "fc_bench.authors_order": "fc_bench.suites.authors_order",
    "fc_bench.baselines.tuning.base_pipeline": "fc_bench.baselines.base_pipeline",
    "fc_bench.batches": "fc_bench.generation.batches",
    "fc_bench.clip": "fc_bench.scoring.clip",
    "fc_bench.comparing": "fc_bench.analysis.comparison",
    "fc_bench.composing": "fc_bench.commands.compose",
    "fc_bench.customizing": "fc_bench.generation.customizer",
    "fc_bench.differences": "fc_bench.analysis.differences",
    "fc_bench.doctor": "fc_bench.commands.doctor",
    "fc_bench.executing": "fc_bench.generation.executor",
    "fc_bench.faces": "fc_bench.scoring.faces",
    "fc_bench.faults": "fc_bench.generation.faults",
    "fc_bench.filling": "fc_bench.generation.batch_size",
    "fc_bench.gate": "fc_bench.analysis.gate",
    "fc_bench.generating": "fc_bench.generation.recorder",
    "fc_bench.holding": "fc_bench.run_folder.lock",
    "fc_bench.image_assignment": "fc_bench.commands.image_assignment",
    "fc_bench.image_features": "fc_bench.scoring.image_features",
    "fc_bench.json_lines": "fc_bench.run_folder.json_lines",
    "fc_bench.listing": "fc_bench.commands.list",
    "fc_bench.measurements": "fc_bench.analysis.measurements",
    "fc_bench.memory": "fc_bench.generation.peak_memory",
    "fc_bench.method_checks": "fc_bench.generation.method_checks",
    "fc_bench.model.backbone": "fc_bench.model.backbones.backbone",
    "fc_bench.model.checkpoint": "fc_bench.model.fastcomposer.checkpoint",
    "fc_bench.model.compiling": "fc_bench.model.compilation",
    "fc_bench.model.convert": "fc_bench.model.fastcomposer.convert",
    "fc_bench.model.layouts": "fc_bench.model.backbones.layouts",
    "fc_bench.model.localization": "fc_bench.model.fastcomposer.localization",
    "fc_bench.model.pipeline": "fc_bench.model.fastcomposer.pipeline",
    "fc_bench.model.pocket.vocabulary": "fc_bench.model.pocket_vocabulary",
    "fc_bench.model.postfuse": "fc_bench.model.fastcomposer.postfuse",
    "fc_bench.model.prefixes": "fc_bench.model.fastcomposer.prefixes",
    "fc_bench.model.prepared": "fc_bench.model.backbones.prepared",
    "fc_bench.model.prompts": "fc_bench.model.fastcomposer.prompts",
    "fc_bench.model.random_weights": "fc_bench.model.backbones.random_weights",
    "fc_bench.model.references": "fc_bench.model.fastcomposer.references",
    "fc_bench.model.subject_attention": "fc_bench.model.fastcomposer.subject_attention",
    "fc_bench.model.unet_difference": "fc_bench.model.fastcomposer.unet_difference",
    "fc_bench.named_files": "fc_bench.suites.named_files",
    "fc_bench.naming": "fc_bench.suites.slugs",
    "fc_bench.obstacles": "fc_bench.analysis.comparability",
    "fc_bench.own_suite": "fc_bench.commands.init_suite",
    "fc_bench.pairing": "fc_bench.analysis.pairing",
    "fc_bench.photographs": "fc_bench.suites.photographs",
    "fc_bench.placing": "fc_bench.commands.score",
    "fc_bench.plan": "fc_bench.generation.plan",
    "fc_bench.portraits": "fc_bench.commands.portraits",
    "fc_bench.prefixes": "fc_bench.generation.shared_prefixes",
    "fc_bench.preprocessing": "fc_bench.scoring.preprocessing",
    "fc_bench.prompt_order": "fc_bench.scoring.prompt_order",
    "fc_bench.prompt_reading": "fc_bench.generation.prompt_checks",
    "fc_bench.provenance": "fc_bench.run_folder.provenance",
    "fc_bench.ray_cluster": "fc_bench.generation.ray_cluster",
    "fc_bench.ray_executor": "fc_bench.generation.ray_executor",
    "fc_bench.record_shapes": "fc_bench.run_folder.record_shapes",
    "fc_bench.records": "fc_bench.run_folder.records",
    "fc_bench.remembering": "fc_bench.scoring.memo",
    "fc_bench.run": "fc_bench.commands.run",
    "fc_bench.run_settings": "fc_bench.run_folder.settings",
    "fc_bench.session": "fc_bench.commands.session",
    "fc_bench.slots": "fc_bench.suites.slots",
    "fc_bench.states": "fc_bench.analysis.states",
    "fc_bench.statistics": "fc_bench.analysis.statistics",
    "fc_bench.suite": "fc_bench.suites.suite",
    "fc_bench.sweep": "fc_bench.commands.sweep",
    "fc_bench.training": "fc_bench.commands.train",
    "fc_bench.validating": "fc_bench.commands.validate",
    "fc_bench.verdicts": "fc_bench.analysis.verdicts",
    "fc_bench.working": "fc_bench.generation.worker",
}
"""Old path -> new path."""


class MovedModules(MetaPathFinder, Loader):
    """Finds a moved module under its old path."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """A spec for an old path; None for any other name."""
        return ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the new path in the place of the old one."""
        old = module.__name__
        warnings.warn(f"{old} has moved to {MOVED[old]}.", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(MOVED[old])
