"""What is here and what is missing: versions, hardware, and every file of the backbones."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from fc_bench.errors import UserError
from fc_bench.model.backbone import Backbone, backbone_names, read_backbone, required_files, sha256_of
from fc_bench.provenance import commit, hardware, versions

REQUIRED = "pocket"
"""The backbone that has to be complete when none is named: it travels with the package."""


def examine(name: str | None, checksums: bool, console: Console) -> None:
    """Print everything; raises UserError when a file of the named backbone (else of `pocket`) is missing."""
    import onnxruntime

    _print_pairs(console, "versions", {key: value or "not installed" for key, value in versions().items()})
    machine = {key: _text(value) for key, value in hardware().items()}
    machine["onnxruntime providers"] = _text(onnxruntime.get_available_providers())
    _print_pairs(console, "hardware", machine)
    _print_pairs(console, "code", {key: _text(value) for key, value in commit().items()})
    missing: list[Path] = []
    for backbone in [read_backbone(item) for item in ([name] if name else backbone_names())]:
        absent = _print_backbone(backbone, checksums, console)
        if name or backbone.name == REQUIRED:
            missing += absent
    if missing:
        who = name or REQUIRED
        advice = read_backbone(who).how_to_get.rstrip(".") or "put them there"
        raise UserError(f'{len(missing)} files of the backbone "{who}" are missing, first {missing[0]}. {advice}.')


def _print_backbone(backbone: Backbone, checksums: bool, console: Console) -> list[Path]:
    """One table; returns the paths that are missing."""
    table = Table(title=f"backbone {backbone.name}: {backbone.description}", title_justify="left")
    for title in ("component", "file", "MiB", "sha256", "license"):
        table.add_column(title, justify="right" if title == "MiB" else "left", overflow="fold")
    missing = []
    for component, value in backbone.components().items():
        license = backbone.licenses.get(component.split("/")[0], "not stated")
        path = backbone.declared_path(component)
        if path is None:
            table.add_row(component, f"{value} (fetched on first use)", "", "", license)
            continue
        for item in required_files(component, path):
            if item.present:
                size = f"{item.path.stat().st_size / 2**20:.2f}"
                table.add_row(component, str(item.path), size, sha256_of(item.path)[:16] if checksums else "", license)
            else:
                missing.append(item.path)
                table.add_row(component, str(item.path), "missing", "", license)
    console.print(table)
    return missing


def _print_pairs(console: Console, title: str, pairs: dict[str, str]) -> None:
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2))
    for key, value in pairs.items():
        table.add_row(key, value)
    console.print(table)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
