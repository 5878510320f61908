"""Scripts written for version 0.1 import what they did."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from fc_bench.moved import MOVED


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_old_import_path_gives_the_module_of_the_new_one_with_a_warning(old, new):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved to {new}"):
        module = import_module(old)
    assert module is import_module(new)
    assert module.__spec__.name == new
