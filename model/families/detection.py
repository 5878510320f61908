"""Which family a pipeline belongs to."""

from __future__ import annotations

import json
from pathlib import Path

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.family import Family
from fc_bench.model.families.sd1 import StableDiffusion1
from fc_bench.model.families.sdxl import StableDiffusionXL

FAMILIES: tuple[Family, ...] = (StableDiffusion1(), StableDiffusionXL())
"""All families."""
INDEX = "model_index.json"


def family_of(pipeline: Path) -> Family:
    """The family of the pipeline in a folder, by the class that its `model_index.json` names.

    Raises ModelInputError when the file cannot be read or names another class, and for look-alikes (`Family.check`).
    """
    kind = _class_name(pipeline)
    if kind is None:
        raise ModelInputError(f"The pipeline {pipeline} has no {INDEX} that names its class; restore the file.")
    found = next((family for family in FAMILIES if kind in family.pipelines), None)
    if found is None:
        known = ", ".join(f"{family.title} ({family.pipelines[0]})" for family in FAMILIES)
        raise ModelInputError(
            f"The pipeline {pipeline} is a {kind}, which is of no supported family; choose a pipeline of {known}."
        )
    found.check(pipeline)
    return found


def family_by_name(pipeline: Path) -> Family | None:
    """The family that a pipeline's `model_index.json` names; None if that cannot be told, which loading reports."""
    kind = _class_name(pipeline)
    return next((family for family in FAMILIES if kind in family.pipelines), None)


def family_of_architecture(folder: Path) -> Family:
    """The family of the UNet that is configured in a backbone's folder `architecture:`.

    Raises ModelInputError when the configuration cannot be read or is of no family.
    """
    file = folder / "unet.json"
    try:
        configuration = json.loads(file.read_text(encoding="utf-8"))
        return next(family for family in FAMILIES if family.has_denoiser(configuration))
    except (OSError, ValueError, AttributeError) as error:
        raise ModelInputError(f"The configuration {file} cannot be read ({error}); restore it.") from None
    except StopIteration:
        known = " or ".join(family.title for family in FAMILIES)
        raise ModelInputError(f"The configuration {file} is not the UNet of {known}; choose one that is.") from None


def _class_name(pipeline: Path) -> str | None:
    """The class that a pipeline's index names; None if that cannot be read."""
    try:
        return json.loads((pipeline / INDEX).read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
