"""Backbones: what all methods of a run share, declared in a YAML file.

A backbone names the diffusion pipeline, the FastComposer checkpoints, the CLIP scorer, the face models and the native
resolution. Built-in ones lie in `model/backbones/`; `read_backbone` also takes the path of one's own file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from fc_bench.model.errors import ModelInputError
from fc_bench.model.yaml_file import nearest, read_yaml

BACKBONES = Path(__file__).parent / "backbones"

SchedulerName = Literal["pndm", "ddim", "dpm", "euler"]
DtypeName = Literal["float32", "bfloat16", "float16"]

HUB = "hub:"
COMPONENTS = ("pipeline", "fastcomposer", "clip", "faces", "image_features")
"""What a backbone can consist of; the second and the last may be absent."""
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".onnx")
READ_SUFFIXES = (*WEIGHT_SUFFIXES, ".json", ".txt", ".model")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SamplerDefaults(_Part):
    """Sampler settings used where a suite gives none."""

    scheduler: SchedulerName = "pndm"
    steps: int = Field(default=50, ge=1, le=1000)
    guidance_scale: float = Field(default=5.0, ge=0, le=100)


class FastComposerParts(_Part):
    """FastComposer checkpoints: name of the variant -> folder, `pytorch_model.bin`, or `hub:owner/name/file`."""

    default: str
    variants: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_exists(self) -> FastComposerParts:
        if self.default not in self.variants:
            raise ValueError(f'default "{self.default}" is not a variant, {nearest(self.default, self.variants)}')
        return self


class Recognizer(_Part):
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


class Faces(_Part):
    """Face models: a folder of ONNX files that `insightface.app.FaceAnalysis` loads, and how they are called."""

    name: str
    """Name of the embedder, printed with every identity value."""
    pack: str
    det_size: tuple[int, int] = (640, 640)
    det_thresh: float = Field(default=0.5, gt=0, lt=1)
    recognizer: Recognizer | None = None
    """Instead of the recognizer that insightface finds in the pack."""


class Dtypes(_Part):
    """Number format of the generating models per kind of device; scoring is always float32."""

    cpu: DtypeName = "float32"
    cuda: DtypeName = "float16"


class Backbone(_Part):
    """A backbone file; component values are folders (relative to the file), `~` paths, or `hub:owner/name[/file]`."""

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
    """What to do when weights are missing; ends the error message."""
    architecture: str | None = None
    """Folder (relative to the file) with the models' configurations, to be filled with random weights."""
    _file: Path = PrivateAttr(default=Path())
    _fetched: dict[str, Path] = PrivateAttr(default_factory=dict)

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

    @field_validator("licenses")
    @classmethod
    def _known_components(cls, licenses: dict[str, str]) -> dict[str, str]:
        for name in licenses:
            if name not in COMPONENTS:
                raise ValueError(f'"{name}" is no component; known: {", ".join(COMPONENTS)}')
        return licenses

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
        return (
            None if self.architecture is None else (self._file.parent / Path(self.architecture).expanduser()).resolve()
        )

    def declared_path(self, component: str) -> Path | None:
        """Where a local component should lie, without looking; None for one on the hub."""
        value = self.components()[component]
        if value.startswith(HUB):
            return None
        return (self._file.parent / Path(value).expanduser()).resolve()

    def path(self, component: str) -> Path:
        """Local folder or file of a component; one on the hub is fetched into the Hugging Face cache first.

        Raises ModelInputError naming the first missing file.
        """
        path = self.declared_path(component) or self._fetched.get(component)
        if path is None:
            path = _fetch(self.components()[component].removeprefix(HUB), component, self)
            self._fetched[component] = path
        missing = next((item for item in required_files(component, path) if not item.present), None)
        if missing is not None:
            advice = f" {self.how_to_get.rstrip('.')}." if self.how_to_get else ""
            raise ModelInputError(
                f'Weights of the backbone "{self.name}" are missing: {component} needs {missing.path}.{advice} '
                f"`fc-bench doctor --backbone {self.name}` lists every file."
            )
        return path

    def fingerprint(self, component: str) -> str:
        """sha256 over names and contents of the component's files (hexadecimal)."""
        return fingerprint(self.path(component))


@dataclass(frozen=True)
class RequiredFile:
    """One file a component needs."""

    path: Path
    present: bool


def read_backbone(name_or_path: str) -> Backbone:
    """The built-in backbone of that name, or the one in a YAML file; raises ModelInputError when there is neither."""
    known = backbone_names()
    if name_or_path in known:
        path = BACKBONES / f"{name_or_path}.yaml"
    elif name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = Path(name_or_path).expanduser()
    else:
        raise ModelInputError(
            f'Unknown backbone "{name_or_path}", {nearest(name_or_path, known)} Or give the path of a YAML file.'
        )
    backbone = read_yaml(path, Backbone)
    backbone._file = path.resolve()
    return backbone


