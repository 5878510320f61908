"""Backbones: the models that all methods of a run share, declared in a YAML file.

A backbone names the diffusion pipeline, the FastComposer checkpoints, the CLIP scorer, the face models and the native
resolution. The built-in backbones are in `model/backbones/`; `read_backbone` also accepts the path of another file.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from fc_bench.model.backbones.fingerprint import fingerprint
from fc_bench.model.backbones.hub import HUB, NotFetchedError, cached, fetch
from fc_bench.model.backbones.layouts import RequiredFile, dlib_files, hub_command, is_single_file, required_files
from fc_bench.model.backbones.prepared import prepared_pipeline
from fc_bench.model.backbones.schedulers import SchedulerName
from fc_bench.model.errors import MissingWeightsError, ModelInputError
from fc_bench.model.families.detection import family_by_name, family_of, family_of_architecture
from fc_bench.model.families.family import Family
from fc_bench.model.settings import Settings
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import nearest, read_yaml

BACKBONES = Path(__file__).parent

DtypeName = Literal["float32", "bfloat16", "float16"]

FILE = "backbone.yaml"
"""Name of the file in a backbone's folder, for example in the output of a training."""
VARIANTS = {
    "fastcomposer": "FastComposer checkpoint",
    "ip_adapter": "IP-Adapter",
    "ip_adapter_faceid": "IP-Adapter FaceID",
}
"""Components of which a backbone may have several under names of their own, and what one of each is called."""
COMPONENTS = ("pipeline", *VARIANTS, "ip_adapter_encoder", "photomaker", "clip", "faces", "image_features")
"""The components of a backbone; only `pipeline`, `clip` and `faces` are in all."""
PACKAGE = "package:"
"""Beginning of a value that names a folder of an installed Python package."""
DLIB_PACK = f"{PACKAGE}face_recognition_models/models"
DLIB_EXTRA = 'pip install "fc-bench[dlib]"'
DLIB_LICENSE = "CC0 1.0 (weights of dlib-models), Boost 1.0 (dlib)"
DLIB_DISTANCE, DLIB_LENGTH = 0.6, 1.4
"""dlib counts two faces as the same person's below this distance of their embeddings, which are about so long."""
DLIB_THRESHOLD = round(1 - DLIB_DISTANCE**2 / (2 * DLIB_LENGTH**2), 3)
"""The cosine of two embeddings of that length at that distance, by the law of cosines."""


class SamplerDefaults(Settings):
    """Sampler settings for suites without their own."""

    scheduler: SchedulerName = "pndm"
    steps: int = Field(default=50, ge=1, le=1000)
    guidance_scale: float = Field(default=5.0, ge=0, le=100)


class Variants(Settings):
    """Weights of a method; variant name -> folder, file, or `hub:owner/name/file`."""

    default: str
    variants: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_exists(self) -> Variants:
        if self.default not in self.variants:
            raise ValueError(f'default "{self.default}" is not a variant, {nearest(self.default, self.variants)}')
        return self


class IPAdapters(Variants):
    """IP-Adapters for one image encoder."""

    image_encoder: str | None = None
    """The CLIP image encoder that they were trained with, a folder or `hub:owner/name[/folder]`; None: `clip`'s."""


