"""Image files as a viewer shows them: found in folders, read upright in 8 bits RGB, and why one cannot be read."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are no images, are damaged or cut off, or unpack to far too much."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jfif")
"""Of the image files that a folder is searched for, in any case."""
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw")
"""Of image files that are not read."""
_BY_SYSTEMS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
_CONVERT = "convert it to JPEG or PNG"
_CONTENTS = (
    (0, b"version https://git-lfs", "it is a pointer of Git LFS", "fetch it with git lfs pull"),
    (0, b"/annex/objects/", "it is a pointer of git-annex", "fetch it with git annex get"),
    (0, b"\x00\x05\x16\x07", "it holds what a Mac notes of a file, no image", "delete it"),
    (4, b"ftypavi", "it is AVIF, which is not read here", _CONVERT),
    (4, b"ftyp", "it is HEIC or a film, which is not read", _CONVERT),
    (0, b"\x00\x00\x00\x0cJXL ", "it is JPEG XL, which is not read", _CONVERT),
    (0, b"\xff\x0a", "it is JPEG XL, which is not read", _CONVERT),
    (0, b"%PDF", "it is a PDF", _CONVERT),
    (0, b"<", "it is a page or a drawing in text", "save the image itself"),
)
"""Place, bytes there, what the file is, what to do."""


def left_by_systems(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's: hidden, or put there by a system or a share."""
    return name.startswith(".") or name.lower() in _BY_SYSTEMS


def image_files(folder: Path, below: bool = False, suffixes: Sequence[str] = SUFFIXES) -> Iterator[Path]:
    """The files of a folder with these suffixes, `below` also of the folders in it, in no order.

    Links to files that are not here are among them, so that reading can say so; what systems left is not.
    """
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if below and not left_by_systems(name)]
        for name in names:
            path = Path(place, name)
            if path.suffix.lower() not in suffixes or left_by_systems(name):
                continue
            if path.is_file() or (path.is_symlink() and not path.exists()):
                yield path


def describe_left_out(files: Sequence[Path]) -> str:
    """Some files' names, for the beginning of a sentence on why they are left out."""
    return ", ".join(file.name for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def read_picture(path: Path) -> Image.Image:
    """The first picture of a file in RGB, turned upright by its EXIF orientation; raises one of UNREADABLE."""
    with Image.open(path) as image:
        image.load()
        return in_rgb(ImageOps.exif_transpose(image))


def describe_unreadable(path: Path, error: BaseException) -> tuple[str, str]:
    """Why a file could not be read as an image, and what to do, from what is there in its place."""
    if path.is_symlink() and not path.exists():
        return "it is a link to a file that is not here", "fetch that (git annex get, dvc pull) or replace it"
    try:
        with path.open("rb") as file:
            begin = file.read(64)
    except OSError:
        return str(error), "restore it"
    if not begin:
        return "it is empty", "replace it"
    for place, content, what, remedy in _CONTENTS:
        if begin[place:].startswith(content):
            return what, remedy
    return str(error), "replace it"


def _raise(error: OSError) -> None:
    raise error


def in_rgb(image: Image.Image) -> Image.Image:
    """8 bits a channel, three channels: 16 bits become 8, transparent parts are white.

    Raises one of UNREADABLE when the file cannot be decoded, ValueError for real numbers of unknown range.
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image, dtype=np.float64) / 257
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its values are real numbers of unknown range")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")
