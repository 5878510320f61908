"""XVerseBench (bytedance/XVerse) and UMO (bytedance/UMO): 2 x 2 grids `0_A_man_is_riding_a_motorcycle..png`."""

from __future__ import annotations

import re
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import (
    FACES,
    THINGS,
    Benchmark,
    BenchmarkPrompt,
    BenchmarkSubject,
    Record,
    chosen_subset,
    first_file,
    records_in,
    subject_id,
    with_slots,
)
from fc_bench.layouts.layout import Item, Layout, Unknown, words
from fc_bench.suites.suite import Suite

SHOWN = 40
"""Characters of the prompt in a file's name."""


class XVerse(Layout):
    """The prompt's name or number, from 0, and its beginning; four images of the prompt in a 2 x 2 grid, row by row.

    Their scripts find a file by its number and cut it into four (src/utils/data_utils.py, `split_grid`).
    """

    name = "xverse"
    expects = "0_a_man_riding_a_horse.png, a 2 x 2 grid"
    pattern = re.compile(r"(?P<item>0|[1-9]\d{0,8})(?P<text>_.*)?", re.DOTALL)
    images = 4
    grids = True

    def image_name(self, item: Item, index: int) -> str:
        """The number and the prompt's first 40 characters, with `_` for blanks and slashes."""
        return f"{item.label}_{re.sub(r'[ /]', '_', item.text[:SHOWN])}"

    def unknown(self, file: str, match: re.Match[str], suite: Suite, items: int) -> Unknown:
        """A number without a text is refused; other prompts of the benchmark are left out, as of a part of it."""
        found = super().unknown(file, match, suite, items)
        return found if match["text"] is None else Unknown(found.text, refused=False)

    def refused_count(self, folder: Path, files: int, items: int) -> str:
        """Fewer files than prompts (eval/tools/idip_face_score.py)."""
        return f"{files} files for {items} prompts" if files < items else ""

    def contradiction(self, folder: Path, file: Path, match: re.Match[str], item: Item) -> str:
        """The beginning of another prompt in the file's name."""
        return "" if self._fits(match, item) else match["text"][1:].replace("_", " ")

    def _fits(self, match: re.Match[str], item: Item) -> bool:
        """Whether a file's name has the beginning of the item's prompt, or none."""
        return match["text"] is None or words(match["text"]) == words(item.text[:SHOWN])


class Umo(XVerse):
    """The grids that UMO's scripts write and read (eval/id_conf_xversebench.py)."""

    name = "umo"


_PEOPLE = "human"
_PARTS = ("single", "multi", "single-people", "multi-people")


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """A list of the benchmark in a clone of its repository: all of it, or its people alone.

    Of people alone, other subjects are words of the text, and prompts without people are left out, so that face metrics
    apply. Raises UserError for metadata of another form.
    """
    part = chosen_subset(subset, _PARTS)
    people_alone = part.endswith("-people")
    file = first_file(folder, f"eval/tools/XVerseBench_{part.removesuffix('-people')}.json")
    subjects: dict[str, BenchmarkSubject] = {}
    prompts = []
    records = records_in(file)
    for number, record in enumerate(records):
        if record.content.get("index", number) != number:
            raise UserError(f"{record.where}: the index is {record.content['index']}; restore the file.")
        own = [one for one in _subjects(record) if not people_alone or one[0].attributes["kind"] == _PEOPLE]
        if not own:
            continue
        for subject, _, _ in own:
            subjects.setdefault(subject.id, subject)
        order, template = with_slots(
            record.text("prompt"), [noun for _, noun, _ in own], [occurrence for _, _, occurrence in own]
        )
        ids = tuple(own[place][0].id for place in order)
        name = str(number) if people_alone else None
        prompts.append(BenchmarkPrompt(ids, part.removesuffix("-people"), template, name=name))
    left_out = len(records) - len(prompts)
    remarks = (f"{left_out} of {len(records)} prompts show no person and are left out; the others keep their numbers.",)
    return Benchmark(
        name=f"xverse-{part}",
        description=f"XVerseBench ({part}): people, animals and objects."
        if not people_alone
        else f"XVerseBench ({part}): the prompts with people, whose other subjects are words of the text.",
        license="people: CC0, subject to the intellectual property owned by Bytedance; animals and objects: of "
        "DreamBench++, not to be passed on",
        source="github.com/bytedance/XVerse",
        citation="Chen et al., XVerse: Consistent Multi-Subject Control of Identity and Semantic Attributes via DiT "
        "Modulation, arXiv 2506.21416, 2025",
        seed=42,
        metrics=("xverse", *FACES) if people_alone else THINGS,
        subjects=list(subjects.values()),
        prompts=prompts,
        images_per_prompt=4,
        resolution=768,
        remarks=remarks if people_alone else (),
    )


def _subjects(record: Record) -> list[tuple[BenchmarkSubject, str, int]]:
    """Each subject of a prompt with its word and that word's place (from 1) in the text."""
    (modulation, *_) = record.items("modulation")
    inputs = modulation.items("src_inputs")
    found = []
    for use in modulation.content.get("use_words") or ():
        if not (
            isinstance(use, list)
            and len(use) >= 3
            and isinstance(use[0], int)
            and 0 <= use[0] < len(inputs)
            and isinstance(use[1], str)
        ):
            raise UserError(f'{record.where}: "use_words" is not of the known form; restore the file.')
        path = inputs[use[0]].text("image_path")
        kind = Path(path).parent.name
        name = subject_id(f"{kind}-{Path(path).stem}", record.where)
        place = use[3] if len(use) > 3 and isinstance(use[3], int) else 1
        found.append((BenchmarkSubject(name, use[1], (path,), attributes={"kind": kind}), use[1], place))
    if len(found) != len(inputs):
        raise UserError(f"{record.where}: {len(inputs)} images have {len(found)} words; restore the file.")
    return found
