"""The CLIP scorer against transformers' own preprocessing and model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fc_bench.scoring.clip import ClipScorer, preprocess


@pytest.fixture(scope="module")
def scorer(tiny_backbone):
    return ClipScorer(tiny_backbone.parent / "clip")


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    sizes = ((32, 32), (64, 64), (50, 90), (121, 77))
    return [Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)) for width, height in sizes]


def test_preprocessing_equals_transformers(pictures):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    theirs = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    settings = {"size": 32, "mean": theirs.image_mean, "std": theirs.image_std}
    for picture in pictures:
        expected = np.asarray(theirs(picture, return_tensors="np")["pixel_values"][0])
        np.testing.assert_allclose(preprocess(picture, settings), expected, atol=1e-5)


def test_similarity_equals_the_models_own_cosine(scorer, tiny_backbone, pictures):
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    folder = tiny_backbone.parent / "clip"
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(["a man in the snow"], return_tensors="pt")
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    for picture in pictures:
        pixels = torch.from_numpy(preprocess(picture, {"size": 32, "mean": mean, "std": std}))[None]
        with torch.no_grad():
            logits = model(**tokens, pixel_values=pixels).logits_per_image / model.logit_scale.exp()
        assert scorer.similarity(picture, "a man in the snow") == pytest.approx(float(logits[0, 0]), abs=1e-5)


def test_similarity_is_a_raw_cosine_and_scores_one_image_independently_of_others(scorer, pictures):
    text = scorer.text("a woman")
    together = scorer.images(pictures) @ text
    alone = [scorer.similarity(picture, "a woman") for picture in pictures]
    assert all(-1 <= value <= 1 for value in alone)
    np.testing.assert_allclose(together.numpy(), alone, atol=1e-6)
    assert scorer.similarity(pictures[0], "a man") != scorer.similarity(pictures[0], "a woman on the beach")


def test_text_longer_than_the_model_is_cut_and_not_an_error(scorer, pictures):
    assert -1 <= scorer.similarity(pictures[0], "very " * 100) <= 1
