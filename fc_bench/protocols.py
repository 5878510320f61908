"""The protocols of methods and metrics that plug-ins implement, and the records they exchange."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from fc_bench.model.articles import insert, with_article
from fc_bench.model.kernels import Kernels

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image
    from pydantic import BaseModel

    from fc_bench.model.backbones.backbone import Backbone


@dataclass(frozen=True)
class Subject:
    """A person or thing to put into images; the first photograph is the reference of tuning-free methods.

    The photographs are those that every method and metric gets: squares around the face, or as the suite has them.
    """

    id: str
    noun: str
    photographs: tuple[Path, ...]


@dataclass(frozen=True)
class Sampler:
    """Resolved sampler settings, the same for every method of a run; `resolution` is the image side in pixels."""

    scheduler: Literal["pndm", "ddim", "dpm", "euler"]
    steps: int
    guidance_scale: float
    resolution: int

    @property
    def iterations(self) -> int:
        """UNet calls of an image, where the guided pair counts as one: PNDM makes one more than its steps."""
        return self.steps + (self.scheduler == "pndm" and self.steps > 1)


@dataclass(frozen=True)
class Setting:
    """What all methods of a run share; `dtype` is the name of a torch dtype, `device` a torch device string.

    `compiled` is the torch.compile backend of the sampling UNets (None: not compiled). `remembers_text`: the embeddings
    of a prompt may be cached, for generation alone and never for measuring the cost of an image. `kernels`: attention
    and memory formats for sampling.
    """

    backbone: Backbone
    sampler: Sampler
    device: str
    dtype: str
    compiled: str | None = None
    remembers_text: bool = False
    kernels: Kernels = field(default_factory=Kernels)


@dataclass(frozen=True)
class Conditions:
    """What a prompt asks beside its text.

    `size`: width and height in pixels (None: the sampler's resolution). `boxes`: where each subject is to be, left,
    top, right and bottom as shares of the image (empty: anywhere).
    """

    negative_prompt: str = ""
    size: tuple[int, int] | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    def record(self) -> dict[str, Any]:
        """The conditions that are set, as plain data."""
        found = {name: value for name, value in vars(self).items() if value}
        return {name: [list(box) for box in value] if name == "boxes" else value for name, value in found.items()}


UNCONDITIONED = Conditions()
"""Of a prompt that asks nothing beside its text."""


@dataclass(frozen=True)
class Request:
    """One image to generate.

    `prompt` mentions the subjects with the method's own words, `plain_prompt` with their class nouns alone; the seed is
    that of the image's own generator. All requests of a batch have the same size.
    """

    prompt: str
    plain_prompt: str
    seed: int
    conditions: Conditions = UNCONDITIONED

    def generator(self) -> torch.Generator:
        """A new CPU generator, so that the noise depends on neither batch size nor order nor device."""
        import torch

        return torch.Generator("cpu").manual_seed(self.seed)


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often a customization saves checkpoints: every `every` training steps, in `folder`.

    `folder` exists and belongs to this customization alone. It keeps its content over interruptions and failures, and
    is removed when the customization is finished.
    """

    folder: Path
    every: int


@dataclass(frozen=True)
class Customization:
    """A method fitted to a set of subjects.

    `artefact` is the folder with everything the method stores per subject set (None: nothing). `steps` are the training
    steps taken and `seconds_per_step` the time of one (None: unknown). `details` are added to the job's record. `state`
    belongs to the method and is not recorded. `shared_seconds` were spent on things that all subjects of a class share
    and that are kept (new class images of prior preservation); they are recorded separately from the job's own seconds.
    `earlier_seconds` were spent before an interruption, up to the checkpoint from which the job continued; they count
    as the job's.
    """

    subjects: tuple[Subject, ...]
    artefact: Path | None = None
    steps: int = 0
    seconds_per_step: float | None = None
    earlier_seconds: float = 0.0
    shared_seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
    state: Any = None


@dataclass(frozen=True)
class AskedSet:
    """A subject set of a request to a method: `prompts` gives its prompts with a mention of each subject filled in.

    `conditions` are what the prompts ask beside their texts, `nameless` the prompts that name nobody.
    """

    subjects: tuple[Subject, ...]
    prompts: Callable[[Sequence[str]], Sequence[str]]
    conditions: Sequence[Conditions] = ()
    nameless: Sequence[str] = ()


class Method(Protocol):
    """A method that puts subjects into images. Registered as an entry point of the group `fc_bench.methods`.

    The class is called with the run's setting and its validated options; heavy loading belongs there. An exception from
    `customize` fails that job, one from `generate` the samples not yet yielded; the run continues. Training steps are
    counted by an option named `steps`, if there is one: cost measurements may take fewer steps and extrapolate.

    Optional classmethods: `complete_options(backbone, options)` returns the options with the values that the backbone
    decides; it is called before options are recorded and compared. `remark(options, subjects)` returns a footnote for
    the tables about sets of `subjects` subjects (an extension of a paper's protocol, for example), or None.
    `references(options)` returns the largest number of photographs of a subject that the method uses, if it uses more
    than the first; the tables show it. `check(setting, options, asked)` raises UserError if the method will refuse some
    of `asked`, a sequence of `AskedSet`, with a sentence that says what and which option to set; it is called before
    anything is generated.

    Optional class attributes: `conditions`, a frozenset of the names of the `Conditions` that the method uses (by
    default none): the tables remark on unused ones, and a suite with another size is refused. `mentions_subjects =
    False` for a method that gets its subjects without a mention in the prompt (by default a prompt that names nobody is
    refused).

    Optional protocols: `Restorable` for methods that can be loaded from their artefact, `UsesClassImages` for methods
    that train with class images, `Periodic` for methods whose steps are not all alike, and `SharesPrefixes` for methods
    whose first steps use the text alone.
    """

    description: ClassVar[str]
    max_subjects: ClassVar[int]
    uses_photographs: ClassVar[bool]
    """False if the image depends on prompt and seed alone; equal requests are then generated once and shared."""
    Options: ClassVar[type[BaseModel]]

    def __init__(self, setting: Setting, options: Any) -> None: ...

    @classmethod
    def weights(cls, backbone: Backbone, options: Any) -> Mapping[str, Path]:
        """The files or folders whose contents determine the images, by name; they enter the samples' ids."""
        ...

    def mention(self, subject: Subject, position: int) -> str:
        """The mention of the subject at `position` (from 0) of its set in a prompt, with its class noun.

        Examples: `man`, `man <|image|>`, `sks man`, `<new1> man`.
        """
        ...

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Fit to the subjects and store the result in `artefact_folder` (exists, empty).

        With `checkpoints` the customization continues from an interrupted one; None: save none.
        """
        ...

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """One RGB image per request, in order; the requests form one batch."""
        ...


@runtime_checkable
class Restorable(Protocol):
    """A method that can be loaded from its artefacts, so that nothing finished is customized twice.

    It has both members; a method with only one of them is refused when it is loaded.
    """

    @property
    def tunes_apart(self) -> bool:
        """Whether subjects are customized one by one and then loaded together."""
        ...

    def restore(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Customization:
        """The result of `customize`, from one artefact folder, or from one per subject if tuned one by one."""
        ...


@runtime_checkable
class ShowsAttention(Protocol):
    """A method that exposes its cross-attention to each subject during generation."""

    def generate_with_attention(
        self, customization: Customization, requests: Sequence[Request]
    ) -> Iterator[tuple[Image.Image, np.ndarray | None]]:
        """The same images as `generate` (bit-identical), each with its maps: float32 [subjects, height, width].

        A map is the attention to the subject's token over the whole image, non-negative, with the sum 1. None if no
        step saw the subjects.
        """
        ...


class PrefixState(Protocol):
    """The sampling state of a batch after some iterations: specific to the method, in main memory, immutable."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        ...


@runtime_checkable
class SharesPrefixes(Protocol):
    """A method whose first sampling iterations use the plain prompt and the seed alone, not the subjects.

    Apart from the requests and the number of iterations, they depend only on the run's setting and the method's
    weights. All subject sets with the same plain prompts share them, and so do rows that differ only in options.
    """

    @classmethod
    def text_only_iterations(cls, options: Any, sampler: Sampler) -> int:
        """The number of these iterations."""
        ...

    def prefix(self, requests: Sequence[Request], iterations: int, earlier: Any = None) -> PrefixState:
        """The sampling state of the requests, as one batch, after `iterations`; continues an `earlier` state."""
        ...

    def generate(
        self, customization: Customization, requests: Sequence[Request], prefix: Any = None
    ) -> Iterator[Image.Image]:
        """As `Method.generate`; with the requests' `prefix` it continues from there, to the same images.

        The same holds for `generate_with_attention`, if the method has it.
        """
        ...


@runtime_checkable
class UsesClassImages(Protocol):
    """A method that trains with images that the base model generates once per class (prior preservation)."""

    @property
    def class_image_count(self) -> int:
        """Number of class images of each class noun; 0 for none."""
        ...

    def use_class_images(self, images: Sequence[Image.Image]) -> None:
        """Use these as class images from the next customization on, to measure the cost of training alone."""
        ...


@runtime_checkable
class Periodic(Protocol):
    """A method with work that recurs every few training steps."""

    @property
    def step_period(self) -> int:
        """Number of steps after which the work repeats: any sequence of this length has the same cost."""
        ...


@dataclass(frozen=True)
class Column:
    """One number that a metric gives, with its properties for tables and plots; headline columns appear everywhere.

    `of_image_alone`: the value depends on image and prompt, not on the subjects' photographs, so that samples which
    share an image are one observation. `significant`: the tables show `digits` significant digits instead of decimals,
    for numbers of very different sizes. `bounds`: the lowest and highest possible value (None: no bound).
    """

    name: str
    title: str
    higher_is_better: bool | None
    description: str
    digits: int = 3
    headline: bool = False
    of_image_alone: bool = False
    significant: bool = False
    bounds: tuple[float | None, float | None] = (None, None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", tuple(self.bounds))

    def definition(self) -> dict[str, Any]:
        """All fields but the title: values of columns with the same definition can be compared."""
        fields = asdict(self)
        del fields["title"]
        return fields


@dataclass(frozen=True)
class Sibling:
    """Another image of the same method, subjects and prompt with another seed. `file` is its PNG."""

    id: str
    file: Path

    def image(self) -> Image.Image:
        """The image in RGB, read from the file."""
        from PIL import Image

        with Image.open(self.file) as image:
            return image.convert("RGB")


@dataclass(frozen=True)
class ScoredSample:
    """A generated image with its request: `prompt` is the scored text, without placeholders or rare tokens.

    `siblings` (by id) and `attention` (float32 [subjects, height, width], each map with the sum 1; None: not recorded)
    are set for metrics that need them. `target` is a photograph of the subjects that matches the prompt, if the suite
    has one.
    """

    image: Image.Image
    prompt: str
    subjects: tuple[Subject, ...]
    siblings: tuple[Sibling, ...] = ()
    attention: np.ndarray | None = None
    target: Path | None = None


@dataclass(frozen=True)
class Score:
    """Values by column name (None: not measurable in this image), and further details for the record."""

    values: Mapping[str, float | None]
    details: Mapping[str, Any] = field(default_factory=dict)


class Metric(Protocol):
    """A measure of single images. Registered as an entry point of the group `fc_bench.metrics`.

    A metric that needs more than the image declares it in optional class attributes: `needs_siblings = True` for the
    other images of the same method, subjects and prompt (the score is computed again if these change), `needs_attention
    = True` for the attention maps of methods that are `ShowsAttention` (the run then stores them), `needs_faces = True`
    if values depend on the face in each reference photograph (always so for a metric with an `embedder`), `scorers =
    ("image_features",)` for components of the backbone, apart from `clip` and `faces`, that its values depend on, if
    the backbone declares them.

    `derived_from = "identity"`: its values follow from the details that this metric records, through a classmethod
    `derive(details) -> Score`; an image whose details are recorded is then not read again.

    Optional method: `look_ahead(samples)` gets the next few samples before `score` gets each of them, to compute
    together what `score` then finds. Values must not depend on which samples come together. An exception of it costs
    nothing, because `score` raises it again for the sample alone.
    """

    description: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]

    def __init__(self, setting: Setting) -> None: ...

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Read the reference photographs once, before anything is generated; raises UserError if one is unusable."""
        ...

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        ...

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """Scores of the suite's own photographs for a subject set, by row name (`ceiling`, `floor`); may be empty.

        `others` are all subjects of the suite, in its order.
        """
        ...

    def provenance(self) -> Mapping[str, Any]:
        """The models and libraries that computed the values, for run.json."""
        ...


def needs_siblings(metric: Metric | type[Metric]) -> bool:
    """Whether a metric needs the other images of the same method, subjects and prompt."""
    return bool(getattr(metric, "needs_siblings", False))


def needs_faces(metric: Metric | type[Metric]) -> bool:
    """Whether the values depend on the face in each reference photograph."""
    return bool(getattr(metric, "needs_faces", hasattr(metric, "embedder")))


def needs_attention(metric: Metric | type[Metric]) -> bool:
    """Whether a metric needs attention maps."""
    return bool(getattr(metric, "needs_attention", False))


def used_conditions(method: Method | type[Method]) -> frozenset[str]:
    """The names of the conditions of a prompt that a method uses."""
    return frozenset(getattr(method, "conditions", ()))


def mentions_subjects(method: Method | type[Method]) -> bool:
    """Whether a method needs its subjects to be mentioned in the prompt."""
    return method.uses_photographs and bool(getattr(method, "mentions_subjects", True))


def derived_from(metric: Metric | type[Metric]) -> str | None:
    """The metric whose recorded details are enough to compute this one."""
    return getattr(metric, "derived_from", None)


def further_scorers(metric: Metric | type[Metric]) -> tuple[str, ...]:
    """Optional components of the backbone that a metric's values depend on."""
    return tuple(getattr(metric, "scorers", ()))


def fill(template: str, mentions: Sequence[str]) -> str:
    """Fill mentions into `{subject}` (one), `{subjects}` (all, each with its article) or `{1}`, `{2}` and so on.

    An indefinite article before a slot is adapted to the mention: "a {subject}" becomes "an old man". `{subjects}` are
    joined by commas and "and". A template without a slot stays as it is.
    """
    if "{subject}" in template:
        (mention,) = mentions
        return insert(template.split("{subject}"), [mention])
    if "{1}" in template:
        return insert(re.split(r"{\d+}", template), mentions)
    named = [with_article(mention) for mention in mentions]
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return template.replace("{subjects}", listed)


def seed_of(suite_seed: int, template: str, index: int) -> int:
    """The seed (32 bits) of the `index`-th image of a prompt.

    It depends on the prompt's template and the index alone. All subjects and all methods therefore start from the same
    noise, which makes their differences paired and lets methods share text-only steps.
    """
    return seed_from(f"{suite_seed}\n{template}\n{index}")


def seed_from(text: str) -> int:
    """A seed (32 bits) that is the same for the same text on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
