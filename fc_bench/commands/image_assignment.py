"""The assignment of a folder's images to a suite by a manifest, or by a run's records."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from fc_bench.errors import UserError
from fc_bench.layouts.requested import ImageFile, LeftOut, ReportedCost, RequestedImages, Slot, claim
from fc_bench.model.text_file import encoding_of
from fc_bench.model.yaml_file import nearest
from fc_bench.protocols import fill
from fc_bench.run_folder.json_lines import stream_fields
from fc_bench.run_folder.record_shapes import Sampled
from fc_bench.run_folder.records import SAMPLES, RunFolder
from fc_bench.suites.named_files import named_file
from fc_bench.suites.slugs import id_of
from fc_bench.suites.suite import Prompt, SubjectSet

COLUMNS = ("image", "subjects", "prompt")
"""The required columns of a manifest."""
MEMORY = ("peak_memory_bytes", "memory")
"""Names of the column with an image's peak memory in bytes."""
LONGEST = 1e12
"""Largest number of seconds."""
LARGEST_MANIFEST = 1 << 30
"""Largest size of a manifest in bytes."""
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ +()=,\[\]-]{0,99}", re.ASCII)


def read_manifest(
    manifest: Path, folder: Path, requested: RequestedImages, label: str
) -> tuple[dict[Slot, ImageFile], LeftOut]:
    """Images in a table with the columns `image` (below the folder), `subjects` (ids joined by +), `prompt`.

    A prompt is the suite's template, or its text with the class nouns filled in. Optional columns are `index` (from 0;
    otherwise the rows of a prompt are counted) and `method`. Rows of unknown subjects are left out if all requested
    sets have images; otherwise they raise UserError, because they may be misspelled. One file may appear in several
    rows of a method only if these have the same text and index, as for a text-only method; otherwise UserError is
    raised. What images took may be reported: `seconds` and `peak_memory_bytes` (or `memory`) of an image,
    `customization_seconds` and `storage_bytes` of a method's subject set, equal in all its rows that have them.
    """
    sets = {subject_set.key: (subject_set, prompts) for subject_set, prompts in requested.sets}
    known = {subject_set.key for subject_set, _ in requested.numbered}
    left_out = LeftOut()
    unknown: tuple[str, str] | None = None
    found: dict[Slot, ImageFile] = {}
    counted: dict[tuple[str, str, str], int] = {}
    first: dict[tuple[Path, str], tuple[str, tuple[str, int]]] = {}
    customized: dict[tuple[str, str, str], tuple[str, float | None]] = {}
    root = folder.resolve()
    for where, row in _manifest_rows(manifest):
        for needed in COLUMNS:
            if not row[needed]:
                raise UserError(f'{where}: the column "{needed}" is empty; fill it in or delete the row.')
        key = "+".join(id_of(name) for name in row["subjects"].split("+"))
        if key not in sets:
            left_out.sets += 1
            unknown = unknown if unknown or key in known else (where, key)
            continue
        subject_set, prompts = sets[key]
        template = _template(row["prompt"], subject_set, prompts, where)
        method = usable_label(row.get("method") or label, where)
        number = counted.get((method, key, template), 0)
        index = _whole(row["index"], where) if row.get("index") else number
        counted[method, key, template] = number + 1
        file = named_file(root, row["image"], f"{where}: the image")
        text = fill(template, [subject.noun for subject in subject_set.subjects])
        before, same = first.setdefault((file, method), (where, (text, index)))
        if same != (text, index):
            raise UserError(
                f"{where}: the image {file.name} is already used by {before} for another prompt or index; name each "
                "file once."
            )
        cost = _reported_cost(row, where)
        for name in ("customization_seconds", "storage_bytes"):
            value = getattr(cost, name)
            source, earlier = customized.setdefault((method, key, name), (where, value))
            if earlier is None:
                customized[method, key, name] = (where, value)
            elif value not in (None, earlier):
                raise UserError(
                    f"{where}: the {name} of {method} and {key} is {value:g}, but {earlier:g} in {source}; it is "
                    "that of the subject set, so write the same number in all its rows or in one."
                )
        claim(found, (method, key, template, index), ImageFile(file, cost=cost), requested, left_out, where)
    if unknown and requested.keys - {slot[1] for slot in found}:
        where, key = unknown
        raise UserError(f'{where}: the suite has no subjects "{key}", {nearest(key, sets)}')
    if not found:
        which = " of the requested subject sets" if left_out.sets else ""
        raise UserError(f"{manifest} lists no image{which}; give one row for each.")
    return found, left_out


