"""Backbones: what all methods of a run share, declared in a YAML file.

A backbone names the diffusion pipeline, the FastComposer checkpoints, the CLIP scorer, the face models and the native
resolution. Built-in ones lie in `model/backbones/`; `read_backbone` also takes the path of one's own file.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from fc_bench.model.backbones.fingerprint import fingerprint
from fc_bench.model.backbones.hub import HUB, NotFetchedError, cached, fetch
from fc_bench.model.backbones.layouts import RequiredFile, hub_command, required_files
from fc_bench.model.backbones.prepared import prepared_pipeline, read_configurations
from fc_bench.model.backbones.schedulers import SchedulerName
from fc_bench.model.errors import MissingWeightsError, ModelInputError
from fc_bench.model.settings import Settings
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import nearest, read_yaml

BACKBONES = Path(__file__).parent

DtypeName = Literal["float32", "bfloat16", "float16"]

FILE = "backbone.yaml"
"""Of a folder that is a backbone, such as the result of a training."""
COMPONENTS = ("pipeline", "fastcomposer", "clip", "faces", "image_features")
"""What a backbone can consist of; the second and the last may be absent."""


class SamplerDefaults(Settings):
    """Sampler settings used where a suite gives none."""

    scheduler: SchedulerName = "pndm"
    steps: int = Field(default=50, ge=1, le=1000)
    guidance_scale: float = Field(default=5.0, ge=0, le=100)


class FastComposerParts(Settings):
    """FastComposer checkpoints: name of the variant -> folder, `pytorch_model.bin`, or `hub:owner/name/file`."""

    default: str
    variants: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_exists(self) -> FastComposerParts:
        if self.default not in self.variants:
            raise ValueError(f'default "{self.default}" is not a variant, {nearest(self.default, self.variants)}')
        return self


class Recognizer(Settings):
    """A face recognizer that insightface does not know, beside a detector that it does: how its input is made.

    The face is cropped by its `box`, widened by `margin` pixels of the network's input (FaceNet, facenet-pytorch's
    convention), or `aligned` to ArcFace's five landmarks; then resized to `size` and normalized to (x - mean) / std.
    """

    file: str = Field(pattern=r"^[^/\\]+\.onnx$")
    """ONNX file in the pack: float32 [n, 3, size, size] -> [n, dim]."""
    size: int = Field(default=160, ge=8, le=1024)
    mean: float = 127.5
    std: float = Field(default=128.0, gt=0)
    crop: Literal["box", "aligned"] = "box"
    margin: int = Field(default=0, ge=0, le=512)
    channels: Literal["rgb", "bgr"] = "rgb"

    @model_validator(mode="after")
    def _margin_leaves_a_face(self) -> Recognizer:
        if self.margin >= self.size:
            raise ValueError(f"the margin {self.margin} is not smaller than the size {self.size}")
        return self


_Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]


class Faces(Settings):
    """Face models: a folder of ONNX files that `insightface.app.FaceAnalysis` loads, and how they are called."""

    name: str
    """Name of the embedder, printed with every identity value."""
    pack: str
    det_size: tuple[_Side, _Side] = (640, 640)
    det_thresh: float = Field(default=0.5, gt=0, lt=1)
    recognizer: Recognizer | None = None
    """Instead of the recognizer that insightface finds in the pack."""


class Dtypes(Settings):
    """Number format of the generating models per kind of device; scoring is always float32."""

    cpu: DtypeName = "float32"
    cuda: DtypeName = "float16"

    def on(self, device: str) -> DtypeName:
        """Of a device, as torch names it."""
        return self.cuda if device.startswith("cuda") else self.cpu


class Backbone(Settings):
    """A backbone file; component values are folders (relative to the file), `~` paths, or `hub:owner/name[/file]`.

    The pipeline may also be one `.safetensors` file in the original layout of Stable Diffusion v1.x.
    """

    extends: str | None = None
    """A built-in backbone that gives what is left out; of its mappings (`sampler`, ..., each of `methods`) entries are
    taken one by one."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str
    pipeline: str
    fastcomposer: FastComposerParts | None = None
    clip: str
    faces: tuple[Faces, ...] = Field(min_length=1)
    """One mapping, or a list of them: each measures identity in columns of its own, the first is the main one."""
    image_features: str | None = None
    """A self-supervised vision transformer for similarity of images, with a class token (None: there is none)."""
    resolution: int = Field(ge=8, le=4096, multiple_of=8)
    sampler: SamplerDefaults = SamplerDefaults()
    dtype: Dtypes = Dtypes()
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Method -> options that suit this backbone, used where the command line gives none."""
    licenses: dict[str, str] = Field(default_factory=dict)
    """License and origin of each component, shown by `fc-bench doctor`."""
    how_to_get: str = ""
    """What to do when weights are missing that no command fetches; ends the error message."""
    fetch: dict[str, str] = Field(default_factory=dict)
    """Shell command that fetches a component, where it is not that of its hub repository."""
    closed_vocabulary: bool = False
    """Its models know the words of the tokenizer alone: others, which it cuts into pieces, they never saw."""
    architecture: str | None = None
    """Folder (relative to the file) with the models' configurations, to be filled with random weights."""
    _file: Path = PrivateAttr(default=Path())
    _asked_for: str = PrivateAttr(default="")
    _fetched: dict[str, Path] = PrivateAttr(default_factory=dict)
    _pipelines: dict[Path, Path] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _extended(cls, data: Any) -> Any:
        """With what the file leaves out taken from the backbone that it extends."""
        name = data.get("extends") if isinstance(data, dict) else None
        if name is None:
            return data
        if name not in backbone_names():
            raise ValueError(f'extends: there is no built-in backbone "{name}", {nearest(str(name), backbone_names())}')
        return _merged(read_backbone(name), data)

    @field_validator("faces", mode="before")
    @classmethod
    def _one_or_several(cls, faces: Any) -> Any:
        return [faces] if isinstance(faces, dict) else faces

    @field_validator("faces")
    @classmethod
    def _names_differ(cls, faces: tuple[Faces, ...]) -> tuple[Faces, ...]:
        names = [item.name for item in faces]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f'two face models are called "{twice}"; give each a name of its own')
        return faces

    @field_validator("licenses", "fetch")
    @classmethod
    def _known_components(cls, told: dict[str, str]) -> dict[str, str]:
        for name in told:
            if name.split("/")[0] not in COMPONENTS:
                raise ValueError(f'"{name}" is no component; known: {", ".join(COMPONENTS)}')
        return told

    def components(self) -> dict[str, str]:
        """Component name -> value as written in the file: those that are declared.

        The names are `pipeline`, `fastcomposer/<variant>`, `clip`, `faces`, `faces/<name>` and `image_features`.
        """
        variants = self.fastcomposer.variants if self.fastcomposer else {}
        return {
            "pipeline": self.pipeline,
            **{f"fastcomposer/{name}": value for name, value in variants.items()},
            "clip": self.clip,
            **{self.faces_component(number): item.pack for number, item in enumerate(self.faces)},
            **({"image_features": self.image_features} if self.image_features else {}),
        }

    def faces_component(self, number: int) -> str:
        """Component name of the face models at that place of `faces`."""
        return "faces" if number == 0 else f"faces/{self.faces[number].name}"

    def always_needed(self) -> list[str]:
        """The components without which nothing runs: pipeline, CLIP and the face models."""
        return ["pipeline", "clip", *(self.faces_component(number) for number in range(len(self.faces)))]

    @property
    def fetches(self) -> bool:
        """Whether any component comes from a hub."""
        return any(value.startswith(HUB) for value in self.components().values())

    def variant(self, name: str | None) -> str:
        """Component name of a FastComposer variant (None: the default); raises ModelInputError when there is none."""
        if self.fastcomposer is None:
            raise ModelInputError(f'The backbone "{self.name}" ({self._file}) declares no FastComposer checkpoint.')
        name = name or self.fastcomposer.default
        if name not in self.fastcomposer.variants:
            known = nearest(name, self.fastcomposer.variants)
            raise ModelInputError(f'The backbone "{self.name}" has no FastComposer checkpoint "{name}", {known}')
        return f"fastcomposer/{name}"

    def architecture_folder(self) -> Path | None:
        """Where the configurations lie; None when the backbone declares none."""
        return None if self.architecture is None else (self._file.parent / expanded(self.architecture)).resolve()

    def declared_path(self, component: str) -> Path | None:
        """Where a local component should lie, without looking; None for one on the hub."""
        value = self.components()[component]
        if value.startswith(HUB):
            return None
        try:
            return (self._file.parent / expanded(value)).resolve()
        except ModelInputError:
            return Path(value)  # as written: what lies in a home folder that is not known is missing

    def found_path(self, component: str) -> Path | None:
        """Where a component lies now, whole or not: its local place, or in the Hugging Face cache; nothing is fetched.

        None for one on the hub of which the cache has nothing.
        """
        declared = self.declared_path(component) or self._fetched.get(component)
        return declared if declared is not None else cached(self.components()[component].removeprefix(HUB))

    def missing_files(self, component: str) -> list[RequiredFile]:
        """The files of a component that are not here; of one on the hub of which nothing is, the component itself."""
        path = self.found_path(component)
        if path is None:
            return [RequiredFile(Path(self.components()[component].removeprefix(HUB)), False)]
        return [item for item in required_files(component, path) if not item.present]

    def fetch_command(self, component: str) -> str | None:
        """The shell command that fetches a component, where one does.

        It asks for pickled weights once the cache has the repository and no safetensors of it.
        """
        told = self.fetch.get(component) or self.fetch.get(component.split("/")[0])
        value = self.components()[component]
        if told is not None or not value.startswith(HUB):
            return told
        path = self.found_path(component)
        pickled = path is not None and path.is_dir() and not any(path.rglob("*.safetensors"))
        return hub_command(component, value.removeprefix(HUB), pickled)

    def advice(self, component: str) -> str:
        """What to do about missing files of a component that no command fetches: a sentence without its full stop.

        What the backbone that it extends says of its own files is not said of those that replace them.
        """
        base = read_backbone(self.extends) if self.extends else None
        if base is not None and self.how_to_get == base.how_to_get:
            inherited = self.declared_path(component) in map(base.declared_path, base.components())
        else:
            inherited = True
        return (self.how_to_get.rstrip(".") if inherited else "") or "Put the files there"

    def by_hand(self, missing: Mapping[str, str]) -> str:
        """What to do about those missing components, each with its first file, that no command fetches; else ""."""
        told: dict[str, list[str]] = {}
        for component, file in missing.items():
            if self.fetch_command(component) is None:
                told.setdefault(self.advice(component), []).append(f"{component} ({file})")
        sentences = [
            f"{advice}." if len(files) == len(missing) else f"No command fetches {', '.join(files)}. {advice}."
            for advice, files in told.items()
        ]
        return " ".join(sentences)

    def require(self, *components: str) -> None:
        """Raise MissingWeightsError when files of these components are not here and using them does not fetch them."""
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        local = [name for name in components if offline or self.declared_path(name) is not None]
        missing = {name: files for name in local if (files := self.missing_files(name))}
        if missing:
            raise self._missing(missing)

    def path(self, component: str) -> Path:
        """Local folder or file of a component; one on the hub is fetched into the Hugging Face cache first.

        A pipeline in one file, or in half precision alone, is the folder in the user's cache that it is loaded from.
        Raises MissingWeightsError naming the first missing file.
        """
        path = self.declared_path(component) or self._fetched.get(component)
        if path is None:
            path = self._fetched[component] = self._fetch(component)
        missing = [item for item in required_files(component, path) if not item.present]
        if missing:
            raise self._missing({component: missing})
        return self._prepared(path) if component == "pipeline" else path

    def _fetch(self, component: str) -> Path:
        reference = self.components()[component].removeprefix(HUB)
        try:
            return fetch(reference, component)
        except NotFetchedError as error:
            if error.offline:
                raise self._missing({component: self.missing_files(component)}) from None
            repository = "/".join(reference.split("/")[:2])
            raise MissingWeightsError(
                f'Weights of the backbone "{self.name}" are missing: {component} could not be fetched from the hub '
                f"repository {repository} ({error}).",
                f"Fetch with: {self.fetch_command(component)}",
            ) from None

    def _prepared(self, path: Path) -> Path:
        if path not in self._pipelines:
            folder = self.architecture_folder()
            architecture = read_configurations(folder) if folder is not None else None
            self._pipelines[path] = prepared_pipeline(path, architecture, lambda: self.path("clip"))
        return self._pipelines[path]

    def _missing(self, missing: Mapping[str, Sequence[RequiredFile]]) -> MissingWeightsError:
        """What to raise about these files, by component."""
        uncached = [name for name in missing if self.declared_path(name) is None]
        those = f"{', '.join(uncached)} {'is' if len(uncached) == 1 else 'are'}" if len(missing) > 1 else "it is"
        why = f"; {those} not in the local cache, and the network is not to be used" if uncached else ""
        count = sum(map(len, missing.values()))
        (component, files), *others = missing.items()
        more = f" and {count - 1} more ({', '.join(missing)})" if others else ""
        more = f" and {count - 1} more file{'s'[: count - 2]}" if count > 1 and not others else more
        text = f'Weights of the backbone "{self.name}" are missing: {component} needs {files[0].path}{more}{why}.'
        by_hand = self.by_hand({name: str(files[0].path) for name, files in missing.items()})
        known = " && ".join(dict.fromkeys(command for name in missing if (command := self.fetch_command(name))))
        if known:
            return MissingWeightsError(
                text, f"{by_hand} Fetch the others with: {known}" if by_hand else f"Fetch with: {known}"
            )
        asked_for = shlex.quote(self._asked_for or self.name)
        return MissingWeightsError(text, f"{by_hand} `fc-bench doctor --backbone {asked_for}` lists every file.")

    def fingerprint(self, component: str) -> str:
        """sha256 over names and contents of the component's files (hexadecimal)."""
        return fingerprint(self.path(component))


