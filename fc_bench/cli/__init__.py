"""The command line: one module a verb. Heavy libraries are imported inside the verb that needs them."""

from fc_bench.cli import (  # noqa: F401 (each adds its verb)
    audit,
    audit_power,
    compare,
    compose,
    cost,
    curate,
    doctor,
    export_images,
    import_benchmark,
    init_suite,
    judge,
    list,
    report,
    run,
    score,
    show,
    sweep,
    train,
    validate,
)
from fc_bench.cli.app import app, main

__all__ = ["app", "main"]
