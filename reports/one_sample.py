"""One sample on the terminal, and its image with the detected faces drawn into it."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fc_bench.analysis.aggregate import columns_of
from fc_bench.errors import UserError
from fc_bench.reports.escaping import visible
from fc_bench.reports.quality.contents import number
from fc_bench.reports.repetition import repeat_command
from fc_bench.reports.samples import SampleView, has_image
from fc_bench.reports.tables.model import NOTHING
from fc_bench.run_folder.records import RunFolder, write_atomically
from fc_bench.suites.photographs import UNREADABLE

SIDE = 768
"""Smallest side of the drawn image in pixels, so that labels can be read."""
COLORS = ("#2dd4bf", "#e879f9", "#fbbf24", "#60a5fa")
"""Colors of the subjects, as on the page; white for an unmatched face."""


def print_sample(folder: RunFolder, settings: Mapping[str, Any], view: SampleView, console: Console) -> None:
    """Print everything recorded of a sample; control characters of its texts are escaped."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in _facts(folder, settings, view):
        facts.add_row(name, escape(visible(text)))
    console.print(facts)
    console.print(_values(folder, view))
    console.print(_faces(view))
    for what, failure in [("", view.failure), *view.score_failures.items()]:
        if failure is not None:
            console.print()
            console.print(f"Traceback{f' of {visible(what)}' if what else ''}:", markup=False, highlight=False)
            console.print(visible(failure.traceback.rstrip()), markup=False, highlight=False, soft_wrap=True)
    command = repeat_command(settings, view.method, view.finished)
    if command is not None:
        console.print()
        console.print("To make it again, with the method's other samples:", highlight=False)
        console.print(visible(command), markup=False, highlight=False, soft_wrap=True)


def write_with_boxes(folder: RunFolder, view: SampleView) -> Path:
    """Write the sample's image, enlarged if small, with its faces' boxes and labels; returns the file.

    Raises UserError if there is no image or it cannot be written.
    """
    target = folder.path / "report" / "samples" / f"{view.id}.png"
    if not has_image(folder, view):
        reason = {"ok": "it does not lie in the run folder", "error": "the sample failed"}.get(
            view.status, "not reached"
        )
        raise UserError(f"There is no image of sample {view.id} to open: {reason}.")
    try:
        with Image.open(folder.path / str(view.image)) as image:
            pixels = image.convert("RGB")
    except UNREADABLE as error:
        raise UserError(f"{view.image} cannot be read as an image ({error}); restore it.") from None
    drawn = _drawn(pixels, view)
    try:
        buffer = BytesIO()
        drawn.save(buffer, format="PNG")
        write_atomically(target, buffer.getvalue())
    except OSError as error:
        raise UserError(f"{view.image} cannot be drawn to {target} ({error}); make room.") from None
    return target


def _facts(folder: RunFolder, settings: Mapping[str, Any], view: SampleView) -> list[tuple[str, str]]:
    nouns = {subject["id"]: subject["noun"] for subject in settings["suite"]["subjects"]}
    facts = [
        ("sample", view.id),
        ("method", view.method),
        ("subjects", ", ".join(f"{name} ({nouns.get(name, 'unknown')})" for name in view.subjects)),
        ("category", view.category),
        ("prompt as generated", view.generated_prompt if view.generated_prompt is not None else NOTHING),
        ("prompt as scored", view.prompt),
        ("seed", f"{view.seed} (image {view.index + 1} of this prompt)"),
        ("status", {"ok": "finished", "error": "failed", "missing": "not reached"}.get(view.status, view.status)),
    ]
    if view.failure is not None:
        facts.append(("reason", view.failure.message))
    for metric, failure in view.score_failures.items():
        facts.append((f"{metric} failed", failure.message))
    if view.seconds is not None:
        facts.append(("time", f"{view.seconds:.2f} s, one of {view.batch} generated together"))
    if view.peak_memory_bytes is not None:
        facts.append(("peak memory", f"{view.peak_memory_bytes / 2**30:.2f} GiB"))
    if view.finished is not None:
        facts.append(("finished", view.finished))
    if view.image is not None:
        lost = "" if has_image(folder, view) else " (not there)"
        facts.append(("image", f"{folder.path / view.image}{lost}"))
    if view.same_image_as is not None:
        facts.append(("same image as", view.same_image_as))
    return facts


def _values(folder: RunFolder, view: SampleView) -> Table:
    table = Table(title="Measured", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("meaning", overflow="fold")
    for column in columns_of(folder):
        value = view.values[column.name]
        shown = NOTHING if value is None else number(value, column)
        table.add_row(escape(visible(column.title)), shown, escape(visible(column.description)))
    return table


def _faces(view: SampleView) -> Table | str:
    if view.faces is None:
        return "No metric looked for faces in it."
    if not view.faces:
        return "No face was found."
    table = Table(title="Faces", title_justify="left")
    table.add_column("face")
    table.add_column("box (left, top, right, bottom)")
    table.add_column("score", justify="right")
    for subject in view.subjects:
        table.add_column(f"like {escape(visible(subject))}", justify="right")
    table.add_column("counted for")
    for place, face in enumerate(view.faces, start=1):
        similar = [_cosine(face.similarities.get(subject)) for subject in view.subjects]
        box = ", ".join(f"{end:.1f}" for end in face.box)
        matched = NOTHING if face.matched is None else escape(visible(face.matched))
        table.add_row(str(place), box, NOTHING if face.score is None else f"{face.score:.2f}", *similar, matched)
    return table


def _cosine(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _drawn(image: Image.Image, view: SampleView) -> Image.Image:
    """The image, at least `SIDE` pixels large, with boxes in the subjects' colors."""
    scale = max(1, -(-SIDE // max(image.size)))
    large = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    draw, letters = ImageDraw.Draw(large), max(large.size) // 36
    font = ImageFont.load_default(size=letters)
    for place, face in enumerate(view.faces or (), start=1):
        box = tuple(end * scale for end in face.box)
        if face.matched is None:
            color, label = "white", f"face {place}"
        else:
            color = COLORS[view.subjects.index(face.matched) % len(COLORS)]
            label = f"{face.matched} {_cosine(face.similarities.get(face.matched))}"
        draw.rectangle(box, outline="#101214", width=letters // 4 + 2)
        draw.rectangle(box, outline=color, width=letters // 5)
        above = (box[0], max(0, box[1] - 1.4 * letters))
        draw.text(above, visible(label), color, font, stroke_width=2, stroke_fill="#101214")
    return large