def backbone_names() -> list[str]:
    """Names of the built-in backbones."""
    return sorted(path.stem for path in BACKBONES.glob("*.yaml"))


def required_files(component: str, path: Path) -> list[RequiredFile]:
    """What must lie at `path` for `component`, present or not, in a stable order."""

    def need(*alternatives: str) -> RequiredFile:
        found = next((name for name in alternatives if (path / name).is_file()), None)
        return RequiredFile(path / (found or alternatives[0]), found is not None)

    def model(folder: str, stem: str) -> list[RequiredFile]:
        weights = [f"{folder}{stem}{suffix}" for suffix in (".safetensors", ".safetensors.index.json", ".bin")]
        return [need(f"{folder}config.json"), need(*weights)]

    tokenizer = ("tokenizer.json", "vocab.json")
    if component == "pipeline":
        return [
            need("model_index.json"),
            *model("unet/", "diffusion_pytorch_model"),
            *model("vae/", "diffusion_pytorch_model"),
            *model("text_encoder/", "model"),
            need(*(f"tokenizer/{name}" for name in tokenizer)),
            need("scheduler/scheduler_config.json"),
        ]
    if component.startswith("fastcomposer/"):
        if path.suffix == ".bin":
            return [RequiredFile(path, path.is_file())]
        return [
            *model("unet/", "diffusion_pytorch_model"),
            *model("image_encoder/", "model"),
            *model("postfuse_module/", "diffusion_pytorch_model"),
        ]
    if component == "clip":
        return [*model("", "model"), need(*tokenizer)]
    if component == "image_features":
        return [need("config.json"), need("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")]
    found = sorted(path.glob("*.onnx"))
    if not found:
        return [RequiredFile(path / "*.onnx (detector and recognizer)", False)]
    return [RequiredFile(file, True) for file in found]


def files_of(path: Path) -> Iterator[Path]:
    """The files below `path` that loading may read, in a stable order (`path` itself when it is a file)."""
    if path.is_file():
        yield path
        return
    yield from sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in READ_SUFFIXES)


def sha256_of(path: Path) -> str:
    """sha256 of one file's content (hexadecimal)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """sha256 over relative names and contents of `files_of(path)` (hexadecimal); files not touched are read once."""
    states = [(file, file.stat()) for file in files_of(path)]
    return _fingerprint(path, tuple((file, state.st_size, state.st_mtime_ns) for file, state in states))


@lru_cache(maxsize=256)
def _fingerprint(path: Path, states: tuple[tuple[Path, int, int], ...]) -> str:
    listing = [(file.relative_to(path).as_posix(), sha256_of(file)) for file, _, _ in states]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def make_scheduler(name: SchedulerName, config: Any) -> Any:
    """The named diffusers scheduler with the noise schedule of `config` (a scheduler's config).

    What only DDIM reads is set to Stable Diffusion's values: clipping predicted samples, its default, ruins latents.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from diffusers.schedulers.scheduling_pndm import PNDMScheduler

    if name == "ddim":
        return DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=False)
    if name == "pndm":
        return PNDMScheduler.from_config(config, skip_prk_steps=True)
    if name == "dpm":
        return DPMSolverMultistepScheduler.from_config(config)
    return EulerDiscreteScheduler.from_config(config)


def _fetch(reference: str, component: str, backbone: Backbone) -> Path:
    """`owner/name` -> snapshot folder, `owner/name/file` -> that file, through huggingface_hub's cache.

    Pickled weights of a snapshot are fetched only where there are no safetensors beside them.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    owner, name, *inside = reference.split("/")
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    try:
        if inside:
            return Path(hf_hub_download(f"{owner}/{name}", "/".join(inside), local_files_only=offline))
        skipped = ["*.ckpt", "*.msgpack", "*.h5", "*.onnx*", "*non_ema*", "*.fp16.*", "safety_checker/*"]
        wanted: dict[str, Any] = {"local_files_only": offline}
        snapshot = Path(snapshot_download(f"{owner}/{name}", ignore_patterns=["*.bin", *skipped], **wanted))
        if not any(snapshot.rglob("*.safetensors")):
            snapshot = Path(snapshot_download(f"{owner}/{name}", ignore_patterns=skipped, **wanted))
        return snapshot
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if offline:
            reason = "it is not in the local cache, and the network is not to be used: leave --offline out"
        raise ModelInputError(
            f'Weights of the backbone "{backbone.name}" are missing: {component} could not be fetched from the hub '
            f"repository {owner}/{name} ({reason})."
        ) from None
