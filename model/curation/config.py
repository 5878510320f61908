"""What a curation is: one YAML file. The defaults are the paper's models (arXiv 2305.10431, section 5.1)."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from fc_bench.model.settings import Settings
from fc_bench.model.training.config import Probability
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import read_yaml


class CaptionerConfig(Settings):
    """An image-to-text model of transformers: BLIP-2, or any that AutoModelForImageTextToText loads."""

    model: str = "Salesforce/blip2-opt-2.7b"
    """Folder (relative to the file) or hub id, as everywhere here."""
    prompt: str | None = None
    """What the model is to continue or answer; null for a plain caption."""
    max_new_tokens: PositiveInt = 30
    batch_size: PositiveInt = 8


class SegmenterConfig(Settings):
    """A panoptic Mask2Former."""

    model: str = "facebook/mask2former-swin-large-coco-panoptic"
    threshold: Probability = 0.8
    """Lowest confidence of a segment."""
    min_share: Probability = 0.005
    """Of the image's area; smaller segments are no subjects."""
    batch_size: PositiveInt = 4


class PhrasesConfig(Settings):
    """Where noun phrases come from: spaCy's noun chunks, or the class nouns listed, with what stands before them."""

    spacy: str | None = "en_core_web_sm"
    nouns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> "PhrasesConfig":
        if (self.spacy is None) == (not self.nouns):
            raise ValueError("give `nouns:` with `spacy: null`, or a spaCy model alone")
        return self


class MatcherConfig(Settings):
    """CLIP, which says how well a phrase describes a segment's crop, and a sentence model for phrase and class."""

    clip: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    sentences: str | None = "sentence-transformers/all-mpnet-base-v2"
    """Its similarity of the phrase and the segment's class multiplies CLIP's; null leaves it out."""
    reads: Literal["description", "phrase"] = "description"
    """What CLIP reads of a subject: the phrase with what the caption goes on to say of it, or the phrase alone, as the
    paper does."""
    assignment: Literal["optimal", "greedy"] = "optimal"
    """The one-to-one matching with the largest sum, or, as the paper has it, the largest similarity first."""
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0
    """Of the product; phrases and segments less alike are not matched. -1 matches as many as there are."""
    template: Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")] = "a photo of {}"
    """With the phrase or description in the place of {}."""
    background: Literal["keep", "gray"] = "gray"
    """What surrounds a segment in the crop that CLIP sees."""


class CurationConfig(Settings):
    """A whole curation; relative paths are relative to the file."""

    images: Path
    """Folder that is searched, with all folders in it but the output, for .jpg, .jpeg, .png and .webp."""
    output: Path
    """The training set, and what is computed on the way (`work/`)."""
    captioner: CaptionerConfig = CaptionerConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    phrases: PhrasesConfig = PhrasesConfig()
    matcher: MatcherConfig = MatcherConfig()
    test_share: Probability = 0.01
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    sheet_images: PositiveInt = 40
    """On the contact sheet."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


def load_curation(path: Path) -> CurationConfig:
    """Read a curation's file. Raises ModelInputError with the file, line and field if something is wrong."""
    config, folder = read_yaml(path, CurationConfig), path.parent.resolve()

    def beside(section: Any, *names: str) -> Any:
        """The section with each model that is a folder beside the file as its path; any other stays a name."""
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
