"""What a method and a metric are: the protocols a plug-in implements, and what passes through them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from fc_bench.model.articles import insert, with_article

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image
    from pydantic import BaseModel

    from fc_bench.model.backbones.backbone import Backbone


@dataclass(frozen=True)
class Subject:
    """Somebody (or something) to put into images; the first photograph is the one tuning-free methods get.

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
        """UNet calls an image takes, the guided pair being one: PNDM makes one more than it has steps."""
        return self.steps + (self.scheduler == "pndm" and self.steps > 1)


@dataclass(frozen=True)
class Setting:
    """What all methods of a run share; `dtype` is the name of a torch dtype, `device` a torch device string.

    `compiled` is the backend that sampling's UNets are compiled with by torch.compile (None: they are not).
    `remembers_text`: a prompt may be encoded once and its embeddings be kept, which is for generating alone, never for
    measuring what an image costs.
    """

    backbone: Backbone
    sampler: Sampler
    device: str
    dtype: str
    compiled: str | None = None
    remembers_text: bool = False


@dataclass(frozen=True)
class Request:
    """One image to generate.

    `prompt` mentions the subjects the way the method asked for, `plain_prompt` by their class nouns alone; the seed is
    that of the image's own generator.
    """

    prompt: str
    plain_prompt: str
    seed: int

    def generator(self) -> torch.Generator:
        """A fresh CPU generator: the noise depends on neither batch size nor order nor device."""
        import torch

        return torch.Generator("cpu").manual_seed(self.seed)


@dataclass(frozen=True)
class Checkpoints:
    """Where a customization leaves, every `every` training steps, what it can go on from after an interruption.

    `folder` exists, belongs to this customization alone, keeps its content over interruptions and failures, and is
    removed when the customization is finished.
    """

    folder: Path
    every: int


