"""Prepared pipelines: folders that libraries can load, made from pipelines in one file or only in half precision.

They are created once, in the user's cache. They can be deleted there, and the next use creates them again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fc_bench.model.backbones.layouts import is_single_file, variant_files
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.detection import family_of, family_of_architecture
from fc_bench.model.families.family import Family
from fc_bench.model.user_cache import made_once, writing_to_cache

log = logging.getLogger(__name__)
FURTHER = ("image_encoder", "postfuse_module", "ip_adapter", "ip_adapter_encoder", "photomaker")
"""What an architecture may have beside the pipeline: the first two are parts of FastComposer's checkpoints."""
KIND = "pipelines"
"""Name of the folder in the cache."""
FORMAT = 1
"""Version of the written files; another version is written again."""


def read_configurations(folder: Path) -> dict[str, dict[str, Any]]:
    """The configuration of each part of the family in an architecture's folder, and of those in FURTHER that it has.

    Raises ModelInputError when one cannot be read.
    """
    family, found = family_of_architecture(folder), {}
    further = [part for part in FURTHER if (folder / f"{part}.json").exists()]
    names = [*(part.name for part in family.parts), *(encoder.tokenizer for encoder in family.encoders)]
    for part in (*names, "scheduler", *further):
        try:
            found[part] = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelInputError(
                f"The configuration {folder / part}.json cannot be read ({error}); restore it."
            ) from None
    return found


def prepared_pipeline(path: Path, architecture: Path | None, tokenizer: Callable[[], Path]) -> Path:
    """A diffusers folder of the pipeline at `path`: the folder itself, or one in the cache that is made from it.

    A single file also needs the folder `architecture` (see `read_configurations`) and a tokenizer's folder, which it
    does not contain. Raises ModelInputError when the file does not fit the architecture, the folder is of no family, or
    the cache cannot be written.
    """
    if is_single_file(path):
        if architecture is None:
            raise ModelInputError(
                f"The pipeline {path} is a single file, which does not describe its architecture; add `extends: sd15` "
                "or `extends: sdxl`, whichever it is, to the backbone's file, or name a folder of configurations "
                "(`architecture:`)."
            )
        family, configurations, words = (
            family_of_architecture(architecture),
            read_configurations(architecture),
            tokenizer(),
        )
        inputs = [FORMAT, *_state(path), configurations, str(words)]
        return _prepare(path.stem, inputs, lambda part: _convert(path, family, configurations, words, part))
    variants = variant_files(path, family_of(path))
    if not variants:
        return path
    inputs = [FORMAT, str(path), *(item for file in variants.values() for item in _state(file))]
    return _prepare(path.name, inputs, lambda part: _link(path, variants, part))


def _state(file: Path) -> tuple[str, int, int]:
    state = file.stat()
    return str(file.resolve()), state.st_size, state.st_mtime_ns


def _prepare(stem: str, inputs: Any, make: Callable[[Path], None]) -> Path:
    with writing_to_cache(KIND, f"The pipeline {stem} cannot be prepared in"):
        return made_once(KIND, stem, inputs, make)


def _convert(
    file: Path, family: Family, architecture: Mapping[str, Mapping[str, Any]], tokenizer: Path, output: Path
) -> None:
    """Write a single file as a pipeline folder; each model keeps the number format that it has in the file."""
    import diffusers
    from accelerate import init_empty_weights

    from fc_bench.model.fastcomposer.prompts import check_tokenizer
    from fc_bench.model.stored_weights import load_strictly, read_checkpoint

    log.info("converting %s", file)
    state = {name: weight[...] for name, weight in read_checkpoint(file).items()}
    configs = {name: dict(config) for name, config in architecture.items()}
    what = f"the pipeline {file}"
    advice = "name a checkpoint of that architecture with UNet, autoencoder and every text encoder"
    parts: dict[str, Any] = {
        encoder.tokenizer: family.load_tokenizer(tokenizer, encoder.padding) for encoder in family.encoders
    }
    try:
        weights = family.convert(state, configs)
    except ModelInputError as error:
        raise ModelInputError(f"{what} is not a checkpoint of {family.title}: {error}") from None
    except (LookupError, ValueError, AttributeError) as error:
        raise ModelInputError(f"{what} is not a checkpoint of {family.title} ({error}): {advice}") from None
    del state
    with init_empty_weights(include_buffers=False):
        models = {part.name: part.build(configs[part.name]) for part in family.parts}
    for name, model in models.items():
        if not weights[name]:
            raise ModelInputError(f"{what} has no {name.replace('_', ' ')}: {advice}")
        dtype = next(iter(weights[name].values())).dtype
        load_strictly(model, weights[name], dtype, f"{what}, {name}", advice)
    for encoder in family.encoders:
        check_tokenizer(parts[encoder.tokenizer], models[encoder.part])
    scheduler = getattr(diffusers, configs["scheduler"]["_class_name"]).from_config(configs["scheduler"])
    family.pipeline({**parts, **models, "scheduler": scheduler}).save_pretrained(output)


def _link(folder: Path, variants: Mapping[str, Path], output: Path) -> None:
    """Link the folder's files into `output`, with the variants under the names that libraries look for first."""
    for file in folder.rglob("*"):
        if file.is_file():
            place = output / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(file.resolve(), place)
    for name, file in variants.items():
        os.symlink(file.resolve(), output / name)
        (output / file.relative_to(folder)).unlink()
