"""Publishing a run as a reference result, and its headline table in the README.

    python -m fc_bench.reports.reference runs/pocket

copies the run's tables, grid and records (without the images) to `reports/reference/<suite>/` of the checkout, where
`fc-bench compare` finds them, and renews the parts of README.md between its `<!-- results: ... -->` markers, so that no
number there is typed by hand. A cost run goes to `reports/reference/cost-<backbone>-<device>/`, its figures as PNG.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fc_bench.cost.records import KIND, MEASUREMENTS
from fc_bench.errors import UserError
from fc_bench.records import JOBS, PLAN, RUN, SAMPLES, SCORES, RunFolder
from fc_bench.reports.cost.writing import cost_headline
from fc_bench.reports.report import read, write_report
from fc_bench.reports.tables.writing import headline_markdown

REPOSITORY = Path(__file__).parents[1]
_SECTION = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def publish(run: Path, repository: Path = REPOSITORY) -> Path:
    """Copy a finished run's tables and grid into the repository and renew the README; returns the reference folder.

    Raises UserError when `run` is no run folder or the repository's README has no place for the table.
    """
    if RunFolder(run).kind() == KIND:
        return _publish_cost(run, repository)
    runs = read([run])
    (quality,) = runs.quality
    (part,) = write_report(runs, families=("grid",), endings=(".png",))
    target = repository / "reports" / "reference" / str(quality.settings["suite"]["name"])
    _copy([*part.files, *(run / name for name in (RUN, PLAN, SAMPLES, JOBS, SCORES))], target)
    (target / "headline.md").write_text(headline_markdown([quality]))
    renew_readme(repository)
    return target


def _publish_cost(run: Path, repository: Path) -> Path:
    runs = read([run])
    (cost,) = runs.cost
    (part,) = write_report(runs, endings=(".png",))
    name = f"cost-{cost.settings['backbone']}-{cost.settings['device'].split(':')[0]}"
    target = repository / "reports" / "reference" / name
    _copy([*part.files, run / RUN, run / MEASUREMENTS], target)
    (target / "headline.md").write_text(cost_headline(cost))
    renew_readme(repository)
    return target


def _copy(files: Sequence[Path], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, target / file.name)


def renew_readme(repository: Path = REPOSITORY) -> None:
    """Put each referenced table into README.md; raises UserError when there is no marker for one."""
    readme = repository / "README.md"
    text = readme.read_text()
    if not _SECTION.search(text):
        raise UserError(
            f"{readme} has no place for a table: write the lines <!-- results: FILE --> and <!-- end of results -->."
        )
    readme.write_text(_SECTION.sub(lambda m: f"{m[1]}\n{(repository / m[2]).read_text()}\n{m[3]}", text))


if __name__ == "__main__":
    print(publish(Path(sys.argv[1])))
