"""torch.compile for sampling only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_COMPILED = "_compiled_for_sampling"


@contextmanager
def compiled(model: nn.Module, backend: str | Callable[..., Any] | None) -> Iterator[None]:
    """Run calls of the model through `torch.compile` inside the block; `backend` None compiles nothing.

    Outside the block the model is unchanged, so training and other users of the model are not affected. Compilation
    happens at the first call for each batch shape, and later blocks reuse it.
    """
    if backend is None:
        yield
        return
    kept = vars(model).get(_COMPILED)
    if kept is None or kept[0] != backend:
        kept = vars(model)[_COMPILED] = backend, torch.compile(model._call_impl, backend=backend)
    before = model._compiled_call_impl
    model._compiled_call_impl = kept[1]
    try:
        yield
    finally:
        model._compiled_call_impl = before
