"""What makes sampling faster changes no image beyond rounding: remembered prompts, compiled UNets."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from torch._dynamo.testing import CompileCounter

from fc_bench.baselines.fastcomposer import FastComposer
from fc_bench.baselines.text_only import TextOnly
from fc_bench.commands.run import RunOptions, prepare
from fc_bench.cost.worker import _assignment
from fc_bench.errors import UserError
from fc_bench.protocols import Request, fill

from .conftest import CASES, cases_of, of_sd1

KINDS = {"text-only": (TextOnly, {}), "fastcomposer": (FastComposer, {})} | {
    name: CASES[name] for name in ("textual-inversion of several vectors", "dreambooth-lora with text encoder")
}


@pytest.fixture
def drawn(setting, tunable, tmp_path, shared_cache):
    """Two batches of a method customized to a subject, each of two prompts, as arrays; and the method."""

    def make(case: str, **changes: Any):
        kind: Any
        kind, options = KINDS[case]
        method = kind(replace(setting, **changes), kind.Options(**options))
        subject = tunable["bob"]
        folder = tmp_path / f"artefact-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        customized = method.customize([subject], 3, folder, None)
        texts = ("a photo of a {subject}", "a photo of a {subject} in the snow")
        requests = [
            Request(fill(text, [method.mention(subject, 0)]), fill(text, ["man"]), seed)
            for seed in (1, 2)
            for text in texts
        ]
        batches = [list(method.generate(customized, requests[start : start + 2])) for start in (0, 2)]
        return method, np.stack([np.asarray(image, dtype=int) for batch in batches for image in batch])

    return make


@pytest.fixture
def encoded(monkeypatch):
    """How many prompts text encoders were given."""
    from transformers import CLIPTextModel

    calls, forward = [], CLIPTextModel.forward

    def count(self, input_ids: Any = None, *arguments, **further):
        if not self.training:
            calls.append(len(input_ids))
        return forward(self, input_ids, *arguments, **further)

    monkeypatch.setattr(CLIPTextModel, "forward", count)
    return calls


@cases_of(KINDS, ["textual-inversion of several vectors"])
def test_images_of_remembered_prompts_are_the_same(case, drawn, encoded):
    _, plain = drawn(case)
    told = sum(encoded)
    encoded.clear()
    _, remembered = drawn(case, remembers_text=True)
    assert np.abs(plain - remembered).max() <= 1
    if case in ("text-only", "fastcomposer"):
        assert (told, sum(encoded)) == (8, 3)  # two prompts and the null prompt for each image, or each once


@of_sd1
@pytest.mark.parametrize(
    "case", ["fastcomposer", pytest.param("textual-inversion of several vectors", marks=pytest.mark.slow)]
)
def test_images_of_compiled_models_are_the_same_and_nothing_stays_compiled(case, drawn):
    _, plain = drawn(case)
    counter = CompileCounter()
    method, images = drawn(case, compiled=counter)
    assert np.abs(plain - images).max() <= 1
    pipeline = getattr(method, "_pipeline", None)
    unet = pipeline.unet if pipeline is not None else method.base.unet
    assert counter.frame_count >= 1
    assert unet._compiled_call_impl is None


@of_sd1
def test_a_run_remembers_prompts_and_what_measures_costs_does_not(setting):
    assert prepare(RunOptions(device="cpu")).setting.remembers_text
    task = {
        "method": "text-only",
        "options": {},
        "backbone": "pocket",
        "sampler": asdict(setting.sampler),
        "device": "cpu",
        "dtype": "float32",
        "kernels": {},
        "phase": "sample",
        "subject": {"id": "ada", "noun": "woman", "photographs": []},
        "template": "a photo of a {subject}",
        "seed": 0,
        "artefact": "artefact",
        "deadline": None,
    }
    assert not _assignment(task).setting.remembers_text


def test_compiling_on_a_cpu_is_refused_in_a_sentence(fc_bench):
    done = fc_bench("run", "--device", "cpu", "--compile")
    assert done.code == 2
    assert (
        done.err
        == "fc-bench: --compile needs an accelerator, because on a CPU it takes longer than it saves; leave it out.\n"
    )
    with pytest.raises(UserError, match="leave it out"):
        prepare(RunOptions(device="cpu", compiled=True))
