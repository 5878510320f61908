"""The inspection of photographs before use: the squares that methods get, the people shown, and copies among them.

`validate`, `run`, `score`, `compose` and `init-suite` share it. Errors that make numbers wrong are refused; doubts are
remarks. Without face models it compares only the pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.inspection.copies import Copies
from fc_bench.inspection.looks import Finding, Look, Person, Photograph, Seen, listed, look_at, names_of
from fc_bench.inspection.people import Resemblance
from fc_bench.metrics.embedders import metric_classes
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.protocols import Subject, needs_faces
from fc_bench.run_folder.records import write_png
from fc_bench.scoring.anchors import anchors_of
from fc_bench.scoring.faces import Face, FaceFinder
from fc_bench.suites.photographs import (
    UNREADABLE,
    Crop,
    center_square,
    cut_out,
    face_square,
    read_photograph,
    shows_face,
)
from fc_bench.suites.suite import Suite

CROPPED = "photographs"
"""Folder of a run that holds squares of photographs."""
VERSION = 1
"""Format of the record in run.json."""


@dataclass(frozen=True)
class Inspection:
    """The findings, the crops by the photographs' names, and the face models in use (None: none)."""

    findings: tuple[Finding, ...]
    crops: Mapping[str, Crop] = field(default_factory=dict)
    faces: str | None = None

    @property
    def remarks(self) -> list[str]:
        """The findings that are no reason to refuse, in sentences."""
        return [finding.text for finding in self.findings if not finding.blocks]

    def refuse(self) -> None:
        """Raise UserError if a finding makes numbers wrong."""
        blocking = [finding.text for finding in self.findings if finding.blocks]
        if blocking:
            more = f" (1 of {len(blocking)} problems with the photographs.)" if len(blocking) > 1 else ""
            raise UserError(blocking[0] + more)

    def record(self, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The record in run.json, together with the findings of earlier commands of the run."""
        found = [*(earlier or {}).get("findings", []), *(one.record() for one in self.findings if not one.blocks)]
        kept = {one["text"]: one for one in found}
        crops = {**(earlier or {}).get("crops", {}), **{name: asdict(crop) for name, crop in self.crops.items()}}
        return {"version": VERSION, "faces": self.faces, "findings": list(kept.values()), "crops": crops}


class Inspector:
    """Inspects photographs, each of them once.

    `finder` detects the faces (None: no detection). `measured` are the embedders whose numbers depend on the reference
    faces (none: no face is required). `missing` names face models that are required but not on this machine.
    `has_ceiling` says whether other photographs are compared with the reference.
    """

    def __init__(
        self, finder: FaceFinder | None, measured: Sequence[int] = (), missing: str = "", has_ceiling: bool = True
    ) -> None:
        self._finder, self._measured, self._missing = finder, tuple(measured), missing
        self._has_ceiling = has_ceiling
        self._looks: dict[Path, Look] = {}

    def crops(self, subjects: Sequence[Subject]) -> dict[Path, Crop]:
        """The square that every method gets of each photograph that is not square; unreadable photographs are left out.

        If the subject is a person, the square follows the largest face, as `photographs.face_square` says.
        """
        found: dict[Path, Crop] = {}
        for subject in subjects:
            for path in (path for path in subject.photographs if not _is_square(path)):
                try:
                    look = self.look(path)
                except UserError:
                    continue
                face = look.faces[0].box if look.faces and self._is_person(subject.photographs) else None
                found[path] = face_square(look.size, face)
        return found

    def inspect(self, people: Sequence[Person], published: bool = False) -> Inspection:
        """All findings; with `published`, each method crops the photographs itself."""
        seen: list[Seen] = []
        findings: list[Finding] = []
        for person in people:
            for place, photograph in enumerate(person.photographs):
                try:
                    seen.append(Seen(person, place, self.look(photograph.path)))
                except UserError as error:
                    if person.requested:
                        findings.append(Finding("unreadable", str(error), True, (photograph.name,)))
        requested = [one for one in seen if one.person.requested]
        persons = {person.id for person in people if self._is_person([one.path for one in person.photographs])}
        shown = [one for one in requested if one.person.id in persons]
        findings += self._faceless(shown)
        findings += _cut_off(shown, published)
        copies = Copies(seen)
        findings += copies.findings(bool(self._measured))
        if self._finder is not None:
            portrayed = Resemblance([one for one in seen if one.person.id in persons], copies)
            findings += portrayed.findings(bool(self._measured))
        crops = {one.photograph.name: one.photograph.crop for one in seen if one.photograph.crop is not None}
        if self._missing and crops and not published:
            text = f"The face models {self._missing} are not here: photographs are cropped to their center square."
            findings.append(Finding("crop", text))
        return Inspection(tuple(findings), crops, self._finder.name() if self._finder else None)

    def look(self, path: Path) -> Look:
        """The look of a photograph; raises UserError if it is unreadable."""
        if path not in self._looks:
            image = read_photograph(path)
            finder = self._finder
            faces = [finder.look_close(image, face) for face in finder.search(image)] if finder else []
            self._looks[path] = look_at(image, faces)
        return self._looks[path]

    def _is_person(self, paths: Sequence[Path]) -> bool:
        """Whether faces are expected: they are measured, or more than half of the photographs show one."""
        if self._measured:
            return True
        looks = [look for path in paths if (look := self._readable(path)) is not None]
        return 2 * sum(bool(look.faces) for look in looks) > len(looks)

    def _readable(self, path: Path) -> Look | None:
        try:
            return self.look(path)
        except UserError:
            return None

    def _faceless(self, seen: Sequence[Seen]) -> Iterator[Finding]:
        """Photographs without a face in the part that methods get."""
        if self._finder is None:
            return
        for number in self._measured or (0,):
            others: dict[str, list[Seen]] = {}
            for one in seen:
                if self.shown_faces(one, number):
                    continue
                if one.is_reference and self._measured:
                    text = f"{self._finder.name(number)} finds no face in {one.given} of "
                    text += f'"{one.person.id}", the reference; use a photograph in which the face is visible.'
                    yield Finding("no-face", text, True, (one.photograph.name,))
                else:
                    others.setdefault(one.person.id, []).append(one)
            for person, own in others.items():
                them = "it" if len(own) == 1 else "them"
                compared = self._measured and self._has_ceiling
                what = f"the ceiling leaves {them} out" if compared else f"replace {them} if a face is meant"
                where = listed(one.given for one in own)
                text = f'{self._finder.name(number)} finds no face in {where} of "{person}": {what}.'
                yield Finding("no-face", text, photographs=names_of(own))

    def shown_faces(self, one: Seen, number: int) -> Sequence[Face]:
        """The faces in the part of a photograph that methods get."""
        assert self._finder is not None
        crop = one.photograph.crop
        if number == 0 and one.look.size[0] == one.look.size[1] and crop is None:
            return one.look.faces
        image = read_photograph(one.photograph.path)
        return self._finder.find(image if crop is None else cut_out(image, crop), number)


def _cut_off(seen: Sequence[Seen], published: bool) -> Iterator[Finding]:
    """Faces that a square cuts off, and squares that are off-center because of a face."""
    moved: list[Seen] = []
    cut: list[Seen] = []
    for one in (one for one in seen if one.look.faces):
        size, crop, face = one.look.size, one.photograph.crop, one.look.faces[0].box
        middle = center_square(size)
        if published and not shows_face(size, middle, face):
            cut.append(one)
        if crop is not None and crop.side == middle.side and not crop.degrees:
            if not shows_face(size, crop, face):
                cut.append(one)
            elif crop != middle:
                moved.append(one)
    if moved:
        text = f"{listed(names_of(moved))} {'is' if len(moved) == 1 else 'are'} cropped to a square around the face,"
        yield Finding("crop", f"{text} because the center square cuts off the head.", photographs=names_of(moved))
    if cut and published:
        text = f"The center square of {listed(names_of(cut))}, which methods that tune train on, cuts off the face;"
        yield Finding("crop", f"{text} crop by hand or set photograph_crop: face.", photographs=names_of(cut))
    elif cut:
        text = f"The square that methods get of {listed(names_of(cut))} cuts off the face, which is larger than the"
        yield Finding("crop", f"{text} square; use a photograph with more room around it.", photographs=names_of(cut))


def _is_square(path: Path) -> bool:
    """Whether a photograph is square or unreadable."""
    try:
        with Image.open(path) as image:
            return image.width == image.height
    except UNREADABLE:
        return True


def inspector_of(suite: Suite, backbone: Backbone | None, device: str = "cpu") -> Inspector:
    """The inspector of a suite: with a backbone its face models, without one only the pictures are compared."""
    names = suite.file.metrics
    if backbone is None:
        return Inspector(None, (0,) if any(needs_faces(registry.load("metrics", name)) for name in names) else ())
    metrics = metric_classes(names, backbone, suite.file.verification).values()
    measured = sorted({getattr(metric, "embedder", 0) for metric in metrics if needs_faces(metric)})
    finder = FaceFinder(backbone, device)
    if measured or finder.is_here():
        return Inspector(finder, measured)
    return Inspector(None, missing=finder.name())


def cropped(suite: Suite, inspector: Inspector, folder: Path) -> Suite:
    """The suite with the photographs that methods get, squares of them below a run folder (see `write_crops`)."""
    if suite.file.photograph_crop == "published":
        return suite
    return replace(suite, crops=inspector.crops(suite.sources), cropped=folder.resolve() / CROPPED)


def write_crops(suite: Suite, subjects: Collection[str]) -> None:
    """Write the missing squares of those subjects' photographs; raises OSError if that fails."""
    for source, shown in zip(suite.sources, suite.subjects, strict=True):
        if source.id in subjects:
            for path, square in zip(source.photographs, shown.photographs, strict=True):
                if square != path and not square.exists():
                    write_png(square, cut_out(read_photograph(path), suite.crops[path]))


def people_of(suite: Suite, requested: Collection[str] | None = None) -> list[Person]:
    """The suite's people for the inspection: the requested ones (None: all) and those of the floor."""
    everybody = [subject.id for subject in suite.sources]
    wanted = set(everybody if requested is None else requested)
    floor: set[str] = set()
    if wanted != set(everybody):
        sets = (subject_set.subjects for subject_set, _ in suite.subject_sets())
        known = [subjects for subjects in sets if all(subject.id in wanted for subject in subjects)]
        anchors = (anchor for subjects in known for anchor in anchors_of(subjects, suite.subjects))
        floor = {person.id for anchor in anchors for person in anchor.people} - wanted
    return [
        Person(
            subject.id,
            tuple(
                Photograph(path, path.relative_to(suite.root).as_posix(), suite.crops.get(path))
                for path in subject.photographs
            ),
            subject.id in wanted,
        )
        for subject in suite.sources
        if subject.id in wanted | floor
    ]
