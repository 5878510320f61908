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
    file = pipeline / INDEX
    try:
        kind = json.loads(file.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelInputError(
            f"The pipeline {pipeline} has no {INDEX} that names its class ({type(error).__name__}); restore the file."
        ) from None
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
    try:
        kind = json.loads((pipeline / INDEX).read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return next((family for family in FAMILIES if kind in family.pipelines), None)


def family_of_architecture(folder: Path) -> Family:
    """The family whose models all have a configuration in a backbone's folder `architecture:`; else the first one."""

    def missing(family: Family) -> int:
        return sum(not (folder / f"{part.name}.json").is_file() for part in family.parts)

    complete = [family for family in FAMILIES if not missing(family)]
    return max(complete, key=lambda family: len(family.parts), default=FAMILIES[0])
