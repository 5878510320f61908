"""Publication of the audit of all metrics: examined by `fc-bench audit`, and copied into the checkout.

    python -m fc_bench.reports.audits

renews `reports/reference/audit/` and the tables of docs/ that come from there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.model.command_line import as_command
from fc_bench.model.errors import ModelInputError
from fc_bench.reports.reference import REPOSITORY, renew_pages

LEFT_OUT = "*-effects.csv"
"""Files that follow from the published scores."""


def publish_audit(folder: Path, repository: Path = REPOSITORY) -> Path:
    """Copy the files of an audit into the repository and renew its pages; returns the published folder."""
    target = repository / "reports" / "reference" / "audit"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(LEFT_OUT))
    renew_pages(repository)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fc_bench.reports.audits", description="Publish the audit of all metrics."
    )
    parser.add_argument("folder", type=Path, nargs="?", help="folder of a finished audit; it is made if not given")
    folder = parser.parse_args(arguments).folder
    if folder is not None:
        print(publish_audit(folder))
        return 0
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "fc_bench.cli", "audit", "--out", place]
        if code := subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            return code
        print(publish_audit(Path(place)))
    return 0


if __name__ == "__main__":
    sys.exit(as_command(main, refusals=(UserError, ModelInputError))())