def read_run(run: RunFolder, requested: RequestedImages, label: str | None) -> tuple[dict[Slot, ImageFile], LeftOut]:
    """The finished images of a run folder, from its records; `label` renames the method of a run with one method.

    Raises UserError if no image is requested, or if a run with several methods gets a name.
    """
    settings = run.settings()
    if label is not None and len(settings["methods"]) > 1:
        raise UserError(
            f"{run.path} holds the rows {', '.join(settings['methods'])}, which keep their names; leave --method out."
        )
    templates = {subject_set.key: {prompt.template for prompt in prompts} for subject_set, prompts in requested.sets}
    found: dict[Slot, ImageFile] = {}
    left_out = LeftOut()
    for record in {one.id: one for one in stream_fields(run.path / SAMPLES, Sampled)}.values():
        key = "+".join(record.subjects)
        file = image_of(run, record)
        if file is None:
            continue
        if key not in templates:
            left_out.sets += 1
        elif record.template not in templates[key]:
            left_out.prompts += 1
        elif record.index >= requested.images:
            left_out.images += 1
        else:
            claim(
                found,
                (usable_label(label or record.method), key, record.template, record.index),
                ImageFile(file),
                requested,
                left_out,
            )
    if not found:
        raise UserError(
            f"{run.path} has no image that the suite requires{left_out.summary()}; choose the suite of the run."
        )
    return found, left_out


def image_of(run: RunFolder, record: Sampled) -> Path | None:
    """The file of a sample's image; None if it failed or its image is lost."""
    if record.status != "ok" or record.image is None:
        return None
    try:
        file = run.within(record.image)
    except ValueError as error:
        raise UserError(f"{run.path / SAMPLES}: {error}; restore it.") from None
    return file if file.is_file() else None


def _reported_cost(row: Mapping[str, str], where: str) -> ReportedCost:
    """The cost that a row reports; raises UserError for what is no number."""
    given = [name for name in MEMORY if row.get(name)]
    if len(given) > 1:
        raise UserError(f"{where}: both {' and '.join(given)} are given; keep one.")
    memory = given[0] if given else MEMORY[0]
    return ReportedCost(
        _seconds(row, "seconds", where),
        _bytes(row, memory, where),
        _seconds(row, "customization_seconds", where),
        _bytes(row, "storage_bytes", where),
    )


def _seconds(row: Mapping[str, str], name: str, where: str) -> float | None:
    text = row.get(name)
    if not text:
        return None
    if not re.fullmatch(r"\d{1,12}(\.\d*)?([eE][-+]?\d{1,2})?", text, re.ASCII) or float(text) > LONGEST:
        raise UserError(f'{where}: the {name} "{text}" is not a number of seconds, such as 1.5; correct it.')
    return float(text)


def _bytes(row: Mapping[str, str], name: str, where: str) -> int | None:
    text = row.get(name)
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,18})(\.0*)?", text, re.ASCII)
    if match is None:
        raise UserError(f'{where}: the {name} "{text}" is not a whole number of bytes; correct it.')
    return int(match[1])


