"""torch.compile around sampling alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_COMPILED = "_compiled_for_sampling"


@contextmanager
def compiled(model: nn.Module, backend: str | Callable[..., Any] | None) -> Iterator[None]:
    """While it lasts, calls of the model run what `torch.compile` made of it; before and after, itself.

    So a model that is also trained, or shared, trains as it is. It is compiled at its first call, for each shape of
    batch anew, and kept for the next time. None compiles nothing.
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
