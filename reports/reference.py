"""Publishing a run as a reference result, and its headline tables in the README and the documentation.

    python -m fc_bench.reports.reference runs/pocket
    python -m fc_bench.reports.reference runs/alpha --name pocket-alpha

copies the run's tables, grid and records (without the images) to `reports/reference/<suite>/` of the checkout, where
`fc-bench compare` finds them, its scores under published protocols and what a difference needs beside them, and renews
what stands in README.md and docs/ between `<!-- results: ... -->` markers, so that no number there is typed by hand.
With a name it copies tables and figures alone, for a run to be looked at. A cost run goes to
`reports/reference/cost-<backbone>-<device>/`, its figures as PNG, and all of them into a table by backbone.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fc_bench.analysis.sample_size import study
from fc_bench.cost.records import KIND, MEASUREMENTS
from fc_bench.errors import UserError
from fc_bench.model.command_line import as_command
from fc_bench.model.errors import ModelInputError
from fc_bench.reports.audit.power import power_markdown
from fc_bench.reports.cost.output import cost_headline
from fc_bench.reports.cost.tables import between_backbones
from fc_bench.reports.frame import Run
from fc_bench.reports.quality.output import effects_markdown, headline_markdown, overview_markdown
from fc_bench.reports.quality.side_by_side import OWN
from fc_bench.reports.report import Read, read, write_report
from fc_bench.reports.tables.markdown import markdown_table
from fc_bench.run_folder.records import JOBS, PLAN, RUN, SAMPLES, SCORES, RunFolder

REPOSITORY = Path(__file__).parents[1]
RECORDS = (RUN, PLAN, SAMPLES, JOBS, SCORES)
LOOKED_AT = ("grid", "sweep", "mixing")
"""Families of figures that are published with a run that serves no comparison."""
DIFFERENCE, POWER = 0.02, 0.8
_SECTION = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def publish(run: Path, repository: Path = REPOSITORY, name: str | None = None) -> Path:
    """Copy a finished run's tables and grid into the repository and update the pages; returns the reference folder.

    With a `name`, only tables and `LOOKED_AT` figures, into the folder of that name. Raises UserError if `run` is not a
    run folder or the repository's README has no place for the table.
    """
    if RunFolder(run).kind() == KIND:
        return _publish_cost(run, repository)
    runs = read([run])
    (quality,) = runs.quality
    (part,) = write_report(runs, families=LOOKED_AT if name else ("grid",), endings=(".png",))
    target = repository / "reports" / "reference" / (name or str(quality.settings["suite"]["name"]))
    _copy(part.files, target)
    if not name:
        _copy([run / file for file in RECORDS], target)
        if OWN.name in {column.name for column in quality.columns}:
            publish_protocols(runs, target)
            publish_power(quality, target)
    (target / "headline.md").write_text((effects_markdown if name else headline_markdown)([quality]), encoding="utf-8")
    (target / "overview.md").write_text(overview_markdown([quality]), encoding="utf-8")
    renew_pages(repository)
    return target


def publish_protocols(runs: Read, target: Path) -> None:
    """Copy a run's scores under published protocols; raises UserError if the run did not measure identity."""
    (part,) = write_report(runs, "protocols", ())
    _copy([file for file in part.files if file.stem == "protocols"], target)


def publish_power(run: Run, target: Path) -> None:
    """Write the people, prompts and images that a difference in identity of `DIFFERENCE` needs, as `power.md`.

    The pairs are those with FastComposer if it was run. A run that cannot serve as a pilot is published without.
    """
    against = "fastcomposer" if "fastcomposer" in set(run.samples["method"]) else None
    try:
        made = study(run.samples, OWN, DIFFERENCE, POWER, against=against)
    except UserError:
        return
    (target / "power.md").write_text(power_markdown(made), encoding="utf-8")


def _publish_cost(run: Path, repository: Path) -> Path:
    runs = read([run])
    (cost,) = runs.cost
    (part,) = write_report(runs, endings=(".png",))
    name = f"cost-{cost.settings['backbone']}-{cost.settings['device'].split(':')[0]}"
    target = repository / "reports" / "reference" / name
    _copy([*part.files, run / RUN, run / MEASUREMENTS], target)
    (target / "headline.md").write_text(cost_headline(cost), encoding="utf-8")
    (target.parent / "cost-backbones.md").write_text(cost_by_backbone(target.parent), encoding="utf-8")
    renew_pages(repository)
    return target


def cost_by_backbone(folder: Path) -> str:
    """The methods' speed-up and storage on the backbones of all cost runs in a folder, as a Markdown table."""
    runs = [run for file in sorted(folder.glob(f"cost-*/{RUN}")) for run in read([file.parent]).cost]
    return markdown_table(between_backbones({run.settings["backbone"]: run.costs for run in runs})) + "\n"


def _copy(files: Sequence[Path], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, target / file.name)


def renew_pages(repository: Path = REPOSITORY) -> None:
    """Insert each referenced table into README.md and docs/.

    Raises UserError if the README has no marker, or a marker names a missing table.
    """
    readme = repository / "README.md"
    if not _SECTION.search(readme.read_text(encoding="utf-8")):
        raise UserError(
            f"{readme} has no place for a table: write the lines <!-- results: FILE --> and <!-- end of results -->."
        )
    for page in (readme, *sorted((repository / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        for _, name, _ in _SECTION.findall(text):
            if not (repository / name).is_file():
                raise UserError(f"{page} asks for {name}, which does not exist; publish its run first.")
        renewed = _SECTION.sub(lambda m: f"{m[1]}\n{(repository / m[2]).read_text(encoding='utf-8')}\n{m[3]}", text)
        if renewed != text:
            page.write_text(renewed, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fc_bench.reports.reference", description="Publish a run.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--name", help="publish tables and figures alone, in reports/reference/NAME")
    parsed = parser.parse_args(arguments)
    print(publish(parsed.run, name=parsed.name))
    return 0


if __name__ == "__main__":
    sys.exit(as_command(main, refusals=(UserError, ModelInputError))())