def read_backbone(name_or_path: str) -> Backbone:
    """The built-in backbone of that name, or the one in a YAML file (of a folder, its backbone.yaml).

    Raises ModelInputError when there is none.
    """
    known = backbone_names()
    if name_or_path in known:
        path = BACKBONES / f"{name_or_path}.yaml"
    elif name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path or Path(name_or_path).is_dir():
        path = expanded(name_or_path)
        path = path / FILE if path.is_dir() else path
    else:
        raise ModelInputError(
            f'Unknown backbone "{name_or_path}", {nearest(name_or_path, known)} Or give the path of a YAML file.'
        )
    backbone = read_yaml(path, Backbone)
    backbone._file, backbone._asked_for = path.resolve(), name_or_path
    return backbone


def backbone_names() -> list[str]:
    """Names of the built-in backbones."""
    return sorted(path.stem for path in BACKBONES.glob("*.yaml"))


def written_out(backbone: Backbone) -> dict[str, Any]:
    """The content of a backbone's file that means the same anywhere: relative places are absolute."""
    data = backbone.model_dump(mode="json", exclude_none=True, exclude={"extends"})
    for key in ("pipeline", "clip", "image_features", "architecture"):
        data[key] = _absolute(backbone, data.get(key))
    for faces in data["faces"]:
        faces["pack"] = _absolute(backbone, faces["pack"])
    if "fastcomposer" in data:
        variants = data["fastcomposer"]["variants"]
        data["fastcomposer"]["variants"] = {name: _absolute(backbone, value) for name, value in variants.items()}
    return {key: value for key, value in data.items() if value is not None}


def _merged(base: Backbone, data: Mapping[str, Any]) -> dict[str, Any]:
    """A backbone's file over the one it extends."""
    merged = written_out(base)
    for key, value in data.items():
        both = key in ("sampler", "dtype", "methods", "licenses", "fetch") and isinstance(value, dict)
        merged[key] = {**merged.get(key, {}), **value} if both else value
        if key == "methods" and both:
            merged[key] |= {
                name: {**base.methods.get(name, {}), **own} for name, own in value.items() if isinstance(own, dict)
            }
    for component in ("pipeline", "clip", "faces", "fastcomposer", "image_features"):
        if component in data:
            for told in ("licenses", "fetch"):
                if component not in (data.get(told) or {}):
                    merged.get(told, {}).pop(component, None)
    return merged


def _absolute(base: Backbone, value: str | None) -> str | None:
    """A place of a built-in backbone's file as it reads elsewhere."""
    if value is None or value.startswith((HUB, "~")):
        return value
    return str((base._file.parent / value).resolve())
