"""The configuration of a training run: one YAML file, which is checked before any model is loaded.

The defaults are those of the paper (FastComposer, arXiv 2305.10431, section 5.1). Relative paths are relative to the
file. The paper leaves some details open; in these, the training differs from the authors' implementation as follows:

- Only the subjects' crops are flipped, not the training targets.
- The first four segments of a caption are read, not a random four. `max_subjects` of them are drawn.
- Segmentation maps are resized without interpolation, also when a tall image is padded at its sides.
- Crops are padded to a square before zooming, and the zoom goes into their center instead of their top.
- Color jitter changes brightness, contrast and saturation, but not hue.
- All augmentations that move pixels are one resampling, and elastic deformation is drawn on a coarse grid.

Nobody published a training on Stable Diffusion XL. There it differs as follows:

- The projection of a plain CLIP model gets new rows for the second text encoder, and is trained (PhotoMaker, arXiv
  2312.04461, whose image encoder has two projections).
- The last norm of a new post-fuse module has the mean and deviation of the captions' features at their image tokens,
  which the UNet knows: these text encoders' features leave them without a norm.
- A dropped caption is zeros, also its pooled feature; time ids are those of each photograph's size and crop; images are
  encoded in float32 (arXiv 2307.01952 and the training scripts of diffusers).
- Localization is the mean of the groups' means, see `localization.usual_average`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from fc_bench.model.fastcomposer.prompts import TRAINED_SUBJECTS
from fc_bench.model.settings import GradientNorm, Settings
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import read_yaml

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class AugmentationConfig(Settings):
    """Augmentation of subject crops; each kind has a probability, and 0 turns it off."""

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
    """Name of the split, which image_ids_<split>.txt lists."""
    labels: tuple[str, ...] | None = None
    """Classes (coco_label) of the segments that are subjects; null: all classes."""
    reference: Literal["same-image", "other-image"] = "same-image"
    """The source of a subject's reference; other-image needs segments with "subject", and a subject without another
    image uses its own image."""
    reference_split: str | None = None
    """With other-image: a split that provides the references instead, and is not used for training targets."""
    resolution: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 512
    background: Literal["noise", "keep"] = "noise"
    """Whether noise replaces the background of a subject's crop, or the background is kept."""
    augmentation: AugmentationConfig | None = AugmentationConfig()
    variants: PositiveInt | None = None
    """Number of fixed draws of background and augmentation per crop; null: a new draw every time."""
    max_subjects: Annotated[int, Field(ge=1, le=TRAINED_SUBJECTS)] = TRAINED_SUBJECTS
    p_unconditional: Probability = 0.1
    p_text_only: Probability = 0.0
    p_keep_subject: Probability = 0.9
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Number of processes that prepare batches in advance and read images for the cache, useful with an accelerator."""

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.p_unconditional + self.p_text_only > 1:
            raise ValueError("p_unconditional and p_text_only add up to more than 1; lower one of them")
        if self.reference_split is not None and self.reference == "same-image":
            raise ValueError("reference_split needs reference: other-image")
        return self


class CacheConfig(Settings):
    """The cache, which encodes the dataset once; training then reads memory-mapped arrays.

    It is exact except for the rounding of `dtype`, because the latents are sampled from their posterior at every step.
    The only approximation is the fixed number of crop variants (`data.variants`).
    """

    folder: Path
    dtype: Literal["float16", "float32"] = "float16"
    vision: bool = False
    """Whether to cache the hidden states below the trained vision layers as well; not with vision_layers: all."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Number of images that are encoded together."""


class LocalizationConfig(Settings):
    """The cross-attention localization loss; a weight of 0 turns it off."""

    weight: NonNegative = 1e-3
    groups: PositiveInt | tuple[str, ...] = 5
    """The number of supervised middle cross-attention groups in the UNet, or their names."""
    normalize: bool = False
    average: Literal["auto", "layers", "groups"] = "auto"
    """What counts equally: each layer, as in the paper, or each group.

    auto: groups where blocks have several layers each, as in Stable Diffusion XL; layers elsewhere.
    """


class LearningRates(Settings):
    """The learning rate of each trained part."""

    unet: NonNegative = 1e-5
    postfuse_module: NonNegative = 1e-5
    image_encoder: NonNegative = 1e-5


