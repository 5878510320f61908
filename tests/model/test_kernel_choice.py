"""Attention and memory formats: fixed for small shapes, measured once for large ones, with equal results."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from fc_bench.model import attention, kernel_choice
from fc_bench.model.attention import use_attention
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.kernel_choice import Attention, Convolution, for_sampling, for_training
from fc_bench.model.kernels import Kernels, arrange

from .conftest import GOLDEN


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The configurations of a pipeline whose images of 320 pixels have latents of 40 x 40."""
    for part, widths in (("unet", [8, 16, 16]), ("vae", [8, 8, 8, 8])):
        (tmp_path / "pipeline" / part).mkdir(parents=True)
        (tmp_path / "pipeline" / part / "config.json").write_text(json.dumps({"block_out_channels": widths}))
    return tmp_path / "pipeline"


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The seconds that a measurement gives, by candidate, and the works that were measured, in `works`."""
    given: dict[str, Any] = {"contiguous": 1.0, "channels-last": 1.0, "sdpa": 1.0, "mixed": 1.0, "works": []}

    def measure(work: Any) -> dict[str, float]:
        given["works"].append(work)
        return {candidate: given[candidate] for candidate in work.candidates}

    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_choice, "_measured", measure)
    kernel_choice._faster.cache_clear()
    return given


def test_the_pocket_world_and_accelerators_measure_nothing(measured: dict[str, Any], pipeline: Path) -> None:
    measured.update({"contiguous": 9.0, "sdpa": 9.0})
    pocket = read_backbone("pocket").path("pipeline")
    assert for_sampling(pocket, 128, "cpu", "float32") == Kernels("sdpa", "channels-last", "channels-last")
    assert for_training(pocket, 128, "cpu", "float32") == Kernels("eager", "contiguous", "contiguous")
    assert for_sampling(pipeline, 320, "cuda", "float16") == Kernels("sdpa", "channels-last", "channels-last")
    assert for_training(pipeline, 320, "cuda", "bfloat16") == Kernels("sdpa", "contiguous", "contiguous")
    assert for_sampling(pipeline, 256, "cpu", "float32") == Kernels()
    assert not measured["works"]


def test_a_large_shape_takes_what_is_clearly_faster(measured: dict[str, Any], pipeline: Path) -> None:
    assert for_sampling(pipeline, 320, "cpu", "float32") == Kernels("sdpa", "contiguous", "channels-last")
    measured.update({"channels-last": 0.99, "mixed": 0.99})  # as good as the default
    assert for_training(pipeline, 320, "cpu", "float32") == Kernels("sdpa", "contiguous", "channels-last")
    measured.update({"channels-last": 0.5, "mixed": 0.5})
    assert for_sampling(pipeline, 328, "cpu", "float32") == Kernels("mixed", "channels-last", "channels-last")
    assert for_training(pipeline, 320, "cpu", "bfloat16") == Kernels("mixed", "channels-last", "channels-last")


def test_a_shape_is_measured_once_on_a_machine(
    measured: dict[str, Any], pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = for_sampling(pipeline, 320, "cpu", "float32")
    count = len(measured["works"])
    measured.update({"channels-last": 0.1, "mixed": 0.1})
    kernel_choice._faster.cache_clear()  # as in another process
    assert for_sampling(pipeline, 320, "cpu", "float32") == first
    assert len(measured["works"]) == count
    monkeypatch.setattr(kernel_choice, "processor", lambda: "another")
    kernel_choice._faster.cache_clear()
    assert for_sampling(pipeline, 320, "cpu", "float32") != first


@pytest.mark.parametrize("fault", ["no folder", "damaged"])
def test_without_a_cache_each_process_measures(
    fault: str, measured: dict[str, Any], pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured["channels-last"] = 0.5
    if fault == "no folder":
        (tmp_path / "file").touch()
        monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "file"))
    else:
        for_sampling(pipeline, 320, "cpu", "float32")
        for file in (tmp_path / "cache").rglob("seconds.json"):
            file.write_text("{")
        kernel_choice._faster.cache_clear()
    assert for_sampling(pipeline, 320, "cpu", "float32").unet == "channels-last"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [Attention, Convolution])
def test_candidates_compute_the_same_and_leave_random_numbers_alone(kind: Any, training: bool) -> None:
    work = kind((16, 24), 12, "float32", training)
    state = torch.get_rng_state()
    seconds = kernel_choice._measured(work)
    assert torch.equal(torch.get_rng_state(), state)
    assert tuple(seconds) == work.candidates
    assert min(seconds.values()) > 0
    found = []
    for candidate in work.candidates:
        torch.manual_seed(0)
        found.append([one() for one in work.passes(candidate)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert one.requires_grad == (training or kind is Convolution)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The processor and the number of queries of every attention."""
    calls: list[tuple[str, int]] = []
    for kind in (AttnProcessor, AttnProcessor2_0):
        own = kind.__call__

        def call(self: Any, attn: Any, states: Any, *rest: Any, own: Any = own, **named: Any) -> Any:
            calls.append((type(self).__name__, states.shape[1]))
            return own(self, attn, states, *rest, **named)

        monkeypatch.setattr(kind, "__call__", call)
    return calls


def test_every_kind_of_attention_and_format_predicts_the_same_noise(
    called: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    unet: Any = UNet2DConditionModel.from_pretrained(GOLDEN / "sd" / "unet")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, unet.config.in_channels, 8, 8, generator=generator)
    text = torch.randn(1, 7, unet.config.cross_attention_dim, generator=generator)
    monkeypatch.setattr(attention, "LARGEST_EAGER_MAP", 16 * 16)
    outputs, used = {}, {}
    for kind in ("sdpa", "eager", "mixed"):
        use_attention(unet, kind)
        called.clear()
        for form in ("contiguous", "channels-last"):
            arrange(unet, form)
            with torch.no_grad():
                outputs[kind, form] = unet(latents, torch.tensor(3), text).sample
        used[kind] = set(called)
    for output in outputs.values():
        torch.testing.assert_close(output, outputs["sdpa", "contiguous"], rtol=1e-4, atol=1e-5)
    assert {name for name, _ in used["sdpa"]} == {"AttnProcessor2_0"}
    assert {name for name, _ in used["eager"]} == {"AttnProcessor"}
    assert {(name, queries) for name, queries in used["mixed"] if queries == 64} >= {("AttnProcessor2_0", 64)}
    assert {name for name, queries in used["mixed"] if queries <= 16} == {"AttnProcessor"}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, ("bfloat16", "avx512_bf16")),
        ({"avx512_bf16": True, "amx_bf16": True}, ("bfloat16", "amx_bf16")),
        ({"avx2": True, "avx512_bf16": False}, ("float32", "no instructions")),
        ({}, ("float32", "does not report")),
    ],
)
def test_a_cpu_takes_bfloat16_if_it_computes_it(
    capabilities: dict[str, bool], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    name, reason = kernel_choice.cpu_dtype()
    assert (name, expected[1] in reason) == (expected[0], True)
