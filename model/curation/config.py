"""The configuration of a curation, one YAML file; its defaults are the paper's (arXiv 2305.10431, section 5.1)."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from fc_bench.model.settings import Settings
from fc_bench.model.training.config import Probability
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import read_yaml


class CaptionerConfig(Settings):
    """An image-to-text model of transformers: BLIP-2 or another one that AutoModelForImageTextToText loads."""

    model: str = "Salesforce/blip2-opt-2.7b"
    """Folder (relative to the file) or hub id; the same holds for all models in this file."""
    prompt: str | None = None
    """A prompt that the model continues or answers; null: a plain caption."""
    max_new_tokens: PositiveInt = 30
    batch_size: PositiveInt = 8


class SegmenterConfig(Settings):
    """A Mask2Former for panoptic segmentation."""

    model: str = "facebook/mask2former-swin-large-coco-panoptic"
    threshold: Probability = 0.8
    """Lowest confidence of a segment."""
    min_share: Probability = 0.005
    """Smallest share of the image's area for a subject; smaller segments are ignored."""
    batch_size: PositiveInt = 4


class PhrasesConfig(Settings):
    """The source of noun phrases: spaCy's noun chunks, or listed class nouns with the words before them."""

    spacy: str | None = "en_core_web_sm"
    nouns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_source(self) -> "PhrasesConfig":
        if (self.spacy is None) == (not self.nouns):
            raise ValueError("give either `nouns:` with `spacy: null`, or only a spaCy model")
        return self


class MatcherConfig(Settings):
    """CLIP, which measures how well a phrase describes a segment's crop, and a sentence model for phrase and class."""

    clip: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    sentences: str | None = "sentence-transformers/all-mpnet-base-v2"
    """A sentence model, whose similarity of phrase and class is multiplied with CLIP's similarity; null: none."""
    reads: Literal["description", "phrase"] = "description"
    """CLIP's text for a subject: the phrase with the caption's description after it, or only the phrase, as in the
    paper."""
    assignment: Literal["optimal", "greedy"] = "optimal"
    """optimal: the one-to-one matching with the largest sum; greedy: the largest similarity first, as in the paper."""
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0
    """Smallest similarity of a matched phrase and segment; -1: match as many as possible."""
    template: Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")] = "a photo of {}"
    """Template of CLIP's text, with {} for the phrase or description."""
    background: Literal["keep", "gray"] = "gray"
    """Whether the background of a segment's crop is gray or kept."""


class CurationConfig(Settings):
    """All settings of a curation; relative paths are relative to the file."""

    images: Path
    """Folder with the images; its subfolders are searched as well, except for the output."""
    output: Path
    """Folder of the training set and of intermediate results (`work/`)."""
    captioner: CaptionerConfig = CaptionerConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    phrases: PhrasesConfig = PhrasesConfig()
    matcher: MatcherConfig = MatcherConfig()
    test_share: Probability = 0.01
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    sheet_images: PositiveInt = 40
    """Number of images on the contact sheet."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


def load_curation(path: Path) -> CurationConfig:
    """The curation's configuration in a YAML file; raises ModelInputError with file, line and field if it is wrong."""
    config, folder = read_yaml(path, CurationConfig), path.parent.resolve()

    def beside(section: Any, *names: str) -> Any:
        """The section with the paths of those models that are folders beside the file; other models stay names."""
        named = {name: getattr(section, name) for name in names}
        folders = {name: folder / expanded(given) for name, given in named.items() if given}
        return section.model_copy(update={name: str(place) for name, place in folders.items() if place.is_dir()})

    places: dict[str, Any] = {name: folder / expanded(getattr(config, name)) for name in ("images", "output")}
    models = {
        "captioner": beside(config.captioner, "model"),
        "segmenter": beside(config.segmenter, "model"),
        "phrases": beside(config.phrases, "spacy"),
        "matcher": beside(config.matcher, "clip", "sentences"),
    }
    return config.model_copy(update={**places, **models})
