"""The check of the installation: versions, hardware, and every file of the backbones."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import DLIB_EXTRA, Backbone, backbone_names, read_backbone
from fc_bench.model.backbones.fingerprint import sha256_of
from fc_bench.model.backbones.hub import HUB
from fc_bench.model.backbones.layouts import hub_names
from fc_bench.run_folder.provenance import commit, hardware, versions

REQUIRED = "pocket"
"""The backbone that must be complete if none is named; it is part of the package."""

DLIB_DISTRIBUTION = "dlib-bin"


def examine(name: str | None, checksums: bool, console: Console) -> None:
    """Print everything; raises UserError if a file of the named backbone (else of `pocket`) is missing."""
    import onnxruntime

    from fc_bench.model.kernel_choice import cpu_dtype

    _print_pairs(console, "versions", {key: value or "not installed" for key, value in versions().items()})
    faces = _version(DLIB_DISTRIBUTION) or f"not installed: {DLIB_EXTRA}"
    _print_pairs(console, "extras", {"dlib (face models)": faces})
    machine = {key: _text(value) for key, value in hardware().items()}
    machine["onnxruntime providers"] = _text(onnxruntime.get_available_providers())
    machine["number format"] = "{} for large models on this CPU: {}".format(*cpu_dtype())
    _print_pairs(console, "hardware", machine)
    _print_pairs(console, "code", {key: _text(value) for key, value in commit().items()})
    missing: dict[str, list[str]] = {}
    for backbone in [read_backbone(item) for item in ([name] if name else backbone_names())]:
        absent = _print_backbone(backbone, checksums, console)
        if name or backbone.name == REQUIRED:
            missing |= absent
        if name and "pipeline" not in absent:
            backbone.check_pipeline()
    if missing:
        backbone, named = read_backbone(name or REQUIRED), name or REQUIRED
        files = [file for own in missing.values() for file in own]
        count = f"{len(files)} files" if len(files) > 1 else "1 file"
        advice = backbone.by_hand({component: own[0] for component, own in missing.items()})
        if any(map(backbone.fetch_command, missing)):
            advice = (
                f"{advice} The commands above download the others." if advice else "The commands above download them."
            )
        raise UserError(
            f'{count} of the backbone "{named}" {"are" if len(files) > 1 else "is"} missing, first {files[0]}. {advice}'
        )


def _print_backbone(backbone: Backbone, checksums: bool, console: Console) -> dict[str, list[str]]:
    """Print a backbone's table and how to get its missing files; returns those by component."""
    table = Table(title=escape(f"backbone {backbone.name}: {backbone.description}"), title_justify="left")
    for title in ("component", "file", "MiB", "sha256", "license"):
        table.add_column(title, justify="right" if title == "MiB" else "left", overflow="fold")
    missing: dict[str, list[str]] = {}
    for component in backbone.components():
        license = backbone.license(component)
        for file, path in _files(backbone, component):
            if path is None:
                missing.setdefault(component, []).append(file)
                table.add_row(*map(escape, (component, file, "missing", "", license)))
            else:
                size = f"{path.stat().st_size / 2**20:.2f}"
                digest = sha256_of(path)[:16] if checksums else ""
                table.add_row(*map(escape, (component, file, size, digest, license)))
    console.print(table)
    if missing:
        console.print(f"To download the missing files of {backbone.name}:", markup=False, highlight=False)
    for component in missing:
        command = backbone.fetch_command(component) or f"no command downloads it. {backbone.advice(component)}."
        console.print(f"  {component}: {command}", markup=False, highlight=False, soft_wrap=True)
    return missing


def _files(backbone: Backbone, component: str) -> list[tuple[str, Path | None]]:
    """Each file of a component by its name in the table, and its path (None: missing)."""
    path = backbone.found_path(component)
    if path is None:
        reference = backbone.components()[component].removeprefix(HUB)
        repository = "/".join(reference.split("/")[:2])
        return [
            (f"{HUB}{repository}/{name}", None) for name in hub_names(component, reference, backbone.family_at(None))
        ]
    return [(str(item.path), item.path if item.present else None) for item in backbone.required_files(component, path)]


def _print_pairs(console: Console, title: str, pairs: dict[str, str]) -> None:
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2))
    for key, value in pairs.items():
        table.add_row(escape(key), escape(value))
    console.print(table)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
