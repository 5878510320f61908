"""Models from their files: each weight is read and cast alone, so that no model is in memory in two number formats."""

import errno
import json
import pickle
import re
import warnings
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from fc_bench.model.errors import ModelInputError, loading

VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names in published autoencoders, and their current names."""
DIFFUSERS, TRANSFORMERS = ("diffusion_pytorch_model", "diffusion_pytorch_model"), ("model", "pytorch_model")
"""File names of weights, as safetensors and as .bin."""
RENEWAL = 32 * 2**20
"""Bytes that are read through one mapping of a file. They stay in memory until the mapping ends."""


def load_whole(
    kind: type[Any],
    folder: Path | str,
    dtype: torch.dtype = torch.float32,
    what: str = "the model",
    advice: str = "restore its weights and its config.json",
) -> Any:
    """The diffusers or transformers model in a folder; the peak of memory is the model and its largest weight.

    Weights are safetensors or .bin, whole or in shards; a .bin is read as a whole and released weight by weight. A
    transformers model may have a hub id. Raises ModelInputError, which starts with `what` and ends with `advice`, if
    weights are missing, or unexpected in a diffusers model.
    """
    where = f"{what} {folder}"
    with loading(where):
        if issubclass(kind, PreTrainedModel):
            return _transformer(kind, folder, dtype, where, advice)
        folder = Path(folder)
        with init_empty_weights(include_buffers=False):
            model = kind.from_config(kind.load_config(folder))
        weights = dict(current(*stored) for stored in _stored(folder, *DIFFUSERS).items())
        load_strictly(model, weights, dtype, where, advice)
    return model.eval()


def load_strictly(
    model: nn.Module,
    weights: MutableMapping[str, Any],
    dtype: torch.dtype,
    where: str,
    advice: str = "use the base pipeline and image encoder that it was trained from",
) -> None:
    """Move weights into a model: each is cast and then taken out of `weights`.

    Raises ModelInputError, with `advice` at its end, unless they match
    exactly.
    """
    expected = model.state_dict()
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing:
        raise ModelInputError(f"{where}: {len(missing)} weights are missing, for example {missing[0]}: {advice}")
    if unexpected:
        raise ModelInputError(
            f"{where}: {len(unexpected)} weights are unexpected, for example {unexpected[0]}: {advice}"
        )
    for key, value in weights.items():
        if value.shape != expected[key].shape:
            raise ModelInputError(
                f"{where}: {key} has shape {tuple(value.shape)} instead of {tuple(expected[key].shape)}: {advice}"
            )
    cast = {key: weights.pop(key)[...].to(dtype) for key in list(weights)}
    model.load_state_dict(cast, strict=True, assign=True)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """All weights by name: tensors of a .bin file (read weights-only), and of safetensors what `[...]` reads.

    The name of a weight in a .bin file of several parts, each a dictionary, begins with that of its part and a dot.
    Raises ModelInputError if the file is missing or damaged, or contains anything other than tensors.
    """
    kind = "safetensors" if file.suffix == ".safetensors" else "PyTorch"
    damaged = f"the checkpoint {file} is damaged or not a {kind} file: download it again"
    try:
        if kind == "safetensors":
            return dict(_Mapped(file).weights())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of what is refused below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file too short to look for its end
            raise ModelInputError(damaged) from error
        raise ModelInputError(f"the checkpoint {file} cannot be read ({error.strerror}): check the path") from error
    except pickle.UnpicklingError as error:
        if not _begins_as_checkpoint(file):
            raise ModelInputError(damaged) from error
        raise ModelInputError(
            f"the checkpoint {file} was refused, because it contains more than weights and could run code: get it from "
            "its authors"
        ) from error
    except Exception as error:  # damaged files make the readers raise many types
        raise ModelInputError(damaged) from error
    weights = _by_name(content) if isinstance(content, dict) else {}
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ModelInputError(
            f"the checkpoint {file} is neither a dictionary of tensors nor one of parts with tensors: choose another "
            "file"
        )
    for name, value in weights.items():
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise ModelInputError(
                f"the checkpoint {file} stores {name} in a sparse, quantized or empty form: save it with dense tensors"
            )
    return weights


def _begins_as_checkpoint(file: Path) -> bool:
    """Whether a file begins as PyTorch writes one: a zip archive, or a pickle of an old version."""
    with file.open("rb") as opened:
        return opened.read(2) in (b"PK", b"\x80\x02")


def _by_name(content: dict[Any, Any]) -> dict[str, Any]:
    """The values of a dictionary, and of the dictionaries in it."""
    weights: dict[str, Any] = {}
    for name, value in content.items():
        part = {f"{name}.{inner}": own for inner, own in value.items()} if isinstance(value, dict) else {name: value}
        weights.update({str(key): own for key, own in part.items()})
    return weights


def current(name: str, value: Any) -> tuple[str, Any]:
    """Name and value of a weight in current diffusers, which stores the attention of autoencoders in linear layers."""
    if not (found := re.search(r"\.attentions\.\d+\.(query|key|value|proj_attn)\.", name)):
        return name, value
    value = value[...]
    named = name.replace(f".{found.group(1)}.", f".{VAE_ATTENTION[found.group(1)]}.")
    return named, value.flatten(1) if value.ndim == 4 else value


class _Mapped:
    """A safetensors file that is mapped anew after `RENEWAL` bytes."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock, self._left = file, Lock(), RENEWAL  # transformers reads in several threads
        self._opened: Any = safe_open(file, "pt")

    def weights(self) -> Iterator[tuple[str, "_MappedWeight"]]:
        """Name and weight of all weights."""
        for name in self._opened.keys():  # noqa: SIM118 -- it is no mapping
            weight = self._opened.get_slice(name)
            yield name, _MappedWeight(self, name, torch.Size(weight.get_shape()))

    def read(self, name: str) -> Tensor:
        """A weight, which keeps its mapping as long as it exists."""
        with self._lock:
            if self._left <= 0:
                self._opened, self._left = safe_open(self._file, "pt"), RENEWAL
            value = self._opened.get_tensor(name)
            self._left -= value.nbytes
        return value


