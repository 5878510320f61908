"""Layouts: which files each component of a backbone consists of, in the forms in which they are published."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fc_bench.model.fastcomposer.overlay import TRAINED_LAYERS, UNET_DIFFERENCE

SINGLE_FILE = ".safetensors"
"""Suffix of a whole pipeline in one file, under the names of the original implementation."""
VARIANT = "fp16"
"""Of weights published in half precision beside the others, or in their place."""
DIFFUSERS, TRANSFORMERS = ("diffusion_pytorch_model", "diffusion_pytorch_model"), ("model", "pytorch_model")
"""Names of weights, as safetensors and as .bin."""
PIPELINE = {"unet": DIFFUSERS, "vae": DIFFUSERS, "text_encoder": TRANSFORMERS}
"""Models of a Stable-Diffusion-shaped pipeline."""
OVERLAY = {"unet": DIFFUSERS, "image_encoder": TRANSFORMERS, "postfuse_module": DIFFUSERS}
"""Models that FastComposer trains."""
REDUCED = {"unet": UNET_DIFFERENCE, "image_encoder": TRAINED_LAYERS}
"""Parts of a FastComposer folder that may be there as what training changed of those they began with."""


@dataclass(frozen=True)
class RequiredFile:
    """One file a component needs."""

    path: Path
    present: bool


def is_single_file(path: Path) -> bool:
    """Whether the path names a pipeline in one file."""
    return path.suffix == SINGLE_FILE


def required_files(component: str, path: Path) -> list[RequiredFile]:
    """What must lie at `path` for `component`, present or not, in a stable order.

    Of the forms in which a part may be there, the one that is there is listed; where there is none, the first.
    """
    if component == "pipeline":
        if is_single_file(path):
            return [RequiredFile(path, path.is_file())]
        return [
            _one(path, "model_index.json"),
            *(file for part, names in PIPELINE.items() for file in _model(path, f"{part}/", names)),
            *_tokenizer(path, "tokenizer/"),
            _one(path, "scheduler/scheduler_config.json"),
        ]
    if component.startswith("fastcomposer/"):
        if path.suffix in (".bin", ".safetensors"):
            return [RequiredFile(path, path.is_file())]
        reduced = {part: path / part / name for part, name in REDUCED.items() if (path / part / name).is_file()}
        whole = {part: names for part, names in OVERLAY.items() if part not in reduced}
        models = [file for part, names in whole.items() for file in _model(path, f"{part}/", names)]
        return [*models, *(RequiredFile(file, True) for file in reduced.values())]
    if component == "clip":
        return [*_model(path, "", TRANSFORMERS), *_tokenizer(path, "")]
    if component == "image_features":
        return _model(path, "", TRANSFORMERS)
    found = sorted(path.glob("*.onnx"))
    if not found:
        return [RequiredFile(path / "*.onnx (detector and recognizer)", False)]
    return [RequiredFile(file, True) for file in found]


def holds_trained_layers(checkpoint: Path) -> bool:
    """Whether a FastComposer folder keeps of its image encoder what training changed of the CLIP it began with."""
    return (checkpoint / "image_encoder" / TRAINED_LAYERS).is_file()


def variant_files(folder: Path) -> dict[str, Path]:
    """Plain name -> file of what a pipeline folder has in the half-precision variant alone; empty where nothing is."""
    found: dict[str, Path] = {}
    for part, names in PIPELINE.items():
        plain = [name for name in _forms(names) if VARIANT not in name]
        if any((folder / part / name).is_file() for name in plain):
            continue
        for name in _forms(names):
            if VARIANT in name and (folder / part / name).is_file():
                found[f"{part}/{name.replace(f'.{VARIANT}', '')}"] = folder / part / name
                break
    return found


def hub_patterns(component: str, pickled: bool = False) -> tuple[list[str], list[str]]:
    """Which files of a hub repository a component consists of: patterns to take and, of these, to leave out.

    Pickled weights are for repositories that have no safetensors.
    """
    weights = "bin" if pickled else "safetensors"
    if component == "pipeline":
        take = ["model_index.json", "*/*.json", "*/*.txt", f"*/*.{weights}"]
        return take, ["safety_checker/*", "*non_ema*", f"*.{VARIANT}.*"]
    return ["*.json", "*.txt", f"*.{weights}"], ["*/*"]


def hub_command(component: str, reference: str, pickled: bool = False) -> str:
    """The shell command that brings a component from a hub repository, `owner/name[/file]`, into the local cache.

    Pickled weights too, beside safetensors, where it is known that the repository may have no others.
    """
    owner, name, *inside = reference.split("/")
    command = ["hf", "download", f"{owner}/{name}"]
    if inside:
        return shlex.join([*command, "/".join(inside)])
    take, leave = hub_patterns(component)
    take += [item for item in hub_patterns(component, True)[0] if pickled and item not in take]
    options = [*(word for item in take for word in ("--include", item))]
    options += [word for item in leave for word in ("--exclude", item)]
    return shlex.join([*command, *options])


def hub_names(component: str, reference: str) -> list[str]:
    """Names of the files that a component on the hub needs, as far as they are known without looking there."""
    _, _, *inside = reference.split("/")
    if inside:
        return ["/".join(inside)]
    nowhere = Path("nowhere") / "at-all"
    return [PurePosixPath(file.path.relative_to(nowhere)).as_posix() for file in required_files(component, nowhere)]


def _forms(names: tuple[str, str]) -> Iterator[str]:
    """File names that weights may have, in the order in which libraries look for them; shards have an index."""
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
    """In one file, or as a vocabulary with its merges."""
    if (path / folder / "tokenizer.json").is_file():
        return [_one(path, f"{folder}tokenizer.json")]
    return [_one(path, f"{folder}vocab.json"), _one(path, f"{folder}merges.txt")]


def _shards(index: Path) -> Sequence[Path]:
    """The files that an index of weights names; none where it cannot be read, which loading it says."""
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [index.parent / name for name in sorted(set(names))]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return []