def _manifest_rows(manifest: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Rows with their positions, values stripped and empty rows left out.

    Spreadsheets write commas, semicolons or tabs: the separator is taken from the header. Raises UserError for an
    invalid table.
    """
    try:
        if manifest.stat().st_size > LARGEST_MANIFEST:
            raise UserError(f"{manifest} is larger than {LARGEST_MANIFEST >> 20} MiB; split it.")
        with manifest.open(encoding=encoding_of(manifest), newline="") as file:
            header, separator, skipped = _header(file)
            names = _columns(header, f"{manifest}:{skipped + 1}")
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
            for fields in reader:
                where = f"{manifest}:{skipped + 1 + reader.line_num}"
                values = [field.strip() for field in fields]
                if not any(values):
                    continue
                if any(value for place, value in enumerate(values) if place >= len(names) or not names[place]):
                    raise UserError(
                        f"{where}: the row has more fields than the header; quote fields that hold a separator."
                    )
                values += [""] * (len(names) - len(values))
                yield where, {name: value for name, value in zip(names, values, strict=False) if name}
    except UnicodeError as error:
        reason = f"{error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UserError(f"{manifest} is not UTF-8 text ({reason}); save the table as CSV in UTF-8.") from None
    except csv.Error as error:
        raise UserError(f"{manifest} is not a CSV file ({error}); correct it.") from None
    except OSError as error:
        raise UserError(f"{manifest} cannot be read ({error.strerror}); correct --manifest.") from None


def _header(file: TextIO) -> tuple[list[str], str, int]:
    """The names of the columns, the separator that yields most required columns, and the number of preceding lines."""
    separators = ",;\t"
    for skipped, line in enumerate(file):
        if declared := re.fullmatch(r"sep=(.)", line.rstrip("\r\n"), re.IGNORECASE):
            separators = declared[1]
        elif line.strip(f'{separators} \r\n"'):
            rows = {
                separator: next(csv.reader([line], delimiter=separator, skipinitialspace=True))
                for separator in separators
            }
            split = {separator: [_column(name) for name in row] for separator, row in rows.items()}
            best = max(split, key=lambda separator: sum(name in COLUMNS for name in split[separator]))
            return split[best], best, skipped
    return [], ",", 0


def _column(name: str) -> str:
    """A column's name, stripped and in lower case."""
    return name.strip().lower()


def _columns(names: Sequence[str], where: str) -> Sequence[str]:
    """The names, after a check that none is missing or repeated."""
    for needed in COLUMNS:
        if needed not in names:
            shown = ", ".join(name for name in names if name)
            raise UserError(f'{where}: the column "{needed}" is missing; found: {shown or "none"}.')
    for name, count in Counter(names).items():
        if name and count > 1:
            raise UserError(f'{where}: the column "{name}" occurs {count} times; keep one.')
    return names


def _template(prompt: str, subject_set: SubjectSet, prompts: Sequence[Prompt], where: str) -> str:
    """The suite's template that matches a manifest's prompt."""
    nouns = [subject.noun for subject in subject_set.subjects]
    texts = {fill(item.template, nouns): item.template for item in prompts}
    templates = [item.template for item in prompts]
    known = {_even(text): template for text, template in [*texts.items(), *zip(templates, templates, strict=True)]}
    if _even(prompt) in known:
        return known[_even(prompt)]
    raise UserError(f'{where}: the suite has no prompt "{prompt}" for {subject_set.key}, {nearest(prompt, templates)}')


def _even(text: str) -> str:
    """A text with normalized blanks and accents."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def usable_label(name: str, where: str = "") -> str:
    """The name of a method, unchanged; raises UserError if it is not usable."""
    if not _LABEL.fullmatch(name):
        prefix = f"{where}: " if where else ""
        raise UserError(
            f"{prefix}the method's name {name!r} is not usable; give one of up to 100 letters, digits, spaces and "
            ". _ - + = , ( ) [ ] with --method."
        )
    return name


def _whole(text: str, where: str) -> int:
    """The number, also with the zero decimals of a spreadsheet: 1.0 or 1,0."""
    match = re.fullmatch(r"(\d{1,9})([.,]0*)?", text, re.ASCII)
    if not match:
        raise UserError(f'{where}: the index "{text}" is not a whole number from 0 on; correct it.')
    return int(match[1])