@dataclass(frozen=True)
class _MappedWeight:
    """A weight that is read when it is indexed."""

    file: _Mapped
    name: str
    shape: torch.Size

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> Tensor:
        return self.file.read(self.name)[index]


def _stored(folder: Path, safe: str, pickled: str) -> dict[str, Any]:
    """The weights in a model's folder by name, see `read_checkpoint`."""
    return {name: value for file in _files(folder, safe, pickled) for name, value in read_checkpoint(file).items()}


def _files(folder: Path, safe: str, pickled: str) -> list[Path]:
    """The files of a model's weights; raises OSError if there are none."""
    for name in (f"{safe}.safetensors", f"{pickled}.bin"):
        if (folder / name).is_file():
            return [folder / name]
        if (index := folder / f"{name}.index.json").is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return [folder / shard for shard in sorted(set(shards.values()))]
    raise OSError(f"it has no {safe}.safetensors")


def _transformer(kind: type[PreTrainedModel], folder: Path | str, dtype: torch.dtype, where: str, advice: str) -> Any:
    source: dict[str, Any] = {"pretrained_model_name_or_path": folder}
    if Path(folder).is_dir():
        config: Any = kind.config_class
        weights = _stored(Path(folder), *TRANSFORMERS)
        source = {
            "pretrained_model_name_or_path": None,
            "config": config.from_pretrained(folder),
            "state_dict": weights,
        }
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # the other tower of a CLIPModel is not needed
    try:
        loaded: Any = kind.from_pretrained(**source, dtype=dtype, output_loading_info=True)
    finally:
        transformers_logging.set_verbosity(verbosity)
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelInputError(f"{where}: {len(missing)} weights are missing, for example {missing[0]}: {advice}")
    return model
