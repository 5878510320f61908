"""Tables and sentences of a plan: what images vary by, and the people, prompts and images a difference needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fc_bench.analysis.sample_size import Pilot, Plan, Study
from fc_bench.analysis.variance_components import OWN
from fc_bench.reports.escaping import markdown, plain
from fc_bench.reports.frame import who
from fc_bench.reports.quality.contents import number
from fc_bench.reports.tables.comma_separated import csv_tables
from fc_bench.reports.tables.markdown import titled_table
from fc_bench.reports.tables.model import NOTHING, Cell, Heading, Table
from fc_bench.reports.tables.terminal import print_table
from fc_bench.run_folder.records import write_atomically

STEM = "power"


def tables(study: Study) -> list[Table]:
    """What images and what differences vary by, the plans of one difference, and the run with twice of each."""
    found = study.pilots
    spreads = [_components(study, pilots) for pilots in (found.singles, found.pairs) if pilots]
    return [*spreads, _plans(study), _doublings(study)]


def sentences(study: Study) -> list[str]:
    """What the run detects as it is, what buys most, what it cannot say, and what the test is."""
    chosen, wanted = study.chosen, f"{100 * study.power:g} %"
    found, subject = chosen.components, f"{study.column.title} of {chosen.name}"
    now, *doubled = study.doublings
    size = f"{found.people} {'people' if chosen.subjects == 1 else 'sets'}, {found.prompts:.3g} prompts"
    size += f" and {found.images:.3g} {'image' if found.images == 1 else 'images'} a prompt"
    lines = []
    if now.detectable is None:
        lines.append(f"{subject}: with {size} no difference reaches 5 %; the test takes six people.")
    else:
        shown = number(now.detectable, study.column)
        lines.append(f"{subject}: with {size} a difference of {shown} is found with {wanted} probability.")
    reaching = [one for one in doubled if one.detectable is not None]
    if reaching:
        best = min(reaching, key=lambda one: one.detectable or 0.0)
        again = [one for one in doubled if one.error_anew is not None]
        anew = min(again, key=lambda one: one.error_anew or 0.0).what if again else best.what
        other = f"; with prompts and seeds drawn anew, {anew} do" if anew != best.what else ""
        lines.append(f"Of all that doubles the images, {best.what} lower the error most{other}.")
    together = [" and ".join(names) for names in found.variances if len(set(names).intersection(OWN)) > 1]
    if together and not found.images_vary:
        lines.append(
            f"One image a prompt does not separate {together[0]}, so the plan has no other number of images; "
            "a run with --images-per-prompt 2 would tell."
        )
    if together and not found.prompts_vary:
        lines.append(
            f"One prompt does not separate {together[0]}, so the plan has no other number of prompts; a suite with two "
            "or more prompts would tell."
        )
    if study.pilots.left_out:
        lines.append(f"Left out, because their sets share images or subjects: {', '.join(study.pilots.left_out)}.")
    lines.append(
        "The test: sign flips over the people's mean paired differences at 5 %, given the suite's prompts and seeds. "
        '"Drawn anew" adds what other prompts and seeds would shift for all people alike. '
        f"Intervals of the people needed: {found.people} people know their own spread only roughly."
    )
    return lines


def show(study: Study, console: Console) -> None:
    """Print the tables and the sentences."""
    for table in tables(study):
        print_table(table, console)
    for line in sentences(study):
        console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


def power_markdown(study: Study) -> str:
    """Tables and sentences as Markdown without a heading."""
    return "\n\n".join([*map(titled_table, tables(study)), *map(markdown, sentences(study))]) + "\n"


def write_study(study: Study, folder: Path) -> list[Path]:
    """Write `power.md` and `power.csv`; raises OSError."""
    title = f"# {markdown(study.column.title)}: people, prompts and images for a difference of {study.difference:g}"
    files = {f"{STEM}.md": f"{title}\n\n{power_markdown(study)}", f"{STEM}.csv": csv_tables(tables(study))}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in files]


def _components(study: Study, pilots: Sequence[Pilot]) -> Table:
    """Standard deviations by component, a method or a pair a row; of pairs, what they detect and need."""
    keys = list(dict.fromkeys(names for pilot in pilots for names in pilot.components.variances))
    paired = pilots[0].against is not None
    last = (f"detectable, {100 * study.power:g} %", f"people for {study.difference:g}") if paired else ()
    header = (
        Heading("difference" if paired else "method", number=False),
        Heading(_unit(study)),
        *(Heading(" + ".join(names)) for names in keys),
        *map(Heading, last),
    )
    rows = []
    for pilot in pilots:
        spread = [pilot.components.variances.get(names) for names in keys]
        cells = [Cell(NOTHING if one is None else number(one**0.5, study.column)) for one in spread]
        if paired:
            design = pilot.components.prompts, pilot.components.images
            low, high = (_people(end) for end in pilot.needed_interval(study.difference, study.power))
            needed = Cell(_people(pilot.needed(study.difference, study.power, *design)), (low, high))
            cells += [_value(pilot.detectable(study.power), study), needed]
        rows.append((Cell(pilot.name), Cell(str(pilot.components.people)), *cells))
    what = "Differences between methods" if paired else "Images of a method"
    title = f"{what} vary by (standard deviations), {study.column.title}, {who(pilots[0].subjects)}"
    return Table("differences-vary" if paired else "images-vary", title, header, tuple(rows))


def _plans(study: Study) -> Table:
    """People needed, and the images of a method in brackets: a row for each number of prompts."""
    numbers = list(dict.fromkeys(plan.images for plan in study.plans))
    rows: dict[int, list[Cell]] = {}
    for plan in study.plans:
        rows.setdefault(plan.prompts, []).append(_plan(plan))
    header = (
        Heading("prompts"),
        *(Heading(f"{_unit(study)}, {images} {'image' if images == 1 else 'images'} a prompt") for images in numbers),
    )
    title = (
        f"{_unit(study).capitalize()} (images of a method) for a difference of {study.difference:g} with "
        f"{100 * study.power:g} % power, {study.chosen.name}"
    )
    return Table("plans", title, header, tuple((Cell(str(prompts)), *cells) for prompts, cells in rows.items()))


def _doublings(study: Study) -> Table:
    header = (
        Heading("the run", number=False),
        Heading(_unit(study)),
        Heading("prompts"),
        Heading("images a prompt"),
        Heading("detectable difference", "lower"),
        Heading("standard error", "lower"),
        Heading("standard error, prompts and seeds drawn anew", "lower"),
    )
    rows = tuple(
        (
            Cell(one.what),
            *(Cell(f"{size:.3g}") for size in (one.people, one.prompts, one.images)),
            _value(one.detectable, study),
            _value(one.error, study),
            _value(one.error_anew, study),
        )
        for one in study.doublings
    )
    title = f"Difference that is found with {100 * study.power:g} % power, {study.chosen.name}"
    return Table("doublings", title, header, rows)


def _plan(plan: Plan) -> Cell:
    return Cell(_people(plan.people), count=plan.total, value=plan.people)


def _people(people: int | None) -> str:
    return NOTHING if people is None else str(people)


def _value(value: float | None, study: Study) -> Cell:
    return Cell(NOTHING if value is None else number(value, study.column))


def _unit(study: Study) -> str:
    return "people" if study.chosen.subjects == 1 else "sets"
