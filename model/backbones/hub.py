"""Weights in a Hugging Face Hub repository, downloaded into the local cache or found there."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from fc_bench.model.backbones.layouts import HubReference, required_files
from fc_bench.model.errors import NO_HUB_CACHE, is_missing_home
from fc_bench.model.families.detection import INDEX, family_by_name
from fc_bench.model.families.family import Family

HUB = "hub:"
"""Prefix of a reference to a hub repository."""


class NotFetchedError(Exception):
    """A repository's files cannot be downloaded; the text gives the reason.

    `offline` is true if network access is disabled, so that the hub was not contacted.
    """

    def __init__(self, reason: str, offline: bool) -> None:
        super().__init__(reason)
        self.offline = offline


def fetch(reference: str, component: str, family: Family | None) -> Path:
    """The snapshot folder of `owner/name`, or the file or folder inside that is named, in huggingface_hub's cache.

    Missing files are downloaded, in the first of the forms in which all weights are there (`HubReference.forms`). A
    pipeline whose `family` is unknown is asked for its index first. Raises NotFetchedError.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    hub = HubReference.read(reference)
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    try:
        if hub.is_file:
            return Path(hf_hub_download(hub.repository, hub.inside, local_files_only=offline))
        if component == "pipeline" and family is None:
            place = str(PurePosixPath(hub.inside, INDEX))
            family = family_by_name(Path(hf_hub_download(hub.repository, place, local_files_only=offline)).parent)
        folder = Path()
        for take, leave in hub.forms(component, family):
            snapshot = snapshot_download(
                hub.repository, allow_patterns=take, ignore_patterns=leave, local_files_only=offline
            )
            folder = Path(snapshot) / hub.inside
            missing = [file.path for file in required_files(component, folder, family) if not file.present]
            if not any(path.suffix == ".safetensors" for path in missing):
                break
        return folder
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_missing_home(error):
            raise
        reason = (
            NO_HUB_CACHE if is_missing_home(error) else (str(error).strip().splitlines() or [type(error).__name__])[0]
        )
        raise NotFetchedError(reason, offline) from None


def cached(reference: str) -> Path | None:
    """The cached folder or file of a reference; None if the Hugging Face cache has nothing of it."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    hub = HubReference.read(reference)
    if hub.is_file:
        found = try_to_load_from_cache(hub.repository, hub.inside)
        return Path(found) if isinstance(found, str) else None
    try:
        folder = Path(snapshot_download(hub.repository, local_files_only=True)) / hub.inside
        return folder if folder.is_dir() else None
    except (OSError, ValueError):
        return None
    except RuntimeError as error:
        if is_missing_home(error):
            return None
        raise
