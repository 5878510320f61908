"""Image files: search in folders, upright reading as 8-bit RGB, and descriptions of unreadable files."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Pillow's errors for files that are not images, are damaged or truncated, or decompress to an excessive size."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jfif")
"""Suffixes of the image files to search for; upper or lower case does not matter."""
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw")
"""Suffixes of image files that cannot be read."""
_BY_SYSTEMS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
_CONVERT = "convert it to JPEG or PNG"
_CONTENTS = (
    (0, b"version https://git-lfs", "it is a pointer of Git LFS", "fetch it with git lfs pull"),
    (0, b"/annex/objects/", "it is a pointer of git-annex", "fetch it with git annex get"),
    (0, b"\x00\x05\x16\x07", "it is macOS metadata and not an image", "delete it"),
    (4, b"ftypavi", "it is AVIF, which is not supported", _CONVERT),
    (4, b"ftyp", "it is HEIC or a video, which is not supported", _CONVERT),
    (0, b"\x00\x00\x00\x0cJXL ", "it is JPEG XL, which is not supported", _CONVERT),
    (0, b"\xff\x0a", "it is JPEG XL, which is not supported", _CONVERT),
    (0, b"%PDF", "it is a PDF", _CONVERT),
    (0, b"<", "it is a web page or an SVG drawing", "save the image itself"),
)
"""Offset, bytes at that offset, what the file is, what to do."""


def left_by_systems(name: str) -> bool:
    """Whether a file or folder with this name is hidden or comes from the operating system or a network share."""
    return name.startswith(".") or name.lower() in _BY_SYSTEMS


def image_files(folder: Path, below: bool = False, suffixes: Sequence[str] = SUFFIXES) -> Iterator[Path]:
    """The files of a folder with these suffixes, in no particular order; `below` includes its subfolders.

    Broken links are included, so that reading them reports an error. Files of the operating system are left out.
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
    """The names of some files, as the start of a sentence about why they are left out."""
    return ", ".join(file.name for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def read_picture(path: Path) -> Image.Image:
    """The first picture of a file in RGB, upright according to its EXIF orientation; raises one of UNREADABLE."""
    with Image.open(path) as image:
        image.load()
        return in_rgb(ImageOps.exif_transpose(image))


def describe_unreadable(path: Path, error: BaseException) -> tuple[str, str]:
    """Why a file could not be read as an image, and what to do."""
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
    """The image in RGB with 8 bits per channel; 16 bits become 8, and transparent parts become white.

    Raises one of UNREADABLE when the file cannot be decoded, ValueError for floating-point pixels of unknown range.
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image, dtype=np.float64) / 257
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")
