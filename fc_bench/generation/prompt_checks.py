"""Whether a backbone can read the prompts: their length, and words that its models never saw."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.generation.plan import Plan
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.errors import loading
from fc_bench.model.families.detection import family_of
from fc_bench.protocols import Setting

_WORD = re.compile(r"[^\W\d_]+")


class PromptReader:
    """A model that reads prompts up to a maximum length: `what` it is, and its tokenizer's folder.

    Raises ModelInputError if the tokenizer cannot be read.
    """

    def __init__(self, what: str, folder: Path) -> None:
        from transformers import CLIPTokenizer

        self._what = what
        with loading(f"the tokenizer {folder}"):
            self._tokenizer = CLIPTokenizer.from_pretrained(folder)
        self._longest = int(self._tokenizer.model_max_length)

    def refusal(self, prompt: str) -> str:
        """The error message for a prompt that would be truncated; empty if it fits."""
        length = len(self._tokenizer(prompt)["input_ids"])
        if length <= self._longest:
            return ""
        return f'The prompt "{prompt}" has {length} tokens, but {self._what} takes at most {self._longest}; shorten it.'

    def in_pieces(self, prompts: Iterable[str]) -> list[str]:
        """The words without a token of the tokenizer, in the order of their first appearance."""
        words = dict.fromkeys(word.lower() for prompt in prompts for word in _WORD.findall(prompt))
        return [word for word in words if len(self._tokenizer(word, add_special_tokens=False)["input_ids"]) > 1]


def prompt_readers(backbone: Backbone, generated: bool = True, scored: bool = True) -> list[PromptReader]:
    """The readers of a backbone: its text encoders if images are generated, its CLIP scorer if they are scored."""
    readers = []
    if generated:
        pipeline = backbone.path("pipeline")
        for encoder, which in zip(family_of(pipeline).encoders, ("", "second ", "third "), strict=False):
            what = f'the {which}text encoder of the backbone "{backbone.name}"'
            readers.append(PromptReader(what, pipeline / encoder.tokenizer))
    if scored:
        readers.append(PromptReader(f'the CLIP scorer of the backbone "{backbone.name}"', backbone.path("clip")))
    return readers


def check_prompt_lengths(plan: Plan, setting: Setting, generated: bool = True, scored: bool = True) -> None:
    """Raise UserError for the first prompt that the text encoder or the CLIP scorer would truncate.

    The prompt is measured with plain class nouns, as text-only and FastComposer encode it. A method that mentions
    subjects with more tokens has to check its own prompts.
    """
    negative = (one.negative_prompt for job in plan.jobs for one in job.conditions())
    for message in length_refusals(prompts_of(plan), negative, setting.backbone, generated, scored):
        raise UserError(message)


def length_refusals(
    prompts: Iterable[str], negative: Iterable[str], backbone: Backbone, generated: bool = True, scored: bool = True
) -> Iterator[str]:
    """The error message for each prompt that a text encoder or the CLIP scorer would truncate.

    Only the text encoders read the negative prompts, of which some may be empty.
    """
    prompts = dict.fromkeys(prompts)
    for reader in prompt_readers(backbone, generated, scored):
        yield from filter(None, map(reader.refusal, prompts))
    negative = dict.fromkeys(filter(None, negative))
    for reader in prompt_readers(backbone, generated, scored=False) if negative else ():
        yield from (f"Negative prompt: {message}" for message in map(reader.refusal, negative) if message)


def check_sizes(plan: Plan, setting: Setting) -> None:
    """Raise UserError for the first resolution or size of a prompt that the backbone's pipeline cannot take."""
    sizes = (one.size for job in plan.jobs for one in job.conditions())
    for message in size_refusals(sizes, setting):
        raise UserError(message)


def size_refusals(sizes: Iterable[tuple[int, int] | None], setting: Setting) -> Iterator[str]:
    """The error message for the setting's resolution and each size that the backbone's pipeline cannot take."""
    pipeline = setting.backbone.path("pipeline")
    step = family_of(pipeline).size_step(pipeline)
    side = setting.sampler.resolution
    for width, height in dict.fromkeys([(side, side), *(size for size in sizes if size is not None)]):
        if width % step or height % step:
            yield (
                f'Images of {width} x {height} pixels cannot be made on the backbone "{setting.backbone.name}", whose '
                f"autoencoder takes multiples of {step} pixels; change the suite's resolution or the prompt's size."
            )


def unknown_words(prompts: Iterable[str], backbone: Backbone) -> str:
    """A sentence about words that a backbone with a closed vocabulary never saw in training; empty if there are none.

    Raises ModelInputError if the backbone's tokenizer cannot be read.
    """
    if not backbone.closed_vocabulary:
        return ""
    prompts = list(prompts)
    in_pieces = [reader.in_pieces(prompts) for reader in prompt_readers(backbone, scored=False)]
    words = [f'"{word}"' for word in dict.fromkeys(chain.from_iterable(in_pieces))]
    if not words:
        return ""
    named = ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")
    return (
        f'The models of the backbone "{backbone.name}" never saw {named} in training: neither images nor prompt '
        "consistency mean much there; keep to the words of its own suites or choose another backbone."
    )


def prompts_of(plan: Plan) -> Iterator[str]:
    """Every prompt of a plan once, with class nouns filled in."""
    yield from dict.fromkeys(prompt for job in plan.jobs for prompt in job.prompts())