class Recognizer(Settings):
    """A face recognizer that insightface does not support, with the preprocessing of its input.

    The face detector is one that insightface supports. With `crop: box`, the face is cropped by its box, widened by
    `margin` pixels of the network's input (the convention of FaceNet in facenet-pytorch). With `crop: aligned`, it is
    aligned to ArcFace's five landmarks. The crop is resized to `size` and normalized to (x - mean) / std.
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
    def _check_margin(self) -> Recognizer:
        if self.margin >= self.size:
            raise ValueError(f"the margin {self.margin} is not smaller than the size {self.size}")
        return self


_Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]


class Faces(Settings):
    """Face models and their settings: a folder of ONNX files for `insightface.app.FaceAnalysis`, or dlib's models."""

    name: str
    """Name of the embedder, shown with every identity value."""
    kind: Literal["dlib"] | None = None
    """`dlib`: the models of the optional extra `dlib`; None: a pack that insightface reads."""
    pack: str
    """Folder of the files; dlib's are those of the extra, if it is left out."""
    det_size: tuple[_Side, _Side] = (640, 640)
    det_thresh: float = 0.5
    """The detector's least score: a probability; for dlib that of its support vector machine, 0 if it is left out."""
    recognizer: Recognizer | None = None
    """A recognizer that replaces the one that insightface finds in the pack."""
    threshold: float | None = Field(default=None, gt=-1, lt=1)
    """Cosine from which two faces count as the same person's (column `verified`); None: not known.

    For dlib it is that of the models' own rule, if it is left out.
    """

    @model_validator(mode="before")
    @classmethod
    def _complete_dlib(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("kind") != "dlib":
            return data
        if data.get("recognizer") is not None:
            raise ValueError("dlib has a recognizer of its own; remove recognizer, or remove kind")
        return {"pack": DLIB_PACK, "threshold": DLIB_THRESHOLD, "det_thresh": 0.0, **data}

    @model_validator(mode="after")
    def _check_detection(self) -> Faces:
        low, high = (-2, 2) if self.kind == "dlib" else (0, 1)
        if not low < self.det_thresh < high:
            raise ValueError(f"det_thresh is {self.det_thresh:g}; give a number between {low} and {high}")
        return self


class Dtypes(Settings):
    """Number format of image generation per device type; scoring always uses float32."""

    cpu: DtypeName = "float32"
    cuda: DtypeName = "float16"

    def on(self, device: str) -> DtypeName:
        """The number format for a device, given by torch's name for it."""
        return self.cuda if device.startswith("cuda") else self.cpu


class Backbone(Settings):
    """A backbone file; its components are folders (relative to the file), `~` paths, or `hub:owner/name[/file]`.

    The pipeline can also be one `.safetensors` file in the original layout of its family.
    """

    extends: str | None = None
    """A built-in backbone that provides missing fields and, in mappings such as `sampler`, missing entries."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str
    pipeline: str
    fastcomposer: Variants | None = None
    ip_adapter: IPAdapters | None = None
    ip_adapter_faceid: Variants | None = None
    photomaker: str | None = None
    """PhotoMaker's file `photomaker-v1.bin`, for Stable Diffusion XL."""
    clip: str
    faces: tuple[Faces, ...] = Field(min_length=1)
    """Face models, one mapping or a list; each has its own identity columns, and the first one is the main one."""
    image_features: str | None = None
    """A self-supervised vision transformer with a class token, for image similarity; None: there is none."""
    resolution: int = Field(ge=8, le=4096, multiple_of=8)
    sampler: SamplerDefaults = SamplerDefaults()
    dtype: Dtypes = Dtypes()
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Method -> default options for this backbone."""
    licenses: dict[str, str] = Field(default_factory=dict)
    """License and origin of each component, shown by `fc-bench doctor`."""
    how_to_get: str = ""
    """The advice at the end of the error message for missing weights that no command downloads."""
    fetch: dict[str, str] = Field(default_factory=dict)
    """Shell commands that download components, if they differ from those of their hub repositories."""
    closed_vocabulary: bool = False
    """Whether the models were trained only on the words of the tokenizer, and not on pieces of other words."""
    architecture: str | None = None
    """Folder (relative to the file) with the models' configurations, which random weights need."""
    _file: Path = PrivateAttr(default=Path())
    _requested: str = PrivateAttr(default="")
    _fetched: dict[str, Path] = PrivateAttr(default_factory=dict)
    _pipelines: dict[Path, Path] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _extend(cls, data: Any) -> Any:
        """The content of the file, completed by the backbone that it extends."""
        name = data.get("extends") if isinstance(data, dict) else None
        if name is None:
            return data
        if name not in backbone_names():
            raise ValueError(f'extends: there is no built-in backbone "{name}", {nearest(str(name), backbone_names())}')
        return _merged(read_backbone(name), data)

    @field_validator("faces", mode="before")
    @classmethod
    def _as_list(cls, faces: Any) -> Any:
        return [faces] if isinstance(faces, dict) else faces

    @field_validator("faces")
    @classmethod
    def _check_names(cls, faces: tuple[Faces, ...]) -> tuple[Faces, ...]:
        names = [item.name for item in faces]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f'two face models are called "{twice}"; give each its own name')
        return faces

    @field_validator("licenses", "fetch")
    @classmethod
    def _check_components(cls, by_component: dict[str, str]) -> dict[str, str]:
        for name in by_component:
            if name.split("/")[0] not in COMPONENTS:
                raise ValueError(f'"{name}" is not a component; known: {", ".join(COMPONENTS)}')
        return by_component

    def components(self) -> dict[str, str]:
        """The declared components: component name -> value in the file.

        The names are `pipeline`, `fastcomposer/<variant>`, `ip_adapter/<variant>`, `ip_adapter_faceid/<variant>`,
        `ip_adapter_encoder`, `photomaker`, `clip`, `faces`, `faces/<name>` and `image_features`.
        """
        encoder = self.ip_adapter.image_encoder if self.ip_adapter else None
        return {
            "pipeline": self.pipeline,
            **{f"{kind}/{name}": value for kind in VARIANTS for name, value in self._variants(kind).items()},
            **({"ip_adapter_encoder": encoder} if encoder else {}),
            **({"photomaker": self.photomaker} if self.photomaker else {}),
            "clip": self.clip,
            **{self.faces_component(number): item.pack for number, item in enumerate(self.faces)},
            **({"image_features": self.image_features} if self.image_features else {}),
        }

    def faces_component(self, number: int) -> str:
        """Component name of the face models with this index in `faces`."""
        return "faces" if number == 0 else f"faces/{self.faces[number].name}"

    def always_needed(self) -> list[str]:
        """The components that every run needs: pipeline, CLIP and the face models."""
        return ["pipeline", "clip", *(self.faces_component(number) for number in range(len(self.faces)))]

    @property
    def fetches(self) -> bool:
        """Whether any component comes from a hub."""
        return any(value.startswith(HUB) for value in self.components().values())

    def variant(self, name: str | None, kind: str = "fastcomposer") -> str:
        """Component name of a variant of a `kind` in `VARIANTS`; None means the default.

        Raises ModelInputError when the backbone does not have the variant.
        """
        own: Variants | None = getattr(self, kind)
        what = VARIANTS[kind]
        if own is None:
            raise ModelInputError(
                f'The backbone "{self.name}" ({self._file}) declares no {what}; add one to its file, '
                "or choose another backbone."
            )
        name = name or own.default
        if name not in own.variants:
            raise ModelInputError(f'The backbone "{self.name}" has no {what} "{name}", {nearest(name, own.variants)}')
        return f"{kind}/{name}"

    def photomaker_component(self) -> str:
        """The component of PhotoMaker's file; raises ModelInputError when the backbone declares none."""
        if self.photomaker is None:
            raise ModelInputError(
                f'The backbone "{self.name}" ({self._file}) declares no PhotoMaker; add `photomaker:` to its file, or '
                "choose another backbone."
            )
        return "photomaker"

    def _variants(self, kind: str) -> dict[str, str]:
        """Variant name -> value in the file; empty if the backbone declares none of the kind."""
        own: Variants | None = getattr(self, kind)
        return own.variants if own is not None else {}

    def architecture_folder(self) -> Path | None:
        """The folder of the models' configurations; None if the backbone declares none."""
        return None if self.architecture is None else (self._file.parent / expanded(self.architecture)).resolve()

    def declared_path(self, component: str) -> Path | None:
        """The declared path of a local component, which may not exist; None for a component on the hub."""
        value = self.components()[component]
        if value.startswith(HUB):
            return None
        if value.startswith(PACKAGE):
            return _in_package(value.removeprefix(PACKAGE))
        try:
            return (self._file.parent / expanded(value)).resolve()
        except ModelInputError:
            return Path(value)  # files in an unknown home folder count as missing

    def found_path(self, component: str) -> Path | None:
        """The current path of a component, complete or not, locally or in the Hugging Face cache; downloads nothing.

        None for a component on the hub if the cache has nothing of it.
        """
        declared = self.declared_path(component) or self._fetched.get(component)
        return declared if declared is not None else cached(self.components()[component].removeprefix(HUB))

    def missing_files(self, component: str) -> list[RequiredFile]:
        """The missing files of a component; the component itself if it is on the hub and the cache has none of it."""
        path = self.found_path(component)
        if path is None:
            return [RequiredFile(Path(self.components()[component].removeprefix(HUB)), False)]
        return [item for item in self.required_files(component, path) if not item.present]

    def required_files(self, component: str, path: Path) -> list[RequiredFile]:
        """The files that a component needs at a path, present or not, in a stable order."""
        if not self._is_dlib(component):
            return required_files(component, path, self.family_at(path))
        packages = [] if find_spec("dlib") else [RequiredFile(Path("dlib"), False)]
        return [*packages, *dlib_files(path)]

    def family_at(self, pipeline: Path | None) -> Family | None:
        """The family of a pipeline, by its folder, or else by the architecture that the backbone declares.

        None if neither is known, as of a pipeline on the hub of which nothing is fetched.
        """
        named = family_by_name(pipeline) if pipeline is not None else None
        folder = self.architecture_folder()
        return named or (None if folder is None else family_of_architecture(folder))

    def lacks(self, method: str) -> str:
        """Why the backbone's family cannot run a method, in a sentence; empty if it can."""
        family = self.family_at(self.found_path("pipeline"))
        reason = None if family is None else family.lacks.get(method)
        if reason is None:
            return ""
        return f'The method "{method}" cannot run on {self.name}: {reason}; leave it out or choose another backbone.'

    def check_pipeline(self) -> None:
        """Raise ModelInputError for a pipeline of another family than the declared architecture, or of none."""
        path, folder = self.found_path("pipeline"), self.architecture_folder()
        if path is None or is_single_file(path):
            return
        family = family_of(path)
        declared = family if folder is None else family_of_architecture(folder)
        if declared is not family:
            base = f"extend another backbone than {self.extends}" if self.extends else "name its own `architecture:`"
            raise ModelInputError(
                f'The pipeline {path} is {family.title}, but the backbone "{self.name}" declares the architecture of '
                f"{declared.title}; choose another pipeline or {base}."
            )

    def _is_dlib(self, component: str) -> bool:
        """Whether a component is dlib's face models."""
        return any(
            faces.kind == "dlib" and component == self.faces_component(number)
            for number, faces in enumerate(self.faces)
        )

    def license(self, component: str) -> str:
        """License and origin of a component."""
        own = DLIB_LICENSE if self._is_dlib(component) else self.licenses.get(component.split("/")[0])
        return self.licenses.get(component) or own or "not stated"

    def fetch_command(self, component: str) -> str | None:
        """The shell command that downloads a component; None if there is none.

        It includes pickled weights if the cache has the repository without safetensors.
        """
        own = DLIB_EXTRA if self._is_dlib(component) else self.fetch.get(component.split("/")[0])
        declared = self.fetch.get(component) or own
        value = self.components()[component]
        if declared is not None or not value.startswith(HUB):
            return declared
        path = self.found_path(component)
        pickled = path is not None and path.is_dir() and not any(path.rglob("*.safetensors"))
        return hub_command(component, value.removeprefix(HUB), pickled, self.family_at(path))

    def advice(self, component: str) -> str:
        """What to do about a component's missing files that no command downloads, as a sentence without its period.

        The advice of an extended backbone applies only to that backbone's own files.
        """
        base = read_backbone(self.extends) if self.extends else None
        if base is not None and self.how_to_get == base.how_to_get:
            inherited = self.declared_path(component) in map(base.declared_path, base.components())
        else:
            inherited = True
        return (self.how_to_get.rstrip(".") if inherited else "") or "Put the files there"

    def by_hand(self, missing: Mapping[str, str]) -> str:
        """What to do about missing components that no command downloads; "" if there are none.

        `missing` maps each missing component to its first missing file.
        """
        by_advice: dict[str, list[str]] = {}
        for component, file in missing.items():
            if self.fetch_command(component) is None:
                by_advice.setdefault(self.advice(component), []).append(f"{component} ({file})")
        sentences = [
            f"{advice}." if len(files) == len(missing) else f"No command fetches {', '.join(files)}. {advice}."
            for advice, files in by_advice.items()
        ]
        return " ".join(sentences)

    def require(self, *components: str) -> None:
        """Raise MissingWeightsError for missing files of these components that their use does not download."""
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        local = [name for name in components if offline or self.declared_path(name) is not None]
        missing = {name: files for name in local if (files := self.missing_files(name))}
        if missing:
            raise self._missing(missing)

    def path(self, component: str) -> Path:
        """The local folder or file of a component, which is downloaded into the Hugging Face cache if necessary.

        For a pipeline in one file, or only in half precision, it is the prepared folder in the user's cache. Raises
        MissingWeightsError with the first missing file.
        """
        path = self.declared_path(component) or self._fetched.get(component)
        if path is None:
            path = self._fetched[component] = self._fetch(component)
        missing = [item for item in self.required_files(component, path) if not item.present]
        if missing:
            raise self._missing({component: missing})
        return self._prepared(path) if component == "pipeline" else path

    def _fetch(self, component: str) -> Path:
        reference = self.components()[component].removeprefix(HUB)
        try:
            return fetch(reference, component, self.family_at(None))
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
            self.check_pipeline()
            self._pipelines[path] = prepared_pipeline(path, self.architecture_folder(), lambda: self.path("clip"))
        return self._pipelines[path]

    def _missing(self, missing: Mapping[str, Sequence[RequiredFile]]) -> MissingWeightsError:
        """The error about missing files, given by component."""
        uncached = [name for name in missing if self.declared_path(name) is None]
        those = f"{', '.join(uncached)} {'is' if len(uncached) == 1 else 'are'}" if len(missing) > 1 else "it is"
        why = f"; {those} not in the local cache, and network access is disabled" if uncached else ""
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
        requested = shlex.quote(self._requested or self.name)
        return MissingWeightsError(text, f"{by_hand} `fc-bench doctor --backbone {requested}` lists every file.")

    def fingerprint(self, component: str) -> str:
        """sha256 of the names and contents of the component's files (hexadecimal)."""
        path = self.path(component)
        used = [item.path for item in dlib_files(path)] if self._is_dlib(component) else None
        return fingerprint(path, used)


