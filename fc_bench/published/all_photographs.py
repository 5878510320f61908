"""Subject fidelity against all photographs: DreamBooth (arXiv 2208.12242) and CustomConcept101 (7c19c9a)."""

from __future__ import annotations

import numpy as np

from fc_bench.published import cosines

TEXT_WEIGHT = 2.5
"""Factor of CLIPScore (arXiv 2104.08718), which CustomConcept101's text alignment is."""


def image_alignment(images: np.ndarray, photographs: np.ndarray) -> float:
    """Mean cosine of all pairs of an image and a photograph, from features [images, dim] and [photographs, dim].

    CLIP-I and DINO of DreamBooth (section 4.2) and the image alignment of CustomConcept101
    (customconcept101/evaluate.py, `clipeval_image`), which differ in their models.
    """
    return float(cosines(images, photographs).mean())


def text_alignment(cosine: float) -> float:
    """An image's text alignment from its CLIP cosine with the prompt (customconcept101/evaluate.py)."""
    return TEXT_WEIGHT * max(0.0, cosine)
