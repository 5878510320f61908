"""`fc-bench audit --photographs`: the calibration of a face embedder on labelled photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fc_bench.audit.photographs import Calibration, calibrate
from fc_bench.commands.init_suite import people_in
from fc_bench.commands.portraits import CONVERT, sorted_by_name
from fc_bench.errors import UserError, writing_to
from fc_bench.model.backbones.backbone import Backbone, read_backbone
from fc_bench.model.pictures import OTHER_SUFFIXES, SUFFIXES, describe_left_out, image_files
from fc_bench.model.yaml_file import nearest
from fc_bench.progress import progress
from fc_bench.reports.audit.photographs import show, write_calibration


@dataclass(frozen=True)
class CalibrationOptions:
    """The options of the command line."""

    photographs: Path
    backbone: str = "pocket"
    embedder: str | None = None
    false_accept_rate: float = 0.01
    out: Path | None = None


def audit_photographs(options: CalibrationOptions, console: Console) -> Calibration:
    """Calibrate, print the tables and write them; raises UserError if an input is unusable."""
    rate = options.false_accept_rate
    if not 0 < rate < 1:
        raise UserError(f"--false-accept-rate {rate:g} is no rate; give one between 0 and 1, such as 0.01.")
    backbone = read_backbone(options.backbone)
    number = _embedder(backbone, options.embedder)
    people = labelled(options.photographs)
    out = options.out or Path(f"{options.photographs.resolve().name}-audit")
    if out.resolve().is_relative_to(options.photographs.resolve()):
        raise UserError(f"{out} lies in the folder of photographs, where it would count as a person; name another one.")
    backbone.require(*(backbone.faces_component(one) for one in {0, number}))
    with progress(console, "Photographs", sum(map(len, people.values()))) as pieces:
        calibration = calibrate(people, backbone, number, rate, pieces)
    show(calibration, console)
    with writing_to(out):
        files = write_calibration(calibration, out)
    console.print(f"{files[0]}", markup=False, highlight=False, soft_wrap=True)
    return calibration


def labelled(folder: Path) -> dict[str, list[tuple[str, Path]]]:
    """Person -> subfolder and file of each photograph; raises UserError if a person has none."""
    people: dict[str, list[tuple[str, Path]]] = {}
    for person, own in people_in(folder).items():
        try:
            files = sorted_by_name(image_files(own, below=True))
            others = sorted_by_name(image_files(own, below=True, suffixes=OTHER_SUFFIXES))
        except OSError as error:
            raise UserError(f"The folder {own} cannot be read ({error.strerror}); make it readable.") from None
        if others:
            raise UserError(f"{own} holds {describe_left_out(others)}; {CONVERT}, or move them elsewhere.")
        if not files:
            raise UserError(f"The folder {own} has no photograph ({', '.join(SUFFIXES)}); put some there or remove it.")
        places = [path.parent.relative_to(own).as_posix() for path in files]
        people[person] = [("" if place == "." else place, path) for place, path in zip(places, files, strict=True)]
    return people


def _embedder(backbone: Backbone, name: str | None) -> int:
    """The index of the embedder of that name, of the main one without a name."""
    names = [faces.name for faces in backbone.faces]
    if name is not None and name not in names:
        raise UserError(f'The backbone "{backbone.name}" has no embedder "{name}", {nearest(name, names)}')
    return 0 if name is None else names.index(name)