class OptimizerConfig(Settings):
    """AdamW and its schedule, which depends on the progress max(step / max_steps, elapsed / max_seconds)."""

    learning_rate: LearningRates = LearningRates()
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    weight_decay: NonNegative = 1e-2
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    final_fraction: Probability = 0.0
    """Fraction of the learning rate that remains at the end of a cosine schedule."""
    clip: GradientNorm = 1.0
    """Largest norm of the gradient over all trained parts; null: no limit."""


class LoRAConfig(Settings):
    """Low-rank adapters on all attention layers of the UNet, as PhotoMaker publishes one."""

    rank: PositiveInt = 64


class Recipe(Settings):
    """The settings of a training except for models and output folder."""

    initial: Path | None = None
    """Overlay folder of an earlier training to start from; null: the pipeline's UNet and a new post-fuse module."""
    data: DataConfig
    cache: CacheConfig | None = None
    localization: LocalizationConfig = LocalizationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lora: LoRAConfig | None = None
    """Adapters that are trained in place of the UNet's weights, and folded into them when the weights are written."""
    vision_layers: Annotated[int, Field(ge=0)] | Literal["all"] = 2
    """Number of trained last layers of the image encoder; all: the whole image encoder."""
    p_masked_loss: Probability = 0.5
    masked_loss_normalization: Literal["pixels", "area"] = "pixels"
    stratified_timesteps: bool = False
    """Whether to draw one timestep from each of batch_size equal intervals instead of independent ones."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 8
    """Batch size per process and forward pass."""
    gradient_accumulation: PositiveInt = 1
    gradient_checkpointing: bool = False
    """Whether the UNet uses gradient checkpointing."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    attention: Literal["auto", "sdpa", "eager", "mixed"] = "auto"
    """sdpa: fused attention; eager: separate matrix products; mixed: eager for maps of at most 1024 x 1024.

    auto: on an accelerator sdpa; on a CPU eager for small latents, and for larger ones the faster of sdpa and mixed,
    timed once. The output's config.yaml has what auto chose, and a resumed training keeps it.
    """
    memory_format: Literal["auto", "contiguous", "channels-last"] = "auto"
    """Memory format of the UNet; auto: the faster one for large latents on a CPU, timed once; contiguous elsewhere."""
    max_steps: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    """Seconds in the training loop, including those before a resumption."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the exponential moving average of the weights that is written; null: the final weights."""
    weights_dtype: Literal["float32", "float16"] = "float32"
    """Number format of the written weights."""
    log_every: PositiveInt = 10
    tensorboard: bool = False
    checkpoint_every: PositiveInt | None = None
    """Number of steps between checkpoints."""
    checkpoint_seconds: PositiveFloat | None = 900.0
    """Number of seconds between checkpoints."""
    keep_checkpoints: PositiveInt = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    cpu: bool = False
    """Whether to train on the CPU even if there is an accelerator."""

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if self.max_steps is None and self.max_seconds is None:
            raise ValueError("max_steps or max_seconds is needed, otherwise the training would never end")
        if self.cache is not None and self.data.variants is None:
            raise ValueError("a cache needs data.variants, the number of fixed draws per crop; set it")
        if self.cache is not None and self.cache.vision and self.vision_layers == "all":
            raise ValueError("cache.vision needs frozen lower vision layers: set vision_layers to a number")
        return self


class TrainingConfig(Recipe):
    """All settings of a training run."""

    pipeline: Path
    """Folder of a Stable Diffusion pipeline: VAE, text encoders, tokenizers, UNet, scheduler."""
    image_encoder: Path
    """Folder of a CLIPModel or CLIPVisionModelWithProjection."""
    output: Path


def load_config(path: Path) -> TrainingConfig:
    """The training configuration in a YAML file; raises ModelInputError with file, line and field if it is wrong."""
    config = read_yaml(path, TrainingConfig)
    return config.model_copy(update=resolved_paths(config, path.parent.resolve()))


def resolved_paths(config: Recipe, folder: Path) -> dict[str, Any]:
    """The fields of a configuration that have paths, with relative paths resolved from `folder`."""
    names = ("pipeline", "image_encoder", "initial", "output")
    resolved: dict[str, Any] = {
        name: folder / expanded(place) for name in names if (place := getattr(config, name, None)) is not None
    }
    resolved["data"] = config.data.model_copy(update={"root": folder / expanded(config.data.root)})
    if config.cache is not None:
        resolved["cache"] = config.cache.model_copy(update={"folder": folder / expanded(config.cache.folder)})
    return resolved
