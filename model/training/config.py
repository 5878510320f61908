"""What a training run is: one YAML file, checked before anything is loaded.

The defaults are the paper's (FastComposer, arXiv 2305.10431, section 5.1). Relative paths are relative to the file.
Where the authors' implementation goes beyond the paper, this one departs from it in the following:

- Training targets are not flipped; only the subjects' crops are.
- The first four segments of a caption are read, not a random four of more (`max_subjects` are drawn of these).
- Segmentation maps are resized without interpolation, also where a tall image is padded at its sides.
- Crops are zoomed into their center, not into their top; are padded to a square before and not after zooming; color
  jitter changes brightness, contrast and saturation, but not the hue.
- The augmentations that move pixels are one resampling, and elastic deformation is drawn on a coarse grid.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from fc_bench.model.fastcomposer.prompts import MAX_SUBJECTS
from fc_bench.model.settings import GradientNorm, Settings
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import read_yaml

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class AugmentationConfig(Settings):
    """Random changes of a subject crop, each with its probability (0 switches it off)."""

    zoom: Probability = 0.5
    max_zoom: Annotated[float, Field(ge=1)] = 2.0
    rotate: Probability = 0.75
    max_degrees: NonNegative = 30.0
    color_jitter: Probability = 0.5
    jitter_strength: Annotated[float, Field(ge=0, lt=1)] = 0.5
    blur: Probability = 0.5
    max_blur: Annotated[float, Field(gt=0, le=0.1)] = 0.01
    """Largest standard deviation of the blur, as a fraction of the crop's side."""
    grayscale: Probability = 0.1
    flip: Probability = 0.5
    elastic: Probability = 0.5
    elastic_strength: NonNegative = 0.03
    """Standard deviation of the displacement, as a fraction of the crop's side."""


class DataConfig(Settings):
    """Images, captions and subjects, in the layout of the released FFHQ training set (see `dataset`)."""

    root: Path
    split: str = "train"
    """Reads image_ids_<split>.txt."""
    labels: tuple[str, ...] | None = None
    """Only segments of these classes (their coco_label) are subjects; null takes all."""
    reference: Literal["same-image", "other-image"] = "same-image"
    """Where a subject's reference comes from; other-image needs segments with "subject" (a subject with no other
    image uses its own)."""
    reference_split: str | None = None
    """With other-image: take references from the images of this list instead, which are then no training targets."""
    resolution: Annotated[int, Field(ge=8, le=4096)] = 512
    background: Literal["noise", "keep"] = "noise"
    """What replaces the surroundings of a subject in its crop."""
    augmentation: AugmentationConfig | None = AugmentationConfig()
    variants: PositiveInt | None = None
    """How many fixed draws of background and augmentation each crop has; null draws anew every time."""
    max_subjects: Annotated[int, Field(ge=1, le=MAX_SUBJECTS)] = MAX_SUBJECTS
    p_unconditional: Probability = 0.1
    p_text_only: Probability = 0.0
    p_keep_subject: Probability = 0.9
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Processes that prepare batches ahead and read images for the cache; useful beside an accelerator."""

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.p_unconditional + self.p_text_only > 1:
            raise ValueError("p_unconditional and p_text_only add up to more than 1")
        if self.reference_split is not None and self.reference == "same-image":
            raise ValueError("reference_split needs reference: other-image")
        return self


class CacheConfig(Settings):
    """Encode the dataset once and train from memory-mapped arrays.

    Exact (the latents are resampled from the posterior at every step) but for the rounding of `dtype`; fixed
    `data.variants` of the crops are the one approximation.
    """

    folder: Path
    dtype: Literal["float16", "float32"] = "float16"
    vision: bool = False
    """Also the hidden states below the trained vision layers (not with vision_layers: all)."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Images encoded at once."""


class LocalizationConfig(Settings):
    """The cross-attention localization loss; weight 0 switches it off."""

    weight: NonNegative = 1e-3
    groups: PositiveInt | tuple[str, ...] = 5
    """The number of middle cross-attention groups of the UNet that are supervised, or their names."""
    normalize: bool = False


