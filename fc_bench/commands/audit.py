"""`fc-bench audit`: the examination of metrics on drawn pictures, of which everything is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fc_bench import registry
from fc_bench.analysis.statistics import FEWEST_UNITS
from fc_bench.audit.card import cards_of
from fc_bench.audit.design import Design
from fc_bench.audit.examination import examine, examine_in_processes, setting_of
from fc_bench.errors import UserError, writing_to
from fc_bench.metrics.embedders import metric_classes
from fc_bench.progress import progress
from fc_bench.protocols import derived_from
from fc_bench.reports.audit.output import Audit, show, write_audit
from fc_bench.run_folder.provenance import usable_cores


@dataclass(frozen=True)
class AuditOptions:
    """The options of the command line; no metrics: all registered ones."""

    metrics: Sequence[str] = ()
    backbone: str = "pocket"
    people: int = Design.people
    seeds: int = Design.seeds
    processes: int | None = None
    out: Path = Path("runs/audit")


def audit(options: AuditOptions, console: Console) -> Audit:
    """Examine metrics, print the summary and write the cards; raises UserError if an input is unusable."""
    if options.people < FEWEST_UNITS:
        raise UserError(f"--people {options.people} gives no intervals; examine at least {FEWEST_UNITS}.")
    names = list(dict.fromkeys(options.metrics)) or list(registry.registered("metrics"))
    setting = setting_of(options.backbone)
    backbone = setting.backbone
    backbone.require("clip", *(backbone.faces_component(number) for number in range(len(backbone.faces))))
    metrics = metric_classes(names, backbone)
    sources = [source for metric in metrics.values() if (source := derived_from(metric)) and source not in metrics]
    design = Design(options.people, options.seeds)
    processes = options.processes or usable_cores()
    # What others are derived from is measured once, also where it has no card.
    measured = list(dict.fromkeys([*(source.partition("@")[0] for source in sources), *names]))
    with progress(console, "Pictures", design.pictures()) as pieces:
        if processes > 1:
            scores = examine_in_processes(design, measured, options.backbone, processes, pieces)
        else:
            scores = examine(design, metric_classes(measured, backbone), setting, pieces)
    embedders = ", ".join(faces.name for faces in backbone.faces)
    result = Audit(design, backbone.name, embedders, scores, cards_of(scores, metrics))
    show(result, console)
    with writing_to(options.out):
        files = write_audit(result, options.out)
    console.print(f"{files[0]}", markup=False, highlight=False, soft_wrap=True)
    return result
