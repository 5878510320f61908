"""Features of a self-supervised vision transformer: visual similarity beyond what words describe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.scoring.clip import TOGETHER, TOGETHER_ON_ACCELERATOR
from fc_bench.scoring.memo import Remembering
from fc_bench.scoring.preprocessing import read_preprocessing
from fc_bench.scoring.threads import in_threads


class ImageFeatures:
    """Unit-length class-token features [dim] float32 of images, from a vision transformer's folder.

    The features are those of the last layer after its norm, of any model that `transformers.AutoModel` loads and that
    has a class token (ViT trained by DINO, DINOv2). Raises ModelInputError if the folder's files are damaged, weights
    are missing, or the model has no class token.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        import torch
        from transformers import AutoModel

        with loading(f"the image features {folder}"):
            loaded: Any = AutoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
            model, info = loaded
        # The pooler on top of the class token is another head's and plays no part.
        missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise ModelInputError(
                f"the image features {folder} lack {len(missing)} weights, first {missing[0]}; restore the file"
            )
        if not hasattr(getattr(model, "embeddings", None), "cls_token"):
            raise ModelInputError(
                f"the image features {folder} are a {type(model).__name__}, which has no class token: "
                "name the folder of a vision transformer as DINO's"
            )
        self._model: Any = model.eval().to(device)
        self._device = device
        self._remembered = Remembering(self._compute)
        with loading(f"the preprocessing of the image features {folder}"):
            self._preprocessing = read_preprocessing(folder, model.config.image_size)
            self._compute([Image.new("RGB", (64, 64))])

    def image(self, image: Image.Image) -> Any:
        """Features [dim] of one image, independent of all other images; the last ones are cached."""
        return self._remembered(image)

    def look_ahead(self, images: Iterable[Image.Image]) -> None:
        """Compute the features of several images together, for `image`."""
        self._remembered.look_ahead(images, TOGETHER if self._device == "cpu" else TOGETHER_ON_ACCELERATOR)

    def _compute(self, images: Sequence[Image.Image]) -> Any:
        import torch

        prepared = in_threads(lambda image: torch.from_numpy(self._preprocessing.apply(image)), images)
        with torch.inference_mode():
            hidden = self._model(pixel_values=torch.stack(prepared).to(self._device)).last_hidden_state
        return torch.nn.functional.normalize(hidden[:, 0].float(), dim=-1).cpu()
