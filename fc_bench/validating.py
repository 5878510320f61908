"""Checking a suite before it is run: every photograph, and with a backbone every face and every prompt's length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.faces import FaceModels
from fc_bench.metrics.embedders import for_each_embedder
from fc_bench.model.backbone import Backbone
from fc_bench.photographs import read_photograph
from fc_bench.prompt_reading import prompt_readers, unlearnt_words
from fc_bench.protocols import fill
from fc_bench.suite import Suite


@dataclass(frozen=True)
class Finding:
    """One thing about a suite, in a sentence; `blocks`: a run would refuse it."""

    text: str
    blocks: bool


def findings(suite: Suite, backbone: Backbone | None = None) -> list[Finding]:
    """Everything a run of the suite would stumble over, all of it at once.

    Photographs have to be readable. With a backbone every reference has to show a face to each of its face models
    (other photographs without one are left out of the ceiling), and every prompt has to fit its text encoder and its
    CLIP scorer. Raises UserError or ModelInputError for an unknown metric and missing or damaged weights.
    """
    for name in suite.file.metrics:
        registry.load("metrics", name)
    found = list(_unreadable(suite))
    if backbone is not None:
        if not found:
            found += _faceless(suite, backbone)
        found += _unreadable_prompts(suite, backbone)
    return found


def _unreadable(suite: Suite) -> Iterator[Finding]:
    for subject in suite.subjects:
        for path in subject.photographs:
            try:
                read_photograph(path)
            except UserError as error:
                yield Finding(str(error), blocks=True)


def _faceless(suite: Suite, backbone: Backbone) -> Iterator[Finding]:
    wanted = [name for name in suite.file.metrics if hasattr(registry.load("metrics", name), "embedder")]
    embedders = range(len(for_each_embedder(wanted[0], registry.load("metrics", wanted[0]), backbone)) if wanted else 0)
    for number in embedders:
        models = FaceModels.shared(backbone, "cpu", number)
        for subject in suite.subjects:
            for place, path in enumerate(subject.photographs):
                if not models.find(read_photograph(path)):
                    who = f'{backbone.faces[number].name} finds no face in {path} of "{subject.id}"'
                    yield (
                        Finding(f"{who}, the reference; use a photograph in which the face is visible.", blocks=True)
                        if place == 0
                        else Finding(f"{who}: the ceiling leaves it out.", blocks=False)
                    )


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
                yield Finding(told, blocks=True)
    if told := unlearnt_words(prompts, backbone):
        yield Finding(told, blocks=False)
