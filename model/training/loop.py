"""The training loop, based on accelerate: one or several processes on any device; a resumption changes no result.

output/config.yaml              the resolved configuration
       log.jsonl                one line every `log_every` steps
       checkpoints/step-000100  the state for a resumption
       weights/                 unet, image_encoder, postfuse_module: an overlay folder for `load_fastcomposer`
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel
from torch import Tensor

from fc_bench.model.attention import attention_for
from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.families.detection import family_of
from fc_bench.model.fastcomposer.forward import FastComposer, Losses
from fc_bench.model.fastcomposer.localization import map_sizes
from fc_bench.model.fastcomposer.overlay import PARTS, check_family
from fc_bench.model.fastcomposer.postfuse import PostfuseModule, check_features
from fc_bench.model.fastcomposer.prompts import check_tokenizer
from fc_bench.model.fastcomposer.references import extend_projection, load_image_encoder, reference_size
from fc_bench.model.fastcomposer.unet_difference import load_unet
from fc_bench.model.kernel_choice import for_training, is_large
from fc_bench.model.kernels import arrange
from fc_bench.model.low_rank import add_adapter
from fc_bench.model.stored_weights import load_whole
from fc_bench.model.training.batches import BatchSource, FileBatches, FrozenEncoders, ImageFiles, Stream
from fc_bench.model.training.cache import CacheBuilder, CachedBatches
from fc_bench.model.training.config import OptimizerConfig, TrainingConfig
from fc_bench.model.training.dataset import Record, read_records, tokenize
from fc_bench.model.training.draws import SampleDraws, subject_table
from fc_bench.model.training.log import TrainingLog
from fc_bench.model.yaml_file import read_yaml

log = logging.getLogger(__name__)

MAY_CHANGE = {
    "max_steps",
    "max_seconds",
    "log_every",
    "tensorboard",
    "checkpoint_every",
    "checkpoint_seconds",
    "keep_checkpoints",
    "weights_dtype",
}
"""Fields that may change when a training is resumed."""


SEEN_CAPTIONS = 256
"""Number of captions that a new post-fuse module takes its scale from."""
CAPTIONS_AT_ONCE = 16
Watch = Callable[[int, Path], None]
"""A callback with the step and the folder of the weights, called after every checkpoint."""


def train(config: TrainingConfig, resume: bool = False, watch: Watch | None = None) -> Path:
    """Train and return the folder of the written weights.

    `resume` continues from the newest checkpoint in the output folder, if there is one. `watch` is called in the main
    process after each checkpoint, and its time does not count. Raises ModelInputError for unusable data, models or
    output folders.
    """
    training = Training(config, resume, watch)
    training.run()
    return config.output / "weights"


def learning_rate_factor(optimizer: OptimizerConfig, step: int, progress: float) -> float:
    """The learning rate of update `step` (from 0) as a fraction of its peak, at a progress of 0 to 1."""
    factor = min(1.0, (step + 1) / optimizer.warmup_steps) if optimizer.warmup_steps else 1.0
    if optimizer.schedule == "cosine":
        floor = optimizer.final_fraction
        factor *= floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return factor


class Progress:
    """The progress of a training, which every checkpoint contains."""

    def __init__(self) -> None:
        self.step = 0
        """Number of updates."""
        self.elapsed = 0.0
        """Seconds in the loop, including those before a resumption."""

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"step": self.step, "elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.step, self.elapsed = int(state["step"]), float(state["elapsed"])


class Training:
    """One training run: models, batches, optimizer and output.

    Raises ModelInputError for unusable data, models or output folders.
    """

    def __init__(self, config: TrainingConfig, resume: bool, watch: Watch | None = None):
        self.config, self.watch = config, watch
        AcceleratorState._reset_state()  # an earlier training in this process may have used another precision
        self.accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            gradient_accumulation_steps=config.gradient_accumulation,
            cpu=config.cpu
            or not torch.accelerator.is_available(),  # explicit, because several processes are not joined otherwise
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=timedelta(hours=12)),  # while one process encodes the dataset
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
        )
        device = self.accelerator.device
        checkpoints = _checkpoints(config.output)
        _check_folders(config)
        self.config = config = self._with_kernels(resume and bool(checkpoints))
        self._check_output(resume, bool(checkpoints))
        torch.manual_seed(config.seed)
        with loading(f"the models of {config.pipeline} and {config.initial or config.image_encoder}"):
            self.model = _load_model(config).to(device)
        self.model.sum_over_processes = lambda totals: cast(Tensor, self.accelerator.reduce(totals, "sum"))
        self.parts = self.model.train_parts(config.vision_layers)
        if config.gradient_checkpointing:
            self.model.unet.enable_gradient_checkpointing()
        self.source = self._batch_source(device)
        self.optimizer = torch.optim.AdamW(
            [{"params": parameters, "name": name} for name, parameters in self.parts.items() if parameters],
            lr=1.0,  # set at every step
            betas=config.optimizer.betas,
            weight_decay=config.optimizer.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self.parameters = [parameter for part in self.parts.values() for parameter in part]
        self.ema = EMAModel(self.parameters, decay=config.ema_decay, foreach=True) if config.ema_decay else None
        if self.ema is not None:
            self.ema.to(device)
        self.progress = Progress()
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self.accelerator.register_for_checkpointing(self.progress)
        if self.ema is not None:
            self.accelerator.register_for_checkpointing(self.ema)
        if checkpoints:
            self.accelerator.load_state(str(checkpoints[-1]))
            if self.ema is not None:
                self.ema.to(device)  # its loaded state lies on the CPU
            log.info("resumed at step %d", self.progress.step)
        self.started = time.monotonic() - self.progress.elapsed
        self.last_checkpoint = self.progress.elapsed

    def _with_kernels(self, resumed: bool) -> TrainingConfig:
        """The configuration with attention and memory format: as requested, else as recorded, else chosen here."""
        config = self.config
        named = {"attention": config.attention, "memory_format": config.memory_format}
        if "auto" not in named.values():
            return config
        if resumed:
            earlier = self._recorded()
            chosen = {name: getattr(earlier, name) for name in named}
        else:
            precision = "bfloat16" if config.mixed_precision == "bf16" else "float32"
            with self.accelerator.main_process_first():  # the others read what it has measured
                kernels = for_training(config.pipeline, config.data.resolution, self.accelerator.device.type, precision)
            chosen = {"attention": kernels.attention, "memory_format": kernels.unet}
        return config.model_copy(update={name: chosen[name] for name, value in named.items() if value == "auto"})

    def _recorded(self) -> TrainingConfig:
        """The configuration of the training in the output folder; earlier versions did not record what auto chose."""
        earlier = read_yaml(self.config.output / "config.yaml", TrainingConfig)
        chosen = {"attention": attention_for(self.accelerator.device), "memory_format": "contiguous"}
        return earlier.model_copy(
            update={name: value for name, value in chosen.items() if getattr(earlier, name) == "auto"}
        )

    def _check_output(self, resume: bool, has_checkpoint: bool) -> None:
        """Refuse to overwrite another training; write this training's configuration."""
        config, file = self.config, self.config.output / "config.yaml"
        resolved = yaml.safe_load(yaml.safe_dump(json.loads(config.model_dump_json())))
        if has_checkpoint and not resume:
            raise ModelInputError(
                f"{config.output} already holds a training: add --resume to continue it, or choose another folder"
            )
        if has_checkpoint:
            earlier = self._recorded()
            changed = [k for k in resolved if k not in MAY_CHANGE and getattr(earlier, k) != getattr(config, k)]
            if changed:
                raise ModelInputError(
                    f"{config.output} was trained with other values of {', '.join(changed)}: restore them "
                    f"(see {file}) or choose another output folder"
                )
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            try:
                config.output.mkdir(parents=True, exist_ok=True)
                file.write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")
            except OSError as error:
                raise ModelInputError(
                    f"the output folder {config.output} cannot be written ({error.strerror}): choose another"
                ) from error

    def _batch_source(self, device: torch.device) -> BatchSource:
        config, unet = self.config, self.model.unet
        data = config.data
        records = read_records(data.root, data.split, data.labels)
        extra = read_records(data.root, data.reference_split, data.labels) if data.reference_split else []
        table = subject_table(records, extra)
        family = self.model.family
        with loading(f"the pipeline {config.pipeline}"):
            vae = family.load_part("vae", config.pipeline, torch.float32)
            text = family.load_text(config.pipeline, torch.float32)
        for tokenizer, text_encoder in zip(text.tokenizers, text.encoders, strict=True):
            check_tokenizer(tokenizer, text_encoder)
        if device.type == "cpu" and is_large(config.pipeline, data.resolution):
            arrange(vae, "channels-last")
        exact = family.autoencoder_dtype(config.pipeline / "vae", torch.float16) is torch.float32
        encoders = FrozenEncoders(family, vae, text, device, half_vae=config.mixed_precision == "bf16" and not exact)
        if config.initial is None and not family.normalized:
            self._take_scale(records[:SEEN_CAPTIONS], encoders)
        stream = Stream(
            SampleDraws(table, config.data, config.seed),
            config,
            self.model.diffusion.num_timesteps,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        latent_size = encoders.latent_size(config.data.resolution)
        supervised = map_sizes(unet, self.model.localization_layers, latent_size)
        if config.cache is None:
            files = ImageFiles([*records, *extra], text.tokenizers, stream, reference_size(self.model.image_encoder))
            return FileBatches(files, encoders, supervised, config.data.workers)
        every = [name for name in unet.attn_processors if ".attn2." in name]
        builder = CacheBuilder(
            config,
            config.cache,
            [*records, *extra],
            table,
            encoders,
            self.model.image_encoder,
            map_sizes(unet, every, latent_size),
        )
        with self.accelerator.main_process_first():
            builder.build()
        encoders.release()
        return CachedBatches(builder.open(), stream, supervised, encoders.scaling_factor, device, config.data.workers)

    def _take_scale(self, records: list[Record], encoders: FrozenEncoders) -> None:
        """Give the post-fuse module the scale of the captions' features at their image tokens."""
        parsed = [tokenize(record, encoders.text.tokenizers[0]) for record in records]
        ids = [torch.stack([one.padded_for(own) for one in parsed]) for own in encoders.text.tokenizers]
        at_tokens = torch.stack([one.image_token_mask for one in parsed])
        if at_tokens.any():
            parts = zip(*(own.split(CAPTIONS_AT_ONCE) for own in ids), strict=True)
            text = torch.cat([encoders.condition(part).text for part in parts])
            self.model.postfuse_module.take_scale(text[at_tokens.to(text.device)])

    def run(self) -> None:
        """Train until the steps or the time are used up, with checkpoints in between; write the weights."""
        config, accelerator, progress = self.config, self.accelerator, self.progress
        history = TrainingLog(config, accelerator.is_main_process, progress.step)
        batches = self.source.batches(progress.step * config.gradient_accumulation)
        self.wrapped.train()
        while not self._finished():
            rates = self._set_learning_rates()
            losses, norm = torch.zeros(3, device=accelerator.device), torch.zeros(())
            for _ in range(config.gradient_accumulation):
                with accelerator.accumulate(self.wrapped):
                    with accelerator.autocast():
                        batch = next(batches)
                    step_losses: Losses = self.wrapped(batch)
                    accelerator.backward(step_losses.total)
                    self.model.forget_attention()
                    losses += torch.stack([loss.detach() for loss in step_losses]) / config.gradient_accumulation
                    if accelerator.sync_gradients:
                        limit = config.optimizer.clip or math.inf
                        norm = torch.as_tensor(accelerator.clip_grad_norm_(self.parameters, limit))
                    self.optimizer.step()
                    self.optimizer.zero_grad(set_to_none=True)
            if self.ema is not None:
                self.ema.step(self.parameters)
            progress.step += 1
            self._tick()
            self._update_finite(losses, norm)
            history.add(torch.cat([losses, norm.detach().reshape(1).to(losses)]))
            if progress.step % config.log_every == 0:
                samples = progress.step * config.batch_size * config.gradient_accumulation * accelerator.num_processes
                means = cast(Tensor, accelerator.reduce(history.means(), "mean"))
                history.write(progress.step, progress.elapsed, samples, means, rates)
            if self._checkpoint_due():
                self.save()
        if _step_of(_checkpoints(config.output)) != progress.step:
            self.save()
        elif accelerator.is_main_process and _written_step(config.output / "weights") != progress.step:
            self._save_weights()
        accelerator.wait_for_everyone()
        history.close()
        accelerator.end_training()

    def _update_finite(self, losses: Tensor, norm: Tensor) -> None:
        """Record whether losses and gradients are finite, without waiting for the device.

        With fp16, gradients may be infinite, because the scaler skips such updates.
        """
        finite = torch.isfinite(losses).all()
        if self.config.mixed_precision != "fp16":
            finite = finite & torch.isfinite(norm.to(finite.device)).all()
        self.finite = self.finite & finite

    def _require_finite(self) -> None:
        """Refuse to save a training that has diverged."""
        if not self.finite:
            raise ModelInputError(
                f"the loss or its gradient in {self.config.output} is no longer finite at step {self.progress.step}: "
                "lower the learning rate or use mixed_precision bf16, and resume from the last checkpoint"
            )

    def _finished(self) -> bool:
        return self._fraction() >= 1

    def _fraction(self) -> float:
        """Progress from 0 to 1: max(step / max_steps, elapsed / max_seconds)."""
        config, progress = self.config, self.progress
        by_steps = progress.step / config.max_steps if config.max_steps else 0.0
        by_time = progress.elapsed / config.max_seconds if config.max_seconds else 0.0
        return max(by_steps, by_time)

    def _tick(self) -> None:
        """Read the clock; all processes use the time of the first one, so that they make the same decisions."""
        elapsed = time.monotonic() - self.started
        if self.accelerator.num_processes > 1:
            clock = torch.tensor([elapsed], dtype=torch.float64, device=self.accelerator.device)
            elapsed = float(broadcast(clock)[0])
        self.progress.elapsed = elapsed

    def _set_learning_rates(self) -> dict[str, float]:
        factor = learning_rate_factor(self.config.optimizer, self.progress.step, self._fraction())
        rates = {}
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["name"]] = factor * getattr(self.config.optimizer.learning_rate, group["name"])
        return rates

    def _checkpoint_due(self) -> bool:
        config, progress = self.config, self.progress
        by_steps = config.checkpoint_every is not None and progress.step % config.checkpoint_every == 0
        since = progress.elapsed - self.last_checkpoint
        return by_steps or (config.checkpoint_seconds is not None and since >= config.checkpoint_seconds)

    def save(self) -> None:
        """Write the weights and a checkpoint; an interruption keeps the earlier ones.

        The weights are written first, so they are never older than the newest checkpoint. Raises ModelInputError and
        writes nothing if losses or gradients were not finite since the last resumption.
        """
        self._require_finite()
        self.last_checkpoint = self.progress.elapsed
        folder = self.config.output / "checkpoints"
        partial = folder / "partial"
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._save_weights()
            partial.rename(folder / f"step-{self.progress.step:08d}")
            for old in _checkpoints(self.config.output)[: -self.config.keep_checkpoints]:
                shutil.rmtree(old)
            if self.watch is not None:
                begun = time.monotonic()
                self.watch(self.progress.step, self.config.output / "weights")
                self.started += time.monotonic() - begun
        self.accelerator.wait_for_everyone()

    def _save_weights(self) -> None:
        """Write the overlay folder, with averaged weights if there is an average."""
        folder, partial = self.config.output / "weights", self.config.output / "weights.partial"
        shutil.rmtree(partial, ignore_errors=True)
        kept = [parameter.detach().clone() for parameter in self.parameters]
        if self.ema is not None:
            self.ema.copy_to(self.parameters)
        for name in PARTS:
            part = deepcopy(getattr(self.model, name)).to(memory_format=torch.contiguous_format)
            if name == "unet" and self.config.lora is not None:
                part.fuse_lora()
                part.unload_lora()
            (part.half() if self.config.weights_dtype == "float16" else part.float()).save_pretrained(partial / name)
        with torch.no_grad():
            for parameter, value in zip(self.parameters, kept, strict=True):
                parameter.copy_(value)
        summary = {**self.progress.state_dict(), "averaged": self.ema is not None, "dtype": self.config.weights_dtype}
        (partial / "training.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def _check_folders(config: TrainingConfig) -> None:
    """Raise ModelInputError for a model folder that does not exist."""
    needed = [config.pipeline, config.image_encoder]
    if config.initial is not None:
        if config.initial.is_file():
            raise ModelInputError(
                f"the weights {config.initial} to start from are a file: name a folder with {', '.join(PARTS)}, as "
                "fc_bench.model.fastcomposer.convert writes it"
            )
        needed += [config.initial / part for part in PARTS]
    for folder in needed:
        _require_folder(folder)
    family = family_of(config.pipeline)
    for name in (*(part.name for part in family.parts), *(own.tokenizer for own in family.encoders), "scheduler"):
        _require_folder(config.pipeline / name)
    if config.initial is not None:
        check_family(config.initial, config.pipeline)


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelInputError(f"the model folder {folder} does not exist: check the paths in the configuration")


def _load_model(config: TrainingConfig) -> FastComposer:
    unet_folder, vision_folder = config.pipeline / "unet", config.image_encoder
    if config.initial is not None:
        unet_folder, vision_folder = config.initial / "unet", config.initial / "image_encoder"
    unet = load_unet(unet_folder, config.pipeline)
    arrange(unet, "channels-last" if config.memory_format == "channels-last" else "contiguous")
    image_encoder = load_image_encoder(vision_folder, starting_from=config.image_encoder)
    features = unet.config["cross_attention_dim"]
    family = family_of(config.pipeline)
    first, *others = family.encoder_features(config.pipeline)
    if others and image_encoder.config.projection_dim == first:
        extend_projection(image_encoder, sum((first, *others)))
    if config.lora is not None:
        add_adapter(unet, config.lora.rank, family.denoiser_adapters)
    if config.initial is not None:
        postfuse = load_whole(PostfuseModule, config.initial / "postfuse_module")
    else:
        postfuse = PostfuseModule(features=features)
    check_features(
        postfuse=postfuse.config["features"],
        text=sum((first, *others)),
        image=image_encoder.config.projection_dim,
        unet=features,
    )
    return FastComposer(
        family,
        unet,
        image_encoder,
        postfuse,
        family.diffusion(config.pipeline),
        config.localization.weight,
        config.localization.groups,
        config.localization.normalize,
        None if config.localization.average == "auto" else config.localization.average,
        config.masked_loss_normalization,
        config.attention if config.attention != "auto" else "sdpa",
    )


def _checkpoints(output: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    return sorted((output / "checkpoints").glob("step-*"))


def _written_step(weights: Path) -> int | None:
    file = weights / "training.json"
    return json.loads(file.read_text(encoding="utf-8"))["step"] if file.is_file() else None


def _step_of(checkpoints: list[Path]) -> int | None:
    return int(checkpoints[-1].name.removeprefix("step-")) if checkpoints else None
