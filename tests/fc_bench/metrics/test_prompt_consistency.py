"""Prompt consistency is the plain CLIP cosine of the image and the prompt it is given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fc_bench.metrics.prompt_consistency import PromptConsistency
from fc_bench.protocols import ScoredSample


def test_value_is_the_models_own_cosine_of_image_and_prompt(setting, subjects, tiny_backbone):
    import torch
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (80, 50, 3), dtype=np.uint8))
    folder = tiny_backbone.parent / "clip"
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    metric = PromptConsistency(setting)
    for prompt in ("a woman in the snow", "a woman and a man"):
        tokens = CLIPTokenizer.from_pretrained(folder)([prompt], return_tensors="pt")
        with torch.no_grad():
            logits = model(**tokens, **processor(image, return_tensors="pt")).logits_per_image
        expected = float(logits[0, 0] / model.logit_scale.exp())
        for people in ([subjects["ann"]], [subjects["bob"], subjects["ann"]]):
            score = metric.score(ScoredSample(image, prompt, tuple(people))).values
            assert score["prompt_consistency"] == pytest.approx(expected, abs=1e-5)
