"""A run from end to end: settle, check everything that can be checked, generate, score."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.generating import MakeMethod, generate, pending_ids
from fc_bench.model.backbone import Backbone, read_backbone
from fc_bench.model.yaml_file import nearest
from fc_bench.plan import MethodRow, make_plan, resolve_method
from fc_bench.progress import progress
from fc_bench.protocols import Method, Sampler, Setting, needs_attention
from fc_bench.session import Outcome, Session, session
from fc_bench.suite import Suite, read_suite


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks for; `options` maps a method's name to its overrides.

    `variants` maps a method's name to further overrides, a row of the run for each of them instead of one.
    """

    suite: str = "pocket"
    methods: Sequence[str] = (
        "text-only",
        "fastcomposer",
        "textual-inversion",
        "dreambooth",
        "dreambooth-lora",
        "custom-diffusion",
    )
    backbone: str = "pocket"
    out: Path | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limit_subjects: int | None = None
    images_per_prompt: int | None = None
    batch_size: int = 8
    device: str = "auto"
    retry_errors: bool = False
    keep_artefacts: bool = False
    checkpoint_every: int | None = None
    photographs: Path | None = None
    variants: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row asked for: a method's name and its overrides."""
        for name in dict.fromkeys(self.methods):
            for variant in self.variants.get(name, [{}]):
                yield name, {**self.options.get(name, {}), **variant}


def run(options: RunOptions, console: Console) -> Outcome:
    """Do what is asked, or continue it; the same options on the same folder do only what is missing.

    Raises UserError or ModelInputError before anything is generated when the suite, the photographs, a method, an
    option, the weights or the run folder are unusable; nothing of an earlier run is touched then.
    """
    suite = read_suite(registry.suite_file(options.suite), options.photographs)
    backbone = read_backbone(options.backbone)
    backbone.require(*backbone.always_needed())
    for name in (*options.options, *options.variants):
        if name not in options.methods:
            raise UserError(
                f'Options are given for "{name}", which is not among the methods of this run; add --method {name}.'
            )
    for owner, methods_of in ((f'backbone "{backbone.name}"', backbone.methods), ("suite", suite.file.options)):
        for name in methods_of:
            if name not in registry.registered("methods"):
                known = nearest(name, registry.registered("methods"))
                raise UserError(f'The {owner} has options for the unknown method "{name}", {known}')
    setting = setting_of(suite, backbone, options.device)
    methods: dict[str, tuple[type[Method], BaseModel, MethodRow]] = {}
    for name, overrides in options.rows():
        resolved = resolve_method(name, overrides, setting, suite.file.options.get(name))
        methods[resolved[2].label] = resolved
    plan = make_plan(
        suite,
        setting,
        list(methods.values()),
        options.limit_subjects,
        options.images_per_prompt,
    )
    path = options.out or default_folder(suite, backbone)
    with session(path, suite, setting, plan, console) as opened:
        _generate_pending(opened, setting, lambda row: methods[row.label][0](setting, methods[row.label][1]), options)
        outcome = opened.score(options.retry_errors)
    return outcome


def _generate_pending(opened: Session, setting: Setting, make_method: MakeMethod, options: RunOptions) -> None:
    """Generate what is not recorded yet, after saying how much that is."""
    plan, folder = opened.plan, opened.folder
    recorded = folder.statuses()
    pending = sum(len(pending_ids(job, recorded, options.retry_errors)) for job in plan.jobs)
    opened.console.print(
        f"{opened.suite.file.name} on {setting.backbone.name}: {plan.size} samples, {pending} to generate, "
        f"in {folder.path}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    with progress(opened.console, "Generating", pending) as show:
        generate(
            plan,
            folder,
            setting,
            make_method,
            show,
            recorded,
            options.batch_size,
            options.retry_errors,
            options.keep_artefacts,
            options.checkpoint_every,
            keep_attention=any(needs_attention(metric) for metric in opened.metrics.values()),
        )


def row_labels(options: RunOptions) -> list[str]:
    """The names of the rows in the results of such a run, in the order of `RunOptions.rows`."""
    backbone = read_backbone(options.backbone)
    suite = read_suite(registry.suite_file(options.suite), options.photographs)
    setting = setting_of(suite, backbone, options.device)
    return [
        resolve_method(name, overrides, setting, suite.file.options.get(name))[2].label
        for name, overrides in options.rows()
    ]


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where there is one; raises UserError for any other name and for a device that is absent."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    named = re.fullmatch(r"cuda(?::(\d{1,4}))?", device, re.ASCII)
    if named is None:
        raise UserError(f'"{device}" is no device; give auto, cpu, cuda or cuda:N.')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(named[1] or 0) >= count:
        there = f"cuda devices here: {count}" if count else "there is no cuda device"
        raise UserError(f'The device "{device}" is not available here, {there}; use --device cpu or auto.')
    return device


def resolve_sampler(suite: Suite, backbone: Backbone) -> Sampler:
    """The suite's sampler settings, completed by the backbone's."""
    chosen = suite.file.sampler
    defaults = backbone.sampler
    return Sampler(
        scheduler=chosen.scheduler or defaults.scheduler,
        steps=chosen.steps or defaults.steps,
        guidance_scale=chosen.guidance_scale if chosen.guidance_scale is not None else defaults.guidance_scale,
        resolution=chosen.resolution or backbone.resolution,
    )


def setting_of(suite: Suite, backbone: Backbone, device: str) -> Setting:
    """What all methods of a run share; raises UserError for a device that is not there."""
    resolved = resolve_device(device)
    dtype = backbone.dtype.cuda if resolved.startswith("cuda") else backbone.dtype.cpu
    return Setting(backbone, resolve_sampler(suite, backbone), resolved, dtype)


def default_folder(suite: Suite, backbone: Backbone) -> Path:
    """The run folder when none is named."""
    name = suite.file.name if suite.file.name == backbone.name else f"{suite.file.name}-{backbone.name}"
    return Path("runs") / name
