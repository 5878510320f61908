"""What tests of the methods that tune share: the tiny backbone's setting, subjects with photographs, images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fc_bench.model.backbone import read_backbone
from fc_bench.protocols import Request, Sampler, Setting, Subject, fill

PHOTOGRAPHS = 3


@pytest.fixture(scope="module")
def setting(tiny_backbone: Path) -> Setting:
    """Two sampling steps at 64 x 64 pixels with the tiny backbone."""
    return Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 2, 3.0, 64), "cpu", "float32")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for class images that is the test's own."""
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tunable(tmp_path: Path, people: Any, portrait: Any) -> dict[str, Subject]:
    """The tiny world's people with three photographs each."""
    found = {}
    for name, (noun, color) in people.items():
        files = tuple(tmp_path / f"{name}-{number}.png" for number in range(PHOTOGRAPHS))
        for number, file in enumerate(files):
            portrait(color, shade=10 * number).save(file)
        found[name] = Subject(name, noun, files)
    return found


@pytest.fixture
def images_of() -> Callable[..., np.ndarray]:
    """Images of a customization, [seeds, height, width, 3]."""

    def draw(method: Any, customization: Any, template: str = "a {subject}", seeds: Sequence[int] = (5,)) -> np.ndarray:
        mentions = [method.mention(subject, position) for position, subject in enumerate(customization.subjects)]
        plain = fill(template, [subject.noun for subject in customization.subjects])
        requests = [Request(fill(template, mentions), plain, seed) for seed in seeds]
        return np.stack([np.asarray(image) for image in method.generate(customization, requests)]).astype(np.int16)

    return draw
