"""Checking a suite before it is run: every photograph, and with a backbone every face and every prompt's length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fc_bench import registry
from fc_bench.inspection.inspector import Finding, cropped, inspector_of, people_of
from fc_bench.model.backbone import Backbone
from fc_bench.prompt_reading import prompt_readers, unlearnt_words
from fc_bench.protocols import fill
from fc_bench.suite import Suite


def findings(suite: Suite, backbone: Backbone | None = None) -> list[Finding]:
    """Everything a run of the suite would stumble over, all of it at once.

    Photographs are inspected (`inspection`), with a backbone by its face models, too; then every prompt has
    to fit its text encoder and its CLIP scorer. Raises UserError or ModelInputError for an unknown metric and missing
    or damaged weights.
    """
    for name in suite.file.metrics:
        registry.load("metrics", name)
    inspector = inspector_of(suite, backbone)
    if backbone is not None:
        suite = cropped(suite, inspector, Path())
    found = list(inspector.inspect(people_of(suite), suite.file.photograph_crop == "published").findings)
    if backbone is not None:
        found += _unreadable_prompts(suite, backbone)
    return found


def _unreadable_prompts(suite: Suite, backbone: Backbone) -> Iterator[Finding]:
    prompts = dict.fromkeys(
        fill(prompt.template, [subject.noun for subject in subject_set.subjects])
        for subject_set, prompts in suite.subject_sets()
        for prompt in prompts
    )
    for reader in prompt_readers(backbone, scored="prompt-consistency" in suite.file.metrics):
        for prompt in prompts:
            told = reader.refusal(prompt)
            if told:
                yield Finding("prompt", told, blocks=True)
    if told := unlearnt_words(prompts, backbone):
        yield Finding("prompt", told)
