"""Faults are told apart by what they say."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.generation.faults import BlackImageError, ran_out_of_memory, require_device, require_picture


def wrapped(inner: Exception) -> Exception:
    try:
        try:
            raise inner
        except Exception as error:
            raise ValueError("while drawing") from error
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDNN_STATUS_NOT_INITIALIZED"), False),
        (ValueError("out of memory"), False),
        (wrapped(MemoryError()), True),
        (wrapped(KeyError("x")), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error, expected):
    assert ran_out_of_memory(error) is expected


def test_allocation_beyond_the_machine_is_running_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert ran_out_of_memory(caught.value)


def test_picture_with_a_single_lit_pixel_is_a_picture():
    image = Image.new("L", (8, 8))
    with pytest.raises(BlackImageError):
        require_picture(image)
    image.putpixel((3, 3), 1)
    assert require_picture(image).mode == "RGB"
    with pytest.raises(TypeError, match="gave a str"):
        require_picture("picture")


def test_latents_that_are_no_numbers_decode_to_what_is_refused(tiny_backbone):
    from diffusers import StableDiffusionPipeline

    from fc_bench.model.backbones.backbone import read_backbone

    pipeline = StableDiffusionPipeline.from_pretrained(read_backbone(str(tiny_backbone)).path("pipeline"))
    latents = torch.full((1, 4, 8, 8), float("nan"))
    (image,) = pipeline("a man", latents=latents, num_inference_steps=1, height=64, width=64).images
    with pytest.raises(BlackImageError, match="no number"):
        require_picture(image)


def test_device_that_does_not_answer_is_told_and_one_that_is_only_full_is_not(monkeypatch):
    def broken(error):
        def ones(*_, **__):
            raise error

        monkeypatch.setattr(torch, "ones", ones)

    require_device("cpu")
    broken(torch.OutOfMemoryError("out of memory"))
    require_device("cuda:0")
    broken(RuntimeError("CUDA error: device-side assert triggered\nmore lines"))
    with pytest.raises(UserError, match=r"cuda:0 no longer responds \(CUDA error: device-side"):
        require_device("cuda:0")
