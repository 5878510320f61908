"""A local vision-language model that answers questions about images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.backbones.fingerprint import fingerprint

KIND = "a vision-language model that answers questions about images (transformers' AutoModelForImageTextToText)"


@dataclass(frozen=True)
class VisionLanguageModel:
    """A model of transformers with its processor, loaded from a folder; answers are greedy, so that they repeat."""

    folder: Path
    model: Any
    processor: Any
    generation: Any

    @classmethod
    def load(cls, folder: Path, device: str, longest_answer: int) -> VisionLanguageModel:
        """The model in a folder, float32 on a CPU and in its weights' own format elsewhere; the network is not used.

        Raises UserError if the folder holds no such model, or one without a chat template.
        """
        import torch
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

        try:
            if not (folder / "config.json").is_file():
                raise UserError(
                    f"{folder} is not the folder of a model, because it has no config.json; correct --model."
                )
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
                raise UserError(f'{folder} holds a model of the kind "{config.model_type}"; give {KIND}.')
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            if getattr(processor, "chat_template", None) is None:
                raise UserError(
                    f"{folder} has no chat template, so the form of a question is not known; put the model's "
                    "chat_template.jinja there, or give a model that was trained to follow instructions."
                )
            dtype: Any = torch.float32 if device == "cpu" else "auto"
            loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True, dtype=dtype)
            model = loaded.to(device).eval()
        except UserError:
            raise
        except Exception as error:  # whatever a damaged or incomplete folder makes the library raise
            raise UserError(f"{folder} cannot be loaded ({_first_line(error)}); give {KIND}.") from error
        generation = copy.deepcopy(model.generation_config)
        generation.update(do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None)
        generation.update(max_new_tokens=longest_answer, max_length=None)
        return cls(folder, model, processor, generation)

    def provenance(self) -> Mapping[str, Any]:
        """Hash, class and number format of the model, its chat template, and how it generates."""
        return {
            "sha256": fingerprint(self.folder),
            "kind": type(self.model).__name__,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "chat_template": str(self.processor.chat_template),
            "generation": {"greedy": True, "longest_answer": self.generation.max_new_tokens},
        }

    def answer(self, images: Sequence[Image.Image], question: str) -> str:
        """The answer to a question about images in RGB, which come before it; raises UserError if the model fails."""
        import torch

        shown = [{"type": "image", "image": image} for image in images]
        conversation = [{"role": "user", "content": [*shown, {"type": "text", "text": question}]}]
        try:
            inputs = self.processor.apply_chat_template(
                conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            ).to(self.model.device, dtype=self.model.dtype)
            with torch.inference_mode():
                made = self.model.generate(**inputs, generation_config=self.generation)
        except Exception as error:  # whatever the model's own code raises
            raise UserError(
                f"The model in {self.folder} failed ({_first_line(error)}); the answers so far are kept, and the same "
                "command continues."
            ) from error
        new = made[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(new, skip_special_tokens=True)[0]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ").rstrip(".")