def read_backbone(name_or_path: str) -> Backbone:
    """The built-in backbone with this name, or the backbone in a YAML file or in the backbone.yaml of a folder.

    Raises ModelInputError when there is none or its file is wrong.
    """
    known = backbone_names()
    if name_or_path in known:
        path = BACKBONES / f"{name_or_path}.yaml"
    elif name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path or Path(name_or_path).is_dir():
        path = expanded(name_or_path)
        path = path / FILE if path.is_dir() else path
    else:
        raise ModelInputError(
            f'Unknown backbone "{name_or_path}", {nearest(name_or_path, known)} You can also give the path of a YAML '
            "file."
        )
    backbone = read_yaml(path, Backbone)
    backbone._file, backbone._requested = path.resolve(), name_or_path
    return backbone


def backbone_names() -> list[str]:
    """Names of the built-in backbones."""
    return sorted(path.stem for path in BACKBONES.glob("*.yaml"))


def written_out(backbone: Backbone) -> dict[str, Any]:
    """The content of a backbone's file with absolute paths, so that it is valid in any folder."""
    data = backbone.model_dump(mode="json", exclude_none=True, exclude={"extends"})
    for key in ("pipeline", "photomaker", "clip", "image_features", "architecture"):
        data[key] = _absolute(backbone, data.get(key))
    for faces in data["faces"]:
        faces["pack"] = _absolute(backbone, faces["pack"])
    for kind in VARIANTS:
        if kind in data:
            variants = data[kind]["variants"]
            data[kind]["variants"] = {name: _absolute(backbone, value) for name, value in variants.items()}
    if encoder := data.get("ip_adapter", {}).get("image_encoder"):
        data["ip_adapter"]["image_encoder"] = _absolute(backbone, encoder)
    return {key: value for key, value in data.items() if value is not None}


def _merged(base: Backbone, data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a backbone's file, completed by the backbone that it extends."""
    merged = written_out(base)
    for key, value in data.items():
        both = key in ("sampler", "dtype", "methods", "licenses", "fetch") and isinstance(value, dict)
        merged[key] = {**merged.get(key, {}), **value} if both else value
        if key == "methods" and both:
            merged[key] |= {
                name: {**base.methods.get(name, {}), **own} for name, own in value.items() if isinstance(own, dict)
            }
    for component in COMPONENTS:
        if ("ip_adapter" if component == "ip_adapter_encoder" else component) in data:
            for field in ("licenses", "fetch"):
                if component not in (data.get(field) or {}):
                    merged.get(field, {}).pop(component, None)
    return merged


def _in_package(place: str) -> Path:
    """The path of `<package>/<folder>`, without an import of the package; relative if it is not installed."""
    package, _, inside = place.partition("/")
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(folders[0] if folders else package, inside)


def _absolute(base: Backbone, value: str | None) -> str | None:
    """A path from a backbone's file as an absolute path."""
    if value is None or value.startswith((HUB, PACKAGE, "~")):
        return value
    return str((base._file.parent / value).resolve())
