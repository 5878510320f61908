"""The models of a curation, loaded with transformers: captioner, panoptic segmenter and similarity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from fc_bench.model.curation.config import CaptionerConfig, MatcherConfig, SegmenterConfig
from fc_bench.model.errors import loading


@dataclass(frozen=True)
class PanopticSegment:
    """A segment: its value in the segmentation map (from 1), its class and the model's confidence."""

    id: int
    label: str
    score: float


class Captioner:
    """An image-to-text model that writes captions; raises ModelInputError when it cannot be loaded."""

    def __init__(self, config: CaptionerConfig, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._config, self._device, self._dtype = config, device, dtype
        with loading(f"the captioner {config.model}"):
            self._processor: Any = AutoProcessor.from_pretrained(config.model, local_files_only=_offline())
            self._model: Any = _load(AutoModelForImageTextToText, config.model, device, dtype)

    @torch.no_grad()
    def captions(self, images: Sequence[Image.Image]) -> list[str]:
        """One caption per image, on one line and without the prompt."""
        prompts = [self._config.prompt] * len(images) if self._config.prompt else None
        inputs = self._processor(images=list(images), text=prompts, return_tensors="pt", padding=True)
        inputs = inputs.to(self._device, self._dtype)
        given = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        tokens = self._model.generate(**inputs, max_new_tokens=self._config.max_new_tokens, do_sample=False)
        # Some models repeat the prompt's tokens.
        if given and tokens.shape[1] > given and torch.equal(tokens[:, :given], inputs["input_ids"]):
            tokens = tokens[:, given:]
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


class Segmenter:
    """A Mask2Former for panoptic segmentation; raises ModelInputError when it cannot be loaded."""

    def __init__(self, config: SegmenterConfig, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

        self._config, self._device, self._dtype = config, device, dtype
        with loading(f"the segmenter {config.model}"):
            self._processor: Any = AutoImageProcessor.from_pretrained(config.model, local_files_only=_offline())
            self._model: Any = _load(Mask2FormerForUniversalSegmentation, config.model, device, dtype)

    @torch.no_grad()
    def segments(self, images: Sequence[Image.Image]) -> list[tuple[np.ndarray, list[PanopticSegment]]]:
        """The segmentation map of each image, uint16 [height, width] with 0 for no segment, and its segments."""
        inputs = self._processor(images=list(images), return_tensors="pt").to(self._device, self._dtype)
        outputs = self._model(**inputs)
        found = self._processor.post_process_panoptic_segmentation(
            outputs, threshold=self._config.threshold, target_sizes=[(image.height, image.width) for image in images]
        )
        names = self._model.config.id2label
        results = []
        for one in found:
            values = one["segmentation"].cpu().numpy()
            segments = [
                PanopticSegment(int(info["id"]), str(names[int(info["label_id"])]), float(info["score"]))
                for info in one["segments_info"]
            ]
            # Depending on its version, transformers numbers segments from 0 or 1, so they are numbered again here.
            panoptic = np.zeros(values.shape, dtype=np.uint16)
            kept = []
            for number, segment in enumerate(segments, start=1):
                panoptic[values == segment.id] = number
                kept.append(PanopticSegment(number, segment.label, segment.score))
            results.append((panoptic, kept))
        return results


class Similarity:
    """The similarity of phrases and crops: CLIP's cosine, times a sentence model's cosine of phrase and class, if any.

    Raises ModelInputError when a model cannot be loaded.
    """

    def __init__(self, config: MatcherConfig, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoModel, AutoTokenizer, CLIPModel

        self._device, self._dtype, self._template = device, dtype, config.template
        with loading(f"the CLIP model {config.clip}"):
            self._clip: Any = _load(CLIPModel, config.clip, device, dtype)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(config.clip, local_files_only=_offline())
        self._sentences: Any = None
        if config.sentences is not None:
            with loading(f"the sentence model {config.sentences}"):
                self._sentences = _load(AutoModel, config.sentences, device, dtype)
                self._words: Any = AutoTokenizer.from_pretrained(config.sentences, local_files_only=_offline())

    @torch.no_grad()
    def matrix(
        self, phrases: Sequence[str], crops: Sequence[Image.Image], labels: Sequence[str], read: Sequence[str]
    ) -> np.ndarray:
        """Similarities [phrases, crops]; `labels` are the crops' classes, and `read` is CLIP's text for each phrase."""
        from fc_bench.model.fastcomposer.references import normalize, reference_pixels

        size = self._clip.config.vision_config.image_size
        pixels = normalize(torch.stack([reference_pixels(crop, size) for crop in crops])).to(self._device, self._dtype)
        texts = [self._template.format(text) for text in read]
        tokens = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self._device)
        image_features = _unit(_features(self._clip.get_image_features(pixel_values=pixels)))
        text_features = _unit(_features(self._clip.get_text_features(**tokens)))
        similarity = text_features @ image_features.T
        if self._sentences is not None:
            similarity = similarity.clamp(min=0) * (self._embedded(phrases) @ self._embedded(labels).T).clamp(min=0)
        return similarity.cpu().numpy()

    def _embedded(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit-length means over tokens, [texts, features]."""
        tokens = self._words(list(texts), padding=True, truncation=True, return_tensors="pt").to(self._device)
        hidden = self._sentences(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"][..., None].float()
        return _unit((hidden * mask).sum(dim=1) / mask.sum(dim=1))


def _load(kind: Any, name: str, device: torch.device, dtype: torch.dtype) -> Any:
    return kind.from_pretrained(name, dtype=dtype, local_files_only=_offline()).to(device).eval()


def _offline() -> bool:
    """Whether network access is disabled; libraries that were imported before the command disabled it do not know."""
    return os.environ.get("HF_HUB_OFFLINE") == "1"


def _features(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
