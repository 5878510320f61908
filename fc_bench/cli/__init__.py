"""The command line: one module a verb. Heavy libraries are imported inside the verb that needs them."""

from fc_bench.cli import compare, cost, doctor, list, report, run, validate  # noqa: F401 (each adds its verb)
from fc_bench.cli.app import app, main

__all__ = ["app", "main"]
