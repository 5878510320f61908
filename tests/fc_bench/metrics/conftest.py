"""What the tests of the metrics share: the tiny world's setting and people."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Sampler, Setting, Subject
from fc_bench.suites.suite import read_suite


@pytest.fixture
def setting(tiny_backbone) -> Setting:
    """The tiny backbone on a CPU."""
    return Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 2, 2.0, 64), "cpu", "float32")


@pytest.fixture
def subjects(suite) -> dict[str, Subject]:
    """The suite's people by id."""
    return {subject.id: subject for subject in read_suite(suite).subjects}


@pytest.fixture
def side_by_side() -> Callable[[Image.Image, Image.Image], Image.Image]:
    """Two people in one image of 128 x 128 pixels, each with a face."""

    def paste(left: Image.Image, right: Image.Image) -> Image.Image:
        return Image.fromarray(np.concatenate([np.asarray(one)[:, 32:96] for one in (left, right)], axis=1))

    return paste
