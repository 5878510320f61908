"""The run folder: append-only records that survive interruption, and images that are whole or absent.

    run.json          what was run and where: settings, suite copy, weights, provenance
    plan.jsonl        every sample asked for
    samples.jsonl     one line per finished sample; the truth about what exists
    jobs.jsonl        one line per customization
    scores.jsonl      one line per scored sample and metric
    answers.jsonl     one line per answer of a judge, as given
    images/<method>/<subjects>/<sample-id>.png
    attention/<method>/<subjects>/<sample-id>.npz   `maps`, of methods that show their attention, where a metric asks
    artefacts/<method>/<subjects>/     what a method left, until its samples are finished (or kept)
    checkpoints/<method>/<subjects>/   of a customization that is not finished, where asked for
    references/<subject>.png   a copy, so that a report needs nothing but the folder
    report/           derived, can be deleted

The lines are `json_lines`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.run_folder.json_lines import stream_fields, stream_lines
from fc_bench.run_folder.lock import PART, held
from fc_bench.run_folder.record_shapes import Sampled

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
QUALITY = "quality"
"""Kind of a run whose run.json names none; cost runs name theirs (`cost.records`)."""
RUN, PLAN, SAMPLES, JOBS, SCORES = "run.json", "plan.jsonl", "samples.jsonl", "jobs.jsonl", "scores.jsonl"
ANSWERS = "answers.jsonl"
LARGEST_MAPS = 64 << 20
"""Largest size in bytes of unpacked attention maps; those of two subjects at 64 x 64 take 16 KiB."""


@dataclass(frozen=True)
class RunFolder:
    """Paths and readers of a run folder."""

    path: Path

    def settings(self, kind: str = QUALITY) -> dict[str, Any]:
        """Content of run.json; raises UserError if the folder is not a run folder, or has another format or kind."""
        settings = self._content()
        if settings.get("kind", QUALITY) != kind:
            raise UserError(f"{self.path} is a {self.kind()} run, not a {kind} run; give another folder.")
        _refuse_wrong_settings(self.path / RUN, settings)
        return settings

    def kind(self) -> str:
        """`quality`, or the kind that run.json names; raises UserError if the folder is not a run folder."""
        return self._content().get("kind", QUALITY)

    def _content(self) -> dict[str, Any]:
        file = self.path / RUN
        if not file.is_file():
            raise UserError(f"{self.path} is not a run folder, because it has no {RUN}; give the folder of a run.")
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{file} cannot be read ({error}); restore it or start a new run folder.") from None
        if not isinstance(settings, dict) or settings.get("format") != FORMAT:
            found = settings.get("format") if isinstance(settings, dict) else None
            raise UserError(
                f"{file} has the format {found}, this version reads {FORMAT}; use the version that wrote it."
            )
        return settings

    def planned(self) -> dict[str, dict[str, Any]]:
        """Planned samples by id, in plan order; all in memory, as with `samples` and `scores`."""
        return {record["id"]: record for record in stream_lines(self.path / PLAN)}

    def samples(self) -> dict[str, dict[str, Any]]:
        """The last record of each sample by id."""
        return {record["id"]: record for record in stream_lines(self.path / SAMPLES)}

    def statuses(self, row: str | None = None) -> dict[str, str]:
        """The status (ok, error) of each recorded sample (of one row) by id; the last record counts."""
        recorded = stream_fields(self.path / SAMPLES, Sampled)
        return {record.id: record.status for record in recorded if row in (None, record.method)}

    def jobs(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The last record of each job by (method label, subject set)."""
        return {(record["method"], record["set"]): record for record in stream_lines(self.path / JOBS)}

    def scores(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The last score of each (sample id, metric)."""
        return {(record["sample"], record["metric"]): record for record in stream_lines(self.path / SCORES)}

    def within(self, name: str) -> Path:
        """A file that a record names; raises ValueError if it lies outside the run folder."""
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts or "\0" in name:
            raise ValueError(f"the record names the file {name!r}, which is not in the run folder")
        return self.path / name

    def image(self, record: Mapping[str, Any]) -> Path:
        """The image file of a sample record; raises ValueError as `within` does."""
        return self.within(record["image"])

    def attention(self, record: Mapping[str, Any]) -> np.ndarray | None:
        """The attention maps of a sample record, float32 [subjects, height, width], each with the sum 1.

        None if the method recorded none. Raises OSError or ValueError if the file is lost or damaged.
        """
        if record.get("attention") is None:
            return None
        maps = unpacked_maps(self.within(record["attention"])).astype("float32")
        return maps / maps.sum(axis=(1, 2), keepdims=True)

    def reference(self, subject: str) -> Path:
        """The copy of a subject's reference photograph."""
        return self.path / "references" / f"{subject}.png"


def _refuse_wrong_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Raise UserError if run.json lacks a field that readers of its kind rely on."""
    from pydantic import ValidationError

    from fc_bench.model.yaml_file import sentence
    from fc_bench.run_folder.settings import CostSettings, QualitySettings

    schema = QualitySettings if settings.get("kind", QUALITY) == QUALITY else CostSettings
    try:
        schema.model_validate(settings)
    except ValidationError as error:
        message = sentence(error, schema).rstrip(".")
        raise UserError(f"{file} is damaged ({message}); restore it or start a new run folder.") from None


@contextmanager
def opened_for_writing(path: Path) -> Iterator[RunFolder]:
    """The run folder, created if absent, locked for this process until the context ends.

    Raises UserError if it cannot be written, is not a run folder, or is locked by another process.
    """
    with held(path, RUN):
        _remove_unfinished(path)
        yield RunFolder(path)


def _remove_unfinished(path: Path) -> None:
    """Remove incomplete files of killed writers.

    Reports are written without the lock: only files of processes that no longer run on this machine are removed.
    """
    for left in path.rglob(f".*{PART}"):
        if left.relative_to(path).parts[0] != "report" or not _has_writer(left):
            with suppress(OSError):
                left.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove incomplete derived files of killed writers in a folder, but not files that are being written."""
    for left in folder.glob(f".*{PART}"):
        if not _has_writer(left):
            with suppress(OSError):
                left.unlink()


def _has_writer(part: Path) -> bool:
    """Whether the process that a temporary file is named after is alive."""
    named = re.search(rf"\.(\d+)-[0-9a-f]+{re.escape(PART)}$", part.name)
    if named is None:
        return False
    try:
        os.kill(int(named[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically: readers see the old or the new content, never a part.

    Several processes may write the same file: each writes its own temporary file, and the last one remains.
    """
    with _replaced(path) as file:
        file.write(content)


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that replaces another once it is complete; see `write_atomically`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not with tempfile, because other users could not read its files.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PART}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any) -> None:
    """Write plain data as indented JSON, atomically."""
    write_atomically(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def write_png(path: Path, image: Image.Image, texts: Mapping[str, str] | None = None) -> None:
    """Write an image as PNG with text fields, atomically."""
    write_atomically(path, png_of(image, texts))


def png_of(image: Image.Image, texts: Mapping[str, str] | None = None) -> bytes:
    """The content of a PNG file of an image with text fields."""
    from io import BytesIO

    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    for key, text in (texts or {}).items():
        about.add_text(key, text)
    buffer = BytesIO()
    image.save(buffer, format="PNG", pnginfo=about)
    return buffer.getvalue()


def unpacked_maps(path: Path) -> np.ndarray:
    """Attention maps as `write_maps` wrote them; raises ValueError for a file that unpacks to a much larger size.

    A damaged file raises the errors of zipfile and NumPy.
    """
    from zipfile import ZipFile

    import numpy as np

    with ZipFile(path) as archive:
        size = archive.getinfo("maps.npy").file_size
    if size > LARGEST_MAPS:
        raise ValueError(f"{path} unpacks to {size >> 20} MiB, maps are smaller than {LARGEST_MAPS >> 20} MiB")
    with np.load(path, allow_pickle=False) as content:
        return content["maps"]


def write_maps(path: Path, maps: np.ndarray) -> None:
    """Write attention maps [subjects, height, width] as float16, atomically."""
    from io import BytesIO

    import numpy as np

    buffer = BytesIO()
    np.savez_compressed(buffer, maps=maps.astype(np.float16))
    write_atomically(path, buffer.getvalue())


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole JSON-lines file, one record at a time, atomically; the records may come from the old file."""
    encoder = json.JSONEncoder(ensure_ascii=False)
    with _replaced(path) as file:
        for record in records:
            file.write(encoder.encode(record).encode() + b"\n")