class LearningRates(Settings):
    """Of each trained part."""

    unet: NonNegative = 1e-5
    postfuse_module: NonNegative = 1e-5
    image_encoder: NonNegative = 1e-5


class OptimizerConfig(Settings):
    """AdamW and its schedule.

    The schedule runs over the progress max(step / max_steps, elapsed / max_seconds).
    """

    learning_rate: LearningRates = LearningRates()
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    weight_decay: NonNegative = 1e-2
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    final_fraction: Probability = 0.0
    """Of the learning rate, at the end of a cosine schedule."""
    clip: GradientNorm = 1.0
    """Largest norm of the gradient of all trained parts together; null: there is no limit."""


class Recipe(Settings):
    """How to train, whatever the models and wherever the result goes."""

    initial: Path | None = None
    """Overlay folder of a training to start from, instead of the pipeline's UNet and a fresh post-fuse module."""
    data: DataConfig
    cache: CacheConfig | None = None
    localization: LocalizationConfig = LocalizationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    vision_layers: Annotated[int, Field(ge=0)] | Literal["all"] = 2
    """How many of the image encoder's last layers are trained; all includes embeddings and projection."""
    p_masked_loss: Probability = 0.5
    masked_loss_normalization: Literal["pixels", "area"] = "pixels"
    stratified_timesteps: bool = False
    """One timestep from each of batch_size equal intervals, instead of independent ones."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 8
    """Of each process and forward pass."""
    gradient_accumulation: PositiveInt = 1
    gradient_checkpointing: bool = False
    """Of the UNet."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """auto: eager on a CPU, where the backward pass of fused attention is slow; sdpa elsewhere."""
    max_steps: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    """Time in the loop, over all resumptions."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Write an exponential moving average of the weights; null writes the last ones."""
    weights_dtype: Literal["float32", "float16"] = "float32"
    """Of the written weights."""
    log_every: PositiveInt = 10
    tensorboard: bool = False
    checkpoint_every: PositiveInt | None = None
    """Steps between checkpoints."""
    checkpoint_seconds: PositiveFloat | None = 900.0
    """Seconds between checkpoints."""
    keep_checkpoints: PositiveInt = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    cpu: bool = False
    """Train on the CPU even where there is an accelerator."""

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if self.max_steps is None and self.max_seconds is None:
            raise ValueError("max_steps or max_seconds is needed, the training would never end")
        if self.cache is not None and self.data.variants is None:
            raise ValueError("a cache needs data.variants, the number of fixed draws of each crop that it holds")
        if self.cache is not None and self.cache.vision and self.vision_layers == "all":
            raise ValueError("cache.vision needs frozen lower vision layers: set vision_layers to a number")
        return self


class TrainingConfig(Recipe):
    """A whole training run."""

    pipeline: Path
    """Stable-Diffusion-shaped pipeline folder: VAE, text encoder, tokenizer, UNet, scheduler."""
    image_encoder: Path
    """CLIPModel or CLIPVisionModelWithProjection folder."""
    output: Path


def load_config(path: Path) -> TrainingConfig:
    """Read a training configuration. Raises ModelInputError with the file, line and field if something is wrong."""
    config = read_yaml(path, TrainingConfig)
    return config.model_copy(update=resolved_paths(config, path.parent.resolve()))


def resolved_paths(config: Recipe, folder: Path) -> dict[str, Any]:
    """The fields of a configuration that hold paths, relative ones taken from `folder`."""
    names = ("pipeline", "image_encoder", "initial", "output")
    resolved: dict[str, Any] = {
        name: folder / expanded(place) for name in names if (place := getattr(config, name, None)) is not None
    }
    resolved["data"] = config.data.model_copy(update={"root": folder / expanded(config.data.root)})
    if config.cache is not None:
        resolved["cache"] = config.cache.model_copy(update={"folder": folder / expanded(config.cache.folder)})
    return resolved
