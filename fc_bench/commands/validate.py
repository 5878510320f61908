"""The check of a suite before a run: photographs, and with a backbone faces and prompt lengths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fc_bench import registry
from fc_bench.builtin import default_methods
from fc_bench.commands.run import setting_of
from fc_bench.errors import UserError
from fc_bench.generation.method_checks import refusal, requested_set
from fc_bench.generation.plan import options_of
from fc_bench.generation.prompt_checks import length_refusals, size_refusals, unknown_words
from fc_bench.inspection.inspector import Finding, cropped, inspector_of, people_of
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import fill
from fc_bench.suites.suite import Suite


def findings(suite: Suite, backbone: Backbone | None = None) -> list[Finding]:
    """Everything that would fail in a run of the suite.

    Photographs are inspected (`inspection`), with a backbone also by its face models. Then every prompt must fit its
    text encoders and its CLIP scorer, and every size its autoencoder. Refusals of built-in methods are reported but do
    not block. Raises UserError or ModelInputError for an unknown metric and missing or damaged weights.
    """
    for name in suite.file.metrics:
        registry.load("metrics", name)
    inspector = inspector_of(suite, backbone)
    if backbone is not None:
        suite = cropped(suite, inspector, Path())
    found = [
        *_empty_parts(suite),
        *inspector.inspect(people_of(suite), suite.file.photograph_crop == "published").findings,
    ]
    if backbone is not None:
        found += _unreadable_prompts(suite, backbone)
        found += _impossible_sizes(suite, backbone)
        if not any(finding.blocks for finding in found):
            found += _refused(suite, backbone)
    return found


def _impossible_sizes(suite: Suite, backbone: Backbone) -> Iterator[Finding]:
    sizes = [prompt.conditions.size for _, prompts in suite.subject_sets() for prompt in prompts]
    for message in size_refusals(sizes, setting_of(suite, backbone, "cpu")):
        yield Finding("size", message, blocks=True)


def _refused(suite: Suite, backbone: Backbone) -> Iterator[Finding]:
    """What the built-in methods refuse of the suite, with the options of suite and backbone."""
    setting = setting_of(suite, backbone, "cpu")
    refused: dict[str, list[str]] = {}
    for name in default_methods(backbone):
        try:
            method, options = options_of(name, {}, setting, suite.file.options.get(name))
        except (UserError, ModelInputError) as error:
            refused.setdefault(str(error), []).append(name)
            continue
        requested = [
            requested_set(subject_set, prompts)
            for subject_set, prompts in suite.subject_sets()
            if len(subject_set.subjects) <= method.max_subjects
        ]
        if message := refusal(method, setting, options, requested):
            refused.setdefault(message, []).append(name)
    for message, names in refused.items():
        yield Finding("refused", f"{', '.join(names)} would refuse it: {message}")


def _empty_parts(suite: Suite) -> Iterator[Finding]:
    if suite.file.multi and suite.file.multi.subjects == "all-pairs" and len(suite.subjects) == 1:
        yield Finding("empty", "multi is empty, because one subject makes no pair; add a subject or leave multi out.")


def _unreadable_prompts(suite: Suite, backbone: Backbone) -> Iterator[Finding]:
    prompts = dict.fromkeys(
        fill(prompt.template, [subject.noun for subject in subject_set.subjects])
        for subject_set, prompts in suite.subject_sets()
        for prompt in prompts
    )
    negative = (prompt.conditions.negative_prompt for _, requested in suite.subject_sets() for prompt in requested)
    scored = "prompt-consistency" in suite.file.metrics
    for message in dict.fromkeys(length_refusals(prompts, negative, backbone, scored=scored)):
        yield Finding("prompt", message, blocks=True)
    if message := unknown_words(prompts, backbone):
        yield Finding("prompt", message)
