"""Layouts: the files of each component of a backbone, in all forms in which they are published."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fc_bench.model.families.detection import INDEX
from fc_bench.model.families.family import Family
from fc_bench.model.fastcomposer.overlay import TRAINED_LAYERS, UNET_DIFFERENCE

SINGLE_FILE = ".safetensors"
"""Suffix of a complete pipeline in one file, with the weight names of the original implementation."""
VARIANT = "fp16"
"""Name of the half-precision variant of weights, published beside or instead of the others."""
DIFFUSERS, TRANSFORMERS = ("diffusion_pytorch_model", "diffusion_pytorch_model"), ("model", "pytorch_model")
"""File names of weights, as safetensors and as .bin."""
LIBRARIES = {"diffusers": DIFFUSERS, "transformers": TRANSFORMERS}
OVERLAY = {"unet": DIFFUSERS, "image_encoder": TRANSFORMERS, "postfuse_module": DIFFUSERS}
"""Models that FastComposer trains."""
REDUCED = {"unet": UNET_DIFFERENCE, "image_encoder": TRAINED_LAYERS}
"""Parts of a FastComposer folder that can be stored as the changes that training made to their initial weights."""
DLIB_LANDMARKS, DLIB_RECOGNIZER = "shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"
"""Files of dlib's face models."""


@dataclass(frozen=True)
class RequiredFile:
    """A file that a component needs, and whether it exists."""

    path: Path
    present: bool


def is_single_file(path: Path) -> bool:
    """Whether the path names a pipeline in one file."""
    return path.suffix == SINGLE_FILE


def required_files(component: str, path: Path, family: Family | None = None) -> list[RequiredFile]:
    """The files that `component` needs at `path`, present or not, in a stable order.

    A pipeline's files are those of its `family`; while that is unknown, the index that names it. If a part can have
    several forms, the form that exists is listed, or the first one if none exists.
    """
    if component == "pipeline":
        if is_single_file(path):
            return [RequiredFile(path, path.is_file())]
        if family is None:
            return [_one(path, INDEX)]
        return [
            _one(path, INDEX),
            *(file for part in family.parts for file in _model(path, f"{part.name}/", LIBRARIES[part.library])),
            *(file for encoder in family.encoders for file in _tokenizer(path, f"{encoder.tokenizer}/")),
            _one(path, "scheduler/scheduler_config.json"),
        ]
    if component.startswith("ip_adapter"):
        if component == "ip_adapter_encoder":
            return _model(path, "", TRANSFORMERS)
        return [RequiredFile(path, path.is_file())]
    if component.startswith("fastcomposer/"):
        if path.suffix in (".bin", ".safetensors"):
            return [RequiredFile(path, path.is_file())]
        reduced = {part: path / part / name for part, name in REDUCED.items() if (path / part / name).is_file()}
        whole = {part: names for part, names in OVERLAY.items() if part not in reduced}
        models = [file for part, names in whole.items() for file in _model(path, f"{part}/", names)]
        return [*models, *(RequiredFile(file, True) for file in reduced.values())]
    if component == "photomaker":
        return [RequiredFile(path, path.is_file())]
    if component == "clip":
        return [*_model(path, "", TRANSFORMERS), *_tokenizer(path, "")]
    if component == "image_features":
        return _model(path, "", TRANSFORMERS)
    found = sorted(path.glob("*.onnx"))
    if not found:
        return [RequiredFile(path / "*.onnx (detector and recognizer)", False)]
    return [RequiredFile(file, True) for file in found]


def dlib_files(path: Path) -> list[RequiredFile]:
    """The files that dlib's face models need in a folder."""
    return [_one(path, name) for name in (DLIB_LANDMARKS, DLIB_RECOGNIZER)]


def holds_trained_layers(checkpoint: Path) -> bool:
    """Whether a FastComposer folder stores only the trained layers of its image encoder."""
    return (checkpoint / "image_encoder" / TRAINED_LAYERS).is_file()


def variant_files(folder: Path, family: Family) -> dict[str, Path]:
    """Plain name -> file of the weights that a pipeline folder has only in the half-precision variant."""
    found: dict[str, Path] = {}
    for part in family.parts:
        names = list(_forms(LIBRARIES[part.library]))
        if any((folder / part.name / name).is_file() for name in names if VARIANT not in name):
            continue
        for name in names:
            if VARIANT in name and (folder / part.name / name).is_file():
                found[f"{part.name}/{name.replace(f'.{VARIANT}', '')}"] = folder / part.name / name
                break
    return found


