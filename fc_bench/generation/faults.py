"""Faults of generation: out of memory, a black image, a lost device."""

from __future__ import annotations

from typing import Any

from PIL import Image

from fc_bench.errors import UserError

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "failed to allocate")


class BlackImageError(Exception):
    """An image that is entirely black: latents of NaN decode to it, and safety filters return it."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether the exception, or its cause, means that memory ran out (of the accelerator or the machine)."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, RuntimeError) and any(words in str(cause).lower() for words in _OUT_OF_MEMORY):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def require_picture(image: Any) -> Image.Image:
    """The method's image, after a check.

    Raises TypeError for an object that is not an image, BlackImageError for an image that is entirely black.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"the method gave a {type(image).__name__} instead of an image")
    rgb = image.convert("RGB")
    if all(high == 0 for _, high in rgb.getextrema()):  # type: ignore[misc]  # three bands: (low, high) each
        raise BlackImageError(
            "the image is black all over: the model computed something that is no number (try float32 or bfloat16), or "
            "a safety filter took it away"
        )
    return rgb


def require_device(device: str) -> None:
    """Raise UserError if an accelerator no longer responds, because nothing after that could succeed."""
    if not device.startswith("cuda"):
        return
    import torch

    try:
        torch.ones(1, device=device).sum().item()
    except Exception as error:
        if ran_out_of_memory(error):
            return
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The device {device} no longer responds ({reason}); nothing finished is lost: once it is back, the "
            "same command continues."
        ) from error
