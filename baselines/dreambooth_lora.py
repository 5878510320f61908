"""DreamBooth with low-rank adapters (LoRA, arXiv 2106.09685) of the attention layers, kilobytes per subject."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft.utils.save_and_load import get_peft_model_state_dict
from pydantic import BaseModel, Field
from safetensors.torch import load_file

from fc_bench.baselines.tuning.loop import TuningResult
from fc_bench.baselines.tuning.method import Steps
from fc_bench.baselines.tuning.rare_token import RareTokenMethod, RareTokenOptions, RareTokenTraining
from fc_bench.baselines.tuning.text import quiet_transformers
from fc_bench.errors import UserError
from fc_bench.model.errors import loading
from fc_bench.model.low_rank import add_adapter
from fc_bench.protocols import Checkpoints, Subject

FILE = "pytorch_lora_weights.safetensors"


class DreamBoothLoRAOptions(RareTokenOptions):
    """Options; the defaults are those of the diffusers example."""

    steps: Steps = 500
    learning_rate: float = Field(default=1e-4, gt=0)
    rank: int = Field(default=4, ge=1, le=1024)
    """Rank of the adapters."""


class DreamBoothLoRA(RareTokenMethod):
    """Tunes one adapter per subject, on that subject alone; all adapters of a subject set are active together."""

    description: ClassVar[str] = "tunes low-rank adapters of the attention layers to a rare token"
    Options: ClassVar[type[BaseModel]] = DreamBoothLoRAOptions

    def train(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> list[TuningResult]:
        """Train each subject's adapter with the rare token of its position; write `<id>/pytorch_lora_weights...`."""
        results = []
        for position, subject in enumerate(subjects):
            own = replace(checkpoints, folder=_created(checkpoints.folder / subject.id)) if checkpoints else None
            results.append(self._train_one(subject, position, seed + position, artefact_folder / subject.id, own))
        return results

    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Any:
        """The base model with the subjects' adapters, which are not fused into its weights."""
        (artefact,) = artefacts
        text = self.base.fresh_text() if self.options.train_text_encoder else None
        pipeline = self.base.pipeline(self.base.fresh_unet(), text)
        names = [f"subject_{position}" for position in range(len(subjects))]
        with quiet_transformers(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are intended
            for name, subject in zip(names, subjects, strict=True):
                with loading(f"the artefact {artefact / subject.id}"):
                    check_adapter(pipeline, artefact / subject.id / FILE)
                    pipeline.load_lora_weights(str(artefact / subject.id), adapter_name=name)
        pipeline.set_adapters(names)
        return pipeline

    def _train_one(
        self, subject: Subject, position: int, seed: int, folder: Path, checkpoints: Checkpoints | None
    ) -> TuningResult:
        options: DreamBoothLoRAOptions = self.options
        torch.manual_seed(seed)  # peft draws the adapters' initial weights from the global generator
        unet, family = self.base.fresh_unet(), self.base.family
        add_adapter(unet, options.rank, family.denoiser_adapters)
        text = self.base.fresh_text() if options.train_text_encoder else None
        encoders = text.encoders if text is not None else ()
        for encoder in encoders:
            add_adapter(encoder, options.rank, family.encoder_adapters)
        training = RareTokenTraining(self.base, options, self.examples([subject], position), unet, text)
        result = self.tune(training, [subject], seed, checkpoints, options.prior_weight)
        parts = (encoder.part for encoder in family.encoders)
        of_encoders = {part: _layers(encoder, self.base.dtype) for part, encoder in zip(parts, encoders, strict=False)}
        family.save_adapters(folder, _layers(unet, self.base.dtype), of_encoders)
        return result


def check_adapter(pipeline: Any, file: Path) -> None:
    """Raise UserError unless the pipeline has every layer of the adapters in a file, with fitting widths.

    diffusers leaves out layers that it does not find.
    """
    for name, tensor in load_file(file).items():
        part, _, place = name.partition(".")
        layer, _, side = place.rpartition(".lora")
        try:
            weight = getattr(pipeline, part).get_submodule(layer).weight
        except AttributeError:  # the part or the layer
            fits = False
        else:
            fits = tensor.shape[1] == weight.shape[1] if side.endswith("down.weight") else len(tensor) == len(weight)
        if not fits:
            raise UserError(
                f"The artefact {file} has an adapter of {part}.{layer} that does not fit the pipeline: it belongs to "
                "another architecture; customize again."
            )


def _layers(model: Any, dtype: torch.dtype) -> dict[str, Any]:
    """The adapter's weights under diffusers' names, in the number format of sampling."""
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(model, save_embedding_layers=False))
    return {name: tensor.to(dtype) for name, tensor in state.items()}


def _created(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