def hub_patterns(
    component: str, pickled: bool = False, family: Family | None = None, half: bool = False
) -> tuple[list[str], list[str]]:
    """Patterns of a component's files in a hub repository: patterns to include, and patterns to exclude from these.

    `pickled` asks for pickled weights, for repositories without safetensors, and `half` for the variant in half
    precision of a pipeline whose family is published in it. Of a pipeline of unknown family it is the index alone.
    """
    if component == "pipeline" and family is None:
        return [INDEX], []
    weights = "bin" if pickled else "safetensors"
    if family is not None and component == "pipeline" and family.half_precision:
        folders = [*(part.name for part in family.parts), *(encoder.tokenizer for encoder in family.encoders)]
        texts = [f"{folder}/*.{suffix}" for folder in (*folders, "scheduler") for suffix in ("json", "txt")]
        names = [f"{part.name}/*.{VARIANT}.{weights}" if half else f"{part.name}/*.{weights}" for part in family.parts]
        return [INDEX, *texts, *names], [] if half else [f"*.{VARIANT}.*"]
    if component == "pipeline":
        take = [INDEX, "*/*.json", "*/*.txt", f"*/*.{weights}"]
        return take, ["safety_checker/*", "*non_ema*", f"*.{VARIANT}.*"]
    return ["*.json", "*.txt", f"*.{weights}"], ["*/*"]


@dataclass(frozen=True)
class HubReference:
    """Weights in a hub repository: all of it, or one file or folder inside."""

    repository: str
    inside: str
    """The path of the file or folder; "" for the whole repository."""

    @classmethod
    def read(cls, reference: str) -> HubReference:
        """The reference `owner/name[/file]` or `owner/name[/folder]`."""
        owner, name, *inside = reference.split("/")
        return cls(f"{owner}/{name}", "/".join(inside))

    @property
    def is_file(self) -> bool:
        """Whether it is one file; the names of folders have no suffix."""
        return bool(PurePosixPath(self.inside).suffix)

    def patterns(
        self, component: str, pickled: bool = False, family: Family | None = None, half: bool = False
    ) -> tuple[list[str], list[str]]:
        """`hub_patterns` for the folder."""
        take, leave = hub_patterns(component, pickled, family, half)
        folder = f"{self.inside}/" if self.inside else ""
        return [f"{folder}{item}" for item in take], [f"{folder}{item}" for item in leave]

    def forms(self, component: str, family: Family | None) -> list[tuple[list[str], list[str]]]:
        """The patterns of the forms in which the repository may have a component, in the order of preference."""
        half = family is not None and family.half_precision
        halves = [self.patterns(component, False, family, half=True)] if half else []
        return [*halves, *(self.patterns(component, pickled, family) for pickled in (False, True))]


def hub_command(component: str, reference: str, pickled: bool = False, family: Family | None = None) -> str:
    """The shell command that downloads a component from a hub repository into the local cache.

    `pickled` downloads weights in full precision, also pickled ones, for repositories without the preferred form.
    """
    hub = HubReference.read(reference)
    command = ["hf", "download", hub.repository]
    if hub.is_file:
        return shlex.join([*command, hub.inside])
    take, leave = hub.forms(component, family)[-2 if pickled else 0]
    take = [*take, *(item for item in hub.patterns(component, True, family)[0] if pickled and item not in take)]
    options = [*(word for item in take for word in ("--include", item))]
    options += [word for item in leave for word in ("--exclude", item)]
    return shlex.join([*command, *options])


def hub_names(component: str, reference: str, family: Family | None = None) -> list[str]:
    """Names of the files that a component on the hub needs, as far as they are known without contacting the hub."""
    hub = HubReference.read(reference)
    if hub.is_file:
        return [hub.inside]
    nowhere = Path("nowhere") / "at-all"
    found = [file.path.relative_to(nowhere) for file in required_files(component, nowhere / hub.inside, family)]
    names = [PurePosixPath(file).as_posix() for file in found]
    half = component == "pipeline" and family is not None and family.half_precision
    return [name.replace(".safetensors", f".{VARIANT}.safetensors") if half else name for name in names]


def _forms(names: tuple[str, str]) -> Iterator[str]:
    """Possible file names of weights, in the order in which libraries look for them; shards have an index."""
    stems = list(zip(names, ("safetensors", "bin"), strict=True))
    for stem, suffix in stems:
        yield from (f"{stem}.{suffix}", f"{stem}.{suffix}.index.json")
    for stem, suffix in stems:
        yield from (f"{stem}.{VARIANT}.{suffix}", f"{stem}.{suffix}.index.{VARIANT}.json")


def _one(path: Path, *alternatives: str) -> RequiredFile:
    found = next((name for name in alternatives if (path / name).is_file()), None)
    return RequiredFile(path / (found or alternatives[0]), found is not None)


def _model(path: Path, folder: str, names: tuple[str, str]) -> list[RequiredFile]:
    weights = _one(path, *(f"{folder}{name}" for name in _forms(names)))
    shards = _shards(weights.path) if weights.present and weights.path.suffix == ".json" else []
    return [_one(path, f"{folder}config.json"), weights, *(RequiredFile(shard, shard.is_file()) for shard in shards)]


def _tokenizer(path: Path, folder: str) -> list[RequiredFile]:
    """The files of a tokenizer: one file, or a vocabulary and its merges."""
    if (path / folder / "tokenizer.json").is_file():
        return [_one(path, f"{folder}tokenizer.json")]
    return [_one(path, f"{folder}vocab.json"), _one(path, f"{folder}merges.txt")]


def _shards(index: Path) -> Sequence[Path]:
    """The files that an index of weights names; empty if it cannot be read, which loading will report."""
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [index.parent / name for name in sorted(set(names))]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return []
