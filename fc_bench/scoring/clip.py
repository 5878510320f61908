"""The CLIP scorer: embeddings of images and texts in float32, with CLIP's own preprocessing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image

from fc_bench.model.backbones.fingerprint import fingerprint
from fc_bench.model.errors import ModelInputError, loading
from fc_bench.scoring.memo import Remembering
from fc_bench.scoring.preprocessing import Preprocessing
from fc_bench.scoring.threads import in_threads

TOGETHER, TOGETHER_ON_ACCELERATOR = 8, 64
"""Images embedded together; on a CPU larger batches leave the cache and take longer."""


class ClipScorer:
    """Unit-length CLIP embeddings of images and texts, [n, dim] float32, from a CLIPModel folder with its tokenizer.

    Raises ModelInputError if the folder's files are damaged or weights are missing.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        import torch
        from transformers import CLIPModel, CLIPTokenizer

        with loading(f"the CLIP scorer {folder}"):
            loaded: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
            model, info = loaded
            self._tokenizer = CLIPTokenizer.from_pretrained(folder)
            self._preprocessing = _preprocessing(folder, model.config.vision_config.image_size)
        missing = sorted(info["missing_keys"])
        if missing:
            raise ModelInputError(
                f"the CLIP scorer {folder} lacks {len(missing)} weights, first {missing[0]}; restore its weights file"
            )
        self._model: Any = model.eval().to(device)
        self._device = device
        self._texts: dict[str, Any] = {}
        self._together = TOGETHER if device == "cpu" else TOGETHER_ON_ACCELERATOR
        self._remembered = Remembering(self.images)

    @classmethod
    def shared(cls, folder: Path, device: str = "cpu") -> ClipScorer:
        """The scorer in a folder; all metrics share one while any of them uses it."""
        key = (folder, fingerprint(folder), device)
        scorer = _SHARED.get(key)
        if scorer is None:
            scorer = _SHARED[key] = cls(folder, device)
        return scorer

    def image(self, image: Image.Image) -> Any:
        """Embedding [dim] of one image, independent of all other images; the last ones are cached."""
        return self._remembered(image)

    def look_ahead(self, images: Iterable[Image.Image], texts: Iterable[str] = ()) -> None:
        """Embed several images and texts together, for `image` and `text`."""
        self._remembered.look_ahead(images, self._together)
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for start in range(0, len(missing), self._together):
            self._embed_texts(missing[start : start + self._together])

    def images(self, images: Sequence[Image.Image]) -> Any:
        """Embeddings of RGB images."""
        import torch

        prepared = in_threads(lambda image: torch.from_numpy(preprocess(image, self._preprocessing)), images)
        pixels = torch.stack(prepared)
        with torch.inference_mode():
            output = self._model.get_image_features(pixel_values=pixels.to(self._device))
        return torch.nn.functional.normalize(_features(output).float(), dim=-1).cpu()

    def text(self, text: str) -> Any:
        """Embedding [dim] of one text, truncated to the model's length; each text is computed once."""
        if text not in self._texts:
            self._embed_texts([text])
        return self._texts[text]

    def _embed_texts(self, texts: Sequence[str]) -> None:
        import torch

        tokens = self._tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
        with torch.inference_mode():
            output = self._model.get_text_features(
                input_ids=tokens["input_ids"].to(self._device),
                attention_mask=tokens["attention_mask"].to(self._device),
            )
        embeddings = torch.nn.functional.normalize(_features(output).float(), dim=-1).cpu()
        self._texts |= dict(zip(texts, embeddings, strict=True))

    def similarity(self, image: Image.Image, text: str) -> float:
        """Cosine of an image and a text, neither clipped nor multiplied by 2.5."""
        return float(self.image(image) @ self.text(text))


_SHARED: WeakValueDictionary[Any, ClipScorer] = WeakValueDictionary()


def preprocess(image: Image.Image, settings: Mapping[str, Any]) -> np.ndarray:
    """CLIP's preprocessing: shorter side to `size` (bicubic), center crop, normalized; float32 [3, size, size]."""
    size = int(settings["size"])
    chosen = Preprocessing(size, Image.Resampling.BICUBIC, (size, size), settings["mean"], settings["std"])
    return chosen.apply(image)


def _preprocessing(folder: Path, image_size: int) -> dict[str, Any]:
    """Size, mean and standard deviation from preprocessor_config.json; CLIP's own values if it has none."""
    from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    file = folder / "preprocessor_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {
        "size": image_size,
        "mean": config.get("image_mean", OPENAI_CLIP_MEAN),
        "std": config.get("image_std", OPENAI_CLIP_STD),
    }


def _features(output: Any) -> Any:
    """The projected features: transformers 5 wraps them in an output object, version 4 returns them bare."""
    return getattr(output, "pooler_output", output)