@dataclass(frozen=True)
class Customization:
    """A method fitted to a set of subjects.

    `artefact` is the folder with everything the method keeps per subject set (None: nothing), `steps` the training
    steps taken and `seconds_per_step` what one took (None: not told), `details` goes into the job's record, `state` is
    the method's own and is not recorded. `shared_seconds` were spent on what all subjects of a class share and what is
    kept for them (class images of prior preservation made just now): they are recorded beside the job's own seconds.
    `earlier_seconds` were spent before an interruption, up to the checkpoint it went on from: they count as the job's.
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
    """A subject set that a method is asked for: `prompts` gives its prompts with a mention of each subject put in."""

    subjects: tuple[Subject, ...]
    prompts: Callable[[Sequence[str]], Sequence[str]]


class Method(Protocol):
    """A way of putting subjects into images. Registered as an entry point of the group `fc_bench.methods`.

    A method whose options leave something to the backbone may have a classmethod `complete_options(backbone, options)`
    that returns them written out; it is called before options are recorded and compared. Training steps are counted by
    an option named `steps` where there is one: measuring costs may take fewer and extrapolate. A method that a reader
    of the table has to be told about may have a classmethod `remark(options, subjects)` that returns what to know of it
    on sets of `subjects` subjects (that it extends a paper's protocol, say), or None; it stands as a footnote at the
    row. One that uses more than the first photograph of a subject has a classmethod `references(options)` that returns
    how many it uses at most; the tables show it. One that can tell from what is asked that it will refuse some of it
    may have a classmethod `check(setting, options, asked)`, `asked` being a sequence of `AskedSet`, which raises
    UserError with a sentence that says what and which option to set; it is called before anything is generated.
    A method that can be loaded from what it left is `Restorable`; one that trains beside class images can be spared
    drawing them (`UsesClassImages`), and one whose steps are not all alike says after how many its work repeats
    (`Periodic`). One that samples its first steps from the text alone shares them between subjects (`SharesPrefixes`).

    The class is called with the run's setting and its validated options; heavy loading belongs there. An exception
    from `customize` fails that job, one from `generate` the samples not yet yielded; the run goes on.
    """

    description: ClassVar[str]
    max_subjects: ClassVar[int]
    uses_photographs: ClassVar[bool]
    """False when the image depends on prompt and seed alone: equal requests are then generated once and shared."""
    Options: ClassVar[type[BaseModel]]

    def __init__(self, setting: Setting, options: Any) -> None: ...

    @classmethod
    def weights(cls, backbone: Backbone, options: Any) -> Mapping[str, Path]:
        """The files or folders whose contents decide the images, by name; they enter the samples' ids."""
        ...

    def mention(self, subject: Subject, position: int) -> str:
        """What stands in a prompt for the subject at `position` (from 0) of its set, class noun included.

        Examples: `man`, `man <|image|>`, `sks man`, `<new1> man`.
        """
        ...

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Fit to the subjects; what is kept goes below `artefact_folder` (exists, empty).

        With `checkpoints` it goes on from what an interrupted customization left there; None: keep none.
        """
        ...

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """One RGB image per request, in order; the requests form one batch."""
        ...


@runtime_checkable
class Restorable(Protocol):
    """A method that can be loaded from the artefacts it left, so that nothing finished is customized twice.

    It has both of these; a method with one of them alone is refused when it is loaded.
    """

    @property
    def tunes_apart(self) -> bool:
        """Whether subjects are customized one by one and then loaded together."""
        ...

    def restore(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Customization:
        """What `customize` returned, from one artefact folder, or one per subject in their order when tuned apart."""
        ...


@runtime_checkable
class ShowsAttention(Protocol):
    """A method that can show which parts of an image its cross-attention gave to each subject while generating it."""

    def generate_with_attention(
        self, customization: Customization, requests: Sequence[Request]
    ) -> Iterator[tuple[Image.Image, np.ndarray | None]]:
        """What `generate` yields, to the bit, each image with its maps: float32 [subjects, height, width].

        A map says where in the image the subject's token was attended to: not negative, over the whole image, with the
        sum 1. None where there is nothing to show (no step saw the subjects).
        """
        ...


class PrefixState(Protocol):
    """The sampling of a batch up to some iteration: a method's own, in main memory, never changed once made."""

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        ...


@runtime_checkable
class SharesPrefixes(Protocol):
    """A method whose first sampling iterations see the plain prompt and the seed alone, not the subjects.

    Beside the requests and the number of iterations, they depend on the run's setting and the method's weights only, so
    that all subject sets with the same plain prompts share them, and rows that differ in nothing but options.
    """

    @classmethod
    def text_only_iterations(cls, options: Any, sampler: Sampler) -> int:
        """How many of the sampler's iterations those are."""
        ...

    def prefix(self, requests: Sequence[Request], iterations: int, earlier: Any = None) -> PrefixState:
        """The requests' sampling, as one batch, after so many iterations; goes on from an `earlier` state of it."""
        ...

    def generate(
        self, customization: Customization, requests: Sequence[Request], prefix: Any = None
    ) -> Iterator[Image.Image]:
        """As `Method.generate`; with the requests' `prefix` it goes on from there, to the same images.

        So does `generate_with_attention` of a method that has it.
        """
        ...


@runtime_checkable
class UsesClassImages(Protocol):
    """A method that trains beside images that the base model draws once for a class (prior preservation)."""

    @property
    def class_image_count(self) -> int:
        """Class images of each class noun; 0 for none."""
        ...

    def use_class_images(self, images: Sequence[Image.Image]) -> None:
        """Train beside these instead of drawing any, from the next customization on: for measuring what that costs."""
        ...


@runtime_checkable
class Periodic(Protocol):
    """A method that does something only every so many training steps."""

    @property
    def step_period(self) -> int:
        """Steps after which the work of a step repeats: any so many in a row cost the same."""
        ...


@dataclass(frozen=True)
class Column:
    """One number a metric gives, with all that tables and plots need to know of it; headlines show everywhere.

    `of_image_alone`: the value depends on image and prompt, not on the subjects' photographs, so that samples which
    share an image are one observation. `significant`: the tables show `digits` significant digits instead of decimals,
    for numbers of very different sizes. `bounds`: the lowest and highest value there can be (None: no bound).
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
    """Another image of the same method, subjects and prompt: of another seed. `file` is its PNG."""

    id: str
    file: Path

    def image(self) -> Image.Image:
        """The image in RGB, read from the file."""
        from PIL import Image

        with Image.open(self.file) as image:
            return image.convert("RGB")


@dataclass(frozen=True)
class ScoredSample:
    """A generated image with what was asked: `prompt` is the scored text, without placeholders or rare tokens.

    `siblings` (by id) and `attention` (float32 [subjects, height, width], each map with the sum 1; None: the method
    showed none) are there for metrics that say they need them.
    """

    image: Image.Image
    prompt: str
    subjects: tuple[Subject, ...]
    siblings: tuple[Sibling, ...] = ()
    attention: np.ndarray | None = None


@dataclass(frozen=True)
class Score:
    """Values by column name (None: not measurable in this image) and whatever else is worth recording."""

    values: Mapping[str, float | None]
    details: Mapping[str, Any] = field(default_factory=dict)


class Metric(Protocol):
    """A measure of single images. Registered as an entry point of the group `fc_bench.metrics`.

    A metric that looks at more than the image says so in class attributes, which are otherwise left out:
    `needs_siblings = True` for the other images of the same method, subjects and prompt (a score is made again when
    there are others than it rests on), `needs_attention = True` for what methods that are `ShowsAttention` attended to
    (the run then keeps it), `needs_faces = True` where values rest on the face in each reference photograph (a metric
    with an `embedder` does), `scorers = ("image_features",)` for components of the backbone beside `clip` and `faces`
    that its values depend on, where the backbone declares them.
    """

    description: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]

    def __init__(self, setting: Setting) -> None: ...

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Look at the reference photographs once, before anything is generated; UserError when one is unusable."""
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
        """Which models and libraries really computed the values, for run.json."""
        ...


def needs_siblings(metric: Metric | type[Metric]) -> bool:
    """Whether a metric looks at the other images of the same method, subjects and prompt."""
    return bool(getattr(metric, "needs_siblings", False))


def needs_faces(metric: Metric | type[Metric]) -> bool:
    """Whether the values rest on the face in each reference photograph."""
    return bool(getattr(metric, "needs_faces", hasattr(metric, "embedder")))


def needs_attention(metric: Metric | type[Metric]) -> bool:
    """Whether a metric looks at what the method attended to."""
    return bool(getattr(metric, "needs_attention", False))


def further_scorers(metric: Metric | type[Metric]) -> tuple[str, ...]:
    """Optional components of the backbone that a metric's values depend on."""
    return tuple(getattr(metric, "scorers", ()))


def fill(template: str, mentions: Sequence[str]) -> str:
    """Put mentions into `{subject}` (one) or `{subjects}` (each with its article, joined by commas and "and").

    An indefinite article before `{subject}` becomes the mention's: "a {subject}" is filled as "an old man".
    """
    if "{subject}" in template:
        (mention,) = mentions
        return insert(template.split("{subject}"), [mention])
    named = [with_article(mention) for mention in mentions]
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return template.replace("{subjects}", listed)


def seed_of(suite_seed: int, template: str, index: int) -> int:
    """The seed (32 bits) of the `index`-th image of a prompt.

    It belongs to (prompt, index): the template enters with its slot unfilled, so all subjects and all methods start
    from the same noise, which makes their differences paired and lets methods share text-only steps.
    """
    return seed_from(f"{suite_seed}\n{template}\n{index}")


def seed_from(text: str) -> int:
    """A seed (32 bits) that is the same for the same text on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
