"""Files that a table or a suite names, on any operating system."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePath, PureWindowsPath
from urllib.parse import unquote

from fc_bench.errors import UserError

_STORE = re.compile(r"/(annex/objects|\.dvc/cache|files/md5|blobs)/")
"""Folders in which git-annex, DVC and the Hugging Face hub store contents under their digests."""


def named_file(root: Path, name: str, what: str, whose: str = "") -> Path:
    """The file below `root` that a name means; `what`, the name and `whose` start the error message.

    An existing file is taken under its exact name. Otherwise the name may have backslashes, percent escapes, a leading
    `file:`, an absolute path into the folder, or another case or Unicode normal form, if exactly one file matches.
    Raises UserError if no file or several match, or if the file lies outside the folder after links are resolved,
    except for links into a content store.
    """
    what = f"{what} {_quoted(name)}{whose}"
    readings = [_below(root, reading) for reading in _readings(name)]
    inside = [part for part in readings if part is not None]
    try:
        for part in inside:
            if os.path.lexists(root / part):
                return _judged(root, root / part, what)
        for part in inside:
            fitting = _spelled(root, part)
            if len(fitting) > 1:
                names = " and ".join(str(path.relative_to(root)) for path in fitting[:2])
                raise UserError(f"{what} matches {names}; write the exact name of one.")
            if fitting:
                return _judged(root, fitting[0], what)
        for part in inside:
            os.lstat(root / part)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except PermissionError as error:
        raise UserError(f"{what} cannot be read ({error.strerror}); give this user access to its folder.") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{what} has no usable name ({type(error).__name__}); rename it.") from None
    if len(inside) < len(readings):
        last = re.split(r"[/\\]", name)[-1]
        there = f'write "{last}" for the file in it' if last and (root / last).is_file() else "put it there"
        raise UserError(f"{what} lies outside the folder {root}; {there}.")
    if any((root / f"{part}.dvc").is_file() for part in inside):
        raise UserError(f"{what} is not here, only its DVC file is; fetch it with dvc pull.")
    raise UserError(f"{what} does not exist in the folder {root}; put it there or correct the name.")


def _quoted(name: str) -> str:
    return f'"{name}"' if len(name) <= 200 and name.isprintable() else repr(name[:100])


def _readings(name: str) -> Iterator[str]:
    """The possible meanings of a name, the most literal first."""
    texts = [name]
    if re.match(r"file:", name, re.IGNORECASE):
        texts.append(re.sub(r"^file:(//(localhost)?(?=/))?", "", name, flags=re.IGNORECASE))
    if "%" in name:
        texts.append(unquote(texts[-1], errors="strict"))
    texts += [text.replace("\\", "/") for text in texts if "\\" in text]
    yield from dict.fromkeys(texts)


def _below(root: Path, name: str) -> PurePath | None:
    """The name relative to the folder; None if it leads out of the folder."""
    if PureWindowsPath(name.lstrip("/")).drive:
        return None
    for base in dict.fromkeys((root.resolve(), Path(os.path.abspath(root)))):
        path = Path(os.path.normpath(base / name))
        if path != base and path.is_relative_to(base):
            return path.relative_to(base)
    return None


def _spelled(root: Path, name: PurePath) -> list[Path]:
    """The files whose names are equal in one normal form; if there are none, also without regard to case."""
    for same in (_composed, _without_case):
        found = [root]
        for part in name.parts:
            found = [
                place / item
                for place in found
                if place.is_dir()
                for item in _names(place, place.stat().st_mtime_ns, same).get(same(part), ())
            ]
        if found:
            return sorted(found)
    return []


@lru_cache(maxsize=64)
def _names(folder: Path, changed: int, same: Callable[[str], str]) -> Mapping[str, Sequence[str]]:
    """The names in a folder by their folded form, until the folder changes."""
    names: dict[str, list[str]] = {}
    for item in os.listdir(folder):
        names.setdefault(same(item), []).append(item)
    return names


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _without_case(text: str) -> str:
    return _composed(text).casefold()


def _judged(root: Path, path: Path, what: str) -> Path:
    if path.is_symlink() and not path.exists():
        raise UserError(
            f"{what} is a link to a file that is not here; fetch it (git annex get, dvc pull) or replace it."
        )
    target = path.resolve()
    if not target.is_relative_to(root.resolve()) and not (path.is_symlink() and _STORE.search(target.as_posix())):
        raise UserError(f"{what} lies outside the folder {root}; put it there.")
    if not path.is_file():
        raise UserError(f"{what} is not a file; correct the name.")
    return path
