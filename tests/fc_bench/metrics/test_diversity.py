"""Diversity against plain transformers: the mean over an image's siblings, and over all images that of all pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from fc_bench.metrics.diversity import Diversity
from fc_bench.protocols import ScoredSample, Sibling


@pytest.fixture
def siblings(tmp_path):
    """Four images of one prompt."""
    random = np.random.default_rng(0)
    made = []
    for number in range(4):
        file = tmp_path / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(file)
        made.append(Sibling(str(number), file))
    return made


@pytest.fixture
def diversity(setting, subjects):
    """The value of one image beside others."""
    metric = Diversity(setting)

    def score(own, others):
        sample = ScoredSample(own.image(), "a photo", (subjects["ann"],), tuple(others))
        return metric.score(sample).values["diversity"]

    return score


def others(siblings, own):
    return [one for one in siblings if one is not own]


def test_mean_over_the_images_is_the_mean_distance_of_all_pairs_by_plain_transformers(
    diversity, siblings, tiny_backbone
):
    import torch
    from transformers import CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel.from_pretrained(tiny_backbone.parent / "clip").eval()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with torch.no_grad():
        outputs = [model.get_image_features(**processor(one.image(), return_tensors="pt")) for one in siblings]
    features = [getattr(output, "pooler_output", output)[0].double() for output in outputs]
    pairs = [1 - float(torch.nn.functional.cosine_similarity(a, b, dim=0)) for a, b in combinations(features, 2)]
    values = [diversity(own, others(siblings, own)) for own in siblings]
    assert np.mean(values) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert values[0] == pytest.approx(np.mean(pairs[:3]), abs=1e-6)
    assert len(set(values)) == 4


def test_order_of_the_siblings_does_not_matter_to_the_last_digit(diversity, siblings):
    assert diversity(siblings[0], siblings[1:]) == diversity(siblings[0], siblings[:0:-1])


def test_single_image_has_no_diversity(diversity, siblings):
    assert diversity(siblings[0], []) is None


def test_equal_images_have_none_at_all(diversity, siblings):
    copies = [Sibling("copy", siblings[0].file)]
    assert diversity(siblings[0], copies) == pytest.approx(0, abs=1e-6)
    assert diversity(siblings[0], copies) >= 0
