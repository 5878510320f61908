"""The models of a curation, each through transformers' own classes: captions, panoptic segments, similarities."""

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
    """A segment of a map: its value there (from 1), its class, the model's confidence."""

    id: int
    label: str
    score: float


class Captioner:
    """Captions of images by an image-to-text model."""

    def __init__(self, config: CaptionerConfig, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._config, self._device, self._dtype = config, device, dtype
        with loading(f"the captioner {config.model}"):
            self._processor: Any = AutoProcessor.from_pretrained(config.model, local_files_only=_offline())
            self._model: Any = _placed(AutoModelForImageTextToText, config.model, device, dtype)

    @torch.no_grad()
    def captions(self, images: Sequence[Image.Image]) -> list[str]:
        """One caption each, without the prompt, on one line."""
        prompts = [self._config.prompt] * len(images) if self._config.prompt else None
        inputs = self._processor(images=list(images), text=prompts, return_tensors="pt", padding=True)
        inputs = inputs.to(self._device, self._dtype)
        given = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        tokens = self._model.generate(**inputs, max_new_tokens=self._config.max_new_tokens, do_sample=False)
        # Depending on the model the prompt's tokens are repeated or not.
        if given and tokens.shape[1] > given and torch.equal(tokens[:, :given], inputs["input_ids"]):
            tokens = tokens[:, given:]
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


class Segmenter:
    """Panoptic segmentation by a Mask2Former."""

    def __init__(self, config: SegmenterConfig, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

        self._config, self._device, self._dtype = config, device, dtype
        with loading(f"the segmenter {config.model}"):
            self._processor: Any = AutoImageProcessor.from_pretrained(config.model, local_files_only=_offline())
            self._model: Any = _placed(Mask2FormerForUniversalSegmentation, config.model, device, dtype)

    @torch.no_grad()
    def segments(self, images: Sequence[Image.Image]) -> list[tuple[np.ndarray, list[PanopticSegment]]]:
        """The map of each image, uint16 [height, width] with 0 where there is none, and its segments."""
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
            # transformers counts from 0 or 1 by version and marks nothing with -1 or 0: count anew.
            panoptic = np.zeros(values.shape, dtype=np.uint16)
            kept = []
            for number, segment in enumerate(segments, start=1):
                panoptic[values == segment.id] = number
                kept.append(PanopticSegment(number, segment.label, segment.score))
            results.append((panoptic, kept))
        return results


class Similarity:
    """How well phrases describe crops: CLIP's cosine, times that of phrase and class by a sentence model, if any."""

    def __init__(self, config: MatcherConfig, device: torch.device, dtype: torch.dtype) -> None:
        from transformers import AutoModel, AutoTokenizer, CLIPModel

        self._device, self._dtype, self._template = device, dtype, config.template
        with loading(f"the CLIP model {config.clip}"):
            self._clip: Any = _placed(CLIPModel, config.clip, device, dtype)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(config.clip, local_files_only=_offline())
        self._sentences: Any = None
        if config.sentences is not None:
            with loading(f"the sentence model {config.sentences}"):
                self._sentences = _placed(AutoModel, config.sentences, device, dtype)
                self._words: Any = AutoTokenizer.from_pretrained(config.sentences, local_files_only=_offline())

    @torch.no_grad()
    def matrix(
        self, phrases: Sequence[str], crops: Sequence[Image.Image], labels: Sequence[str], read: Sequence[str]
    ) -> np.ndarray:
        """Similarities [phrases, crops]; `labels` are the crops' classes, `read` is what CLIP reads of each phrase."""
        from fc_bench.model.fastcomposer.references import normalize, reference_pixels

        size = self._clip.config.vision_config.image_size
        pixels = normalize(torch.stack([reference_pixels(crop, size) for crop in crops])).to(self._device, self._dtype)
        texts = [self._template.format(text) for text in read]
        tokens = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self._device)
        seen = _unit(_features(self._clip.get_image_features(pixel_values=pixels)))
        said = _unit(_features(self._clip.get_text_features(**tokens)))
        similarity = said @ seen.T
        if self._sentences is not None:
            similarity = similarity.clamp(min=0) * (self._embedded(phrases) @ self._embedded(labels).T).clamp(min=0)
        return similarity.cpu().numpy()

    def _embedded(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit-length means over tokens, [texts, features]."""
        tokens = self._words(list(texts), padding=True, truncation=True, return_tensors="pt").to(self._device)
        hidden = self._sentences(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"][..., None].float()
        return _unit((hidden * mask).sum(dim=1) / mask.sum(dim=1))


def _placed(kind: Any, name: str, device: torch.device, dtype: torch.dtype) -> Any:
    return kind.from_pretrained(name, dtype=dtype, local_files_only=_offline()).to(device).eval()


def _offline() -> bool:
    """Libraries that were imported before the command forbade the network do not see it."""
    return os.environ.get("HF_HUB_OFFLINE") == "1"


def _features(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
