"""Weights in a Hugging Face Hub repository, downloaded into the local cache or found there."""

from __future__ import annotations

import os
from pathlib import Path

from fc_bench.model.backbones.layouts import hub_forms
from fc_bench.model.errors import NO_HUB_CACHE, is_missing_home
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


def fetch(reference: str, component: str, family: Family) -> Path:
    """The snapshot folder of `owner/name`, or the file of `owner/name/file`, in huggingface_hub's cache.

    Missing files are downloaded, in the first of the forms that the snapshot has (`hub_forms`). Raises NotFetchedError.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    owner, name, *inside = reference.split("/")
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    try:
        if inside:
            return Path(hf_hub_download(f"{owner}/{name}", "/".join(inside), local_files_only=offline))
        snapshot = Path()
        for take, leave in hub_forms(component, family):
            snapshot = Path(
                snapshot_download(
                    f"{owner}/{name}", allow_patterns=take, ignore_patterns=leave, local_files_only=offline
                )
            )
            if any(snapshot.rglob("*.safetensors")):
                break
        return snapshot
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_missing_home(error):
            raise
        reason = (
            NO_HUB_CACHE if is_missing_home(error) else (str(error).strip().splitlines() or [type(error).__name__])[0]
        )
        raise NotFetchedError(reason, offline) from None


def cached(reference: str) -> Path | None:
    """The cached folder or file of `owner/name[/file]`; None if the Hugging Face cache has nothing of it."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    owner, name, *inside = reference.split("/")
    if inside:
        found = try_to_load_from_cache(f"{owner}/{name}", "/".join(inside))
        return Path(found) if isinstance(found, str) else None
    try:
        return Path(snapshot_download(f"{owner}/{name}", local_files_only=True))
    except (OSError, ValueError):
        return None
    except RuntimeError as error:
        if is_missing_home(error):
            return None
        raise
