"""Training of FastComposer on a backbone, with validation; the output folder is itself a backbone.

    OUTPUT/backbone.yaml       what `--backbone OUTPUT` takes
           weights/            the trained parts, of the last checkpoint
           checkpoints/        what resuming needs
           log.jsonl           losses and pace
           validation.jsonl    identity, prompt consistency, ... of each checkpoint on the validation's suite
           validation/         a sheet of pictures for each checkpoint, the same prompts and noise
           curves.png          losses and validation over the steps
           tensorboard/        the same for TensorBoard, where `tensorboard: true`

The loop is `fc_bench.model.training`'s own; this adds what needs the backbone's scorers.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PositiveInt, ValidationError

from fc_bench import registry
from fc_bench.commands.run import setting_of
from fc_bench.errors import UserError
from fc_bench.generation.method_checks import refusal, requested_set
from fc_bench.inspection.inspector import cropped, inspector_of, people_of, write_crops
from fc_bench.model.backbones.backbone import BACKBONES, FILE, Backbone, Variants, read_backbone, written_out
from fc_bench.model.contact_sheet import Tile, contact_sheet
from fc_bench.model.settings import Settings
from fc_bench.model.training.config import Recipe, TrainingConfig, resolved_paths
from fc_bench.model.user_cache import expanded
from fc_bench.model.yaml_file import nearest, read_yaml, sentence
from fc_bench.protocols import Request, ScoredSample, fill, seed_of
from fc_bench.run_folder.json_lines import read_lines
from fc_bench.run_folder.lock import held
from fc_bench.run_folder.records import write_lines, write_png
from fc_bench.suites.slugs import name_of
from fc_bench.suites.suite import Prompt, SubjectSet, Suite, read_suite
from fc_bench.suites.suite_file import SuiteFile

log = logging.getLogger(__name__)

RECIPES = Path(__file__).parent.parent / "recipes"
METRICS = ("identity", "prompt-consistency")
CURVES = {
    "identity": "identity preservation",
    "told_apart": "correctly identified",
    "detection_rate": "faces detected",
    "prompt_consistency": "prompt consistency",
}
"""Columns that are averaged and drawn, with their titles."""
TRAINED = "trained"
"""Name of the checkpoint in the resulting backbone."""


class RenderConfig(Settings):
    """Training pictures of the pocket world to draw into `data.root` before the training, unless they exist."""

    pictures: PositiveInt = 4_000
    people: int = Field(default=800, ge=2)
    workers: int = Field(default=2, ge=1, le=1024)


class ValidationConfig(Settings):
    """What is generated and measured after checkpoints; its people must not be training people."""

    suite: str
    """Name or file of a suite."""
    subjects: PositiveInt | None = 4
    """Number of subjects (and their sets) to use; null for all."""
    prompts: PositiveInt | None = 3
    """Number of prompts of each subject set, from each category in turn; null for all."""
    every: PositiveInt = 1
    """Number of checkpoints between validations."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the method fastcomposer, such as alpha; the backbone's if not given."""


class TrainingFile(Recipe):
    """The schema of a file for `fc-bench train fastcomposer`; missing fields have the paper's value."""

    backbone: str
    """Backbone whose pipeline and CLIP are trained, and whose scorers validate."""
    output: Path
    render: RenderConfig | None = None
    validation: ValidationConfig | None = None


@dataclass(frozen=True)
class Prepared:
    """A checked training: its file with resolved paths, and the backbone."""

    file: TrainingFile
    backbone: Backbone
    config: TrainingConfig


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def prepare(name_or_path: str, changes: Mapping[str, Any] | None = None) -> Prepared:
    """Read a recipe by name or file and change some fields; a shipped recipe's paths are relative to the cwd.

    Raises ModelInputError or UserError for any error in it, and for missing weights.
    """
    if name_or_path in recipe_names():
        path, folder = RECIPES / f"{name_or_path}.yaml", Path.cwd()
    elif name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = expanded(name_or_path)
        folder = path.parent.resolve()
    else:
        raise UserError(
            f'Unknown recipe "{name_or_path}", {nearest(name_or_path, recipe_names())} Or give the path of a YAML file.'
        )
    file = read_yaml(path, TrainingFile)
    places: dict[str, Any] = {**resolved_paths(file, folder), "backbone": _beside(file.backbone, folder)}
    if file.validation is not None:
        suite = _beside(file.validation.suite, folder)
        places["validation"] = file.validation.model_copy(update={"suite": suite})
    file = file.model_copy(update={**places, **(changes or {})})
    backbone = read_backbone(file.backbone)
    if file.render is not None and backbone.resolution != 128:
        raise UserError(f"{path}: `render` draws pictures of the pocket world; leave it out on {backbone.name}.")
    backbone.require("pipeline", "clip", *(["faces"] if file.validation else []))
    fields = {key: getattr(file, key) for key in Recipe.model_fields}
    config = TrainingConfig(
        **fields, pipeline=backbone.path("pipeline"), image_encoder=backbone.path("clip"), output=file.output
    )
    return Prepared(file, backbone, config)


def train_fastcomposer(prepared: Prepared, resume: bool) -> Path:
    """Train, validate in between, and return the output folder.

    Raises ModelInputError or UserError for unusable data, models, validation or output, or if another process uses the
    output folder.
    """
    from fc_bench.model.training.loop import train

    output = prepared.config.output
    validation = prepared.file.validation
    watch = Validation(prepared, validation).watch if validation is not None else None
    with held(output) if is_main_process() else nullcontext():
        draw_pictures(prepared)
        train(prepared.config, resume, watch)
        if is_main_process():
            write_backbone(prepared)
            draw_curves(output)
    return output


def draw_pictures(prepared: Prepared) -> None:
    """Draw the training pictures if the recipe requires them; of several processes the first one does."""
    render, root = prepared.file.render, prepared.file.data.root
    if render is None:
        return
    from fc_bench.model.pocket.dataset import training_plan, write_dataset
    from fc_bench.model.pocket.people import TRAINING_PEOPLE

    if render.people > len(TRAINING_PEOPLE):
        raise UserError(
            f"{render.people} people are more than the {len(TRAINING_PEOPLE)} training people of the pocket world; "
            "lower render.people."
        )
    plan = training_plan(root, render.pictures, render.people, max(1, render.pictures // 100))
    last = root / "image_ids_references.txt"
    if is_main_process():
        if not last.is_file():
            log.info("drawing %d pictures into %s", render.pictures, root)
        write_dataset(plan, render.workers)
    while not last.is_file():
        time.sleep(1)


def write_backbone(prepared: Prepared) -> Path:
    """Write the file that makes the output folder a backbone: the base with the trained parts."""
    output = prepared.config.output
    base = prepared.backbone
    own = {"name": name_of(output.name, TRAINED), "description": f"{base.name} with a FastComposer trained here."}
    trained = {"fastcomposer": {"default": TRAINED, "variants": {TRAINED: "weights"}}}
    licenses = {"fastcomposer": f"trained here, from weights under: {base.licenses.get('pipeline', 'not stated')}"}
    if base.name in _built_in():
        content: dict[str, Any] = {**own, "extends": base.name, **trained, "licenses": licenses}
    else:
        content = {**written_out(base), **own, **trained, "licenses": {**base.licenses, **licenses}}
    file = output / FILE
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


class Validation:
    """Generates the validation's pictures with the weights of a checkpoint, and measures and shows them.

    Raises UserError or ModelInputError if the suite, its photographs or the scorers are unusable.
    """

    def __init__(self, prepared: Prepared, settings: ValidationConfig) -> None:
        self._output, self._settings, self._backbone = prepared.config.output, settings, prepared.backbone
        self._tensorboard = prepared.config.tensorboard
        self._prepared, self._seen = prepared, 0
        file = registry.suite_file(settings.suite)
        if read_yaml(file, SuiteFile).photographs.folder == "given":
            raise UserError(
                f"The suite {settings.suite} has no photographs of its own; name another suite under "
                "validation, such as one that `fc-bench init-suite` made."
            )
        suite, device = read_suite(file), "cpu" if prepared.config.cpu else "auto"
        self._setting = setting_of(suite, self._backbone, device)
        inspector = inspector_of(suite, self._backbone, self._setting.device)
        self._suite = cropped(suite, inspector, self._output)
        self._requested = list(_requested(self._suite, settings))
        if not self._requested:
            raise UserError(f"The suite {settings.suite} has no subject set for the validation; raise `subjects`.")
        self._options = self._checked_options()
        if not is_main_process():
            return
        people = {subject.id: subject for subject_set, _ in self._requested for subject in subject_set.subjects}
        inspection = inspector.inspect(people_of(self._suite, people), suite.file.photograph_crop == "published")
        inspection.refuse()
        for remark in inspection.remarks:
            log.warning("%s", remark)
        try:
            write_crops(self._suite, people)
        except OSError as error:
            raise UserError(
                f"The output folder {self._output} cannot be written ({error.strerror or error}); choose another."
            ) from None
        metrics = [registry.load("metrics", name)(self._setting) for name in METRICS]
        for metric in metrics:
            metric.prepare(list(people.values()))
        self._metrics = metrics

    def _checked_options(self) -> Any:
        """FastComposer's options; raises UserError for invalid ones and for prompts that it refuses."""
        from fc_bench.baselines.fastcomposer import FastComposer, FastComposerOptions

        own = {**self._backbone.methods.get("fastcomposer", {}), **self._settings.options}
        own.pop("checkpoint", None)
        try:
            options = FastComposerOptions.model_validate(own)
        except ValidationError as error:
            raise UserError(f"The options of the validation: {sentence(error, FastComposerOptions)}") from None
        requested = [requested_set(subject_set, prompts) for subject_set, prompts in self._requested]
        if message := refusal(FastComposer, self._setting, options, requested):
            raise UserError(f"The validation cannot run: {message}")
        return options

    def watch(self, step: int, weights: Path) -> None:
        """Validate a checkpoint if it is due; an error is logged and the training continues."""
        self._seen += 1
        write_backbone(self._prepared)
        if (self._seen - 1) % self._settings.every:
            return
        try:
            self._validate(step, weights)
            draw_curves(self._output)
        except Exception:
            log.exception("the validation at step %d failed; training continues", step)

    def _validate(self, step: int, weights: Path) -> None:
        begun = time.monotonic()
        rows: list[list[Tile]] = []
        values: dict[str, list[float]] = {name: [] for name in CURVES}
        method = self._method(weights)
        for subject_set, prompts in self._requested:
            customized = method.customize(subject_set.subjects, 0, self._output, None)
            nouns = [subject.noun for subject in subject_set.subjects]
            mentions = [method.mention(subject, place) for place, subject in enumerate(subject_set.subjects)]
            requests = [
                Request(
                    fill(prompt.template, mentions),
                    fill(prompt.template, nouns),
                    seed_of(self._suite.file.seed, prompt.template, 0),
                )
                for prompt in prompts
            ]
            row = [Tile(_first(subject), f"{subject.id}, {subject.noun}") for subject in subject_set.subjects]
            for request, image in zip(requests, method.generate(customized, requests), strict=True):
                measured: dict[str, float | None] = {}
                for metric in self._metrics:
                    sample = ScoredSample(image, request.plain_prompt, subject_set.subjects)
                    measured |= metric.score(sample).values
                for name in values:
                    if (value := measured.get(name)) is not None:
                        values[name].append(value)
                row.append(Tile(image, f"{request.plain_prompt}: identity {measured['identity']:.2f}"))
            rows.append(row)
        means = {name: sum(found) / len(found) for name, found in values.items() if found}
        sheet = contact_sheet(rows, side=128, title=f"step {step:,}")
        write_png(self._output / "validation" / f"step-{step:08d}.png", sheet)
        file = self._output / "validation.jsonl"
        earlier = [line for line in read_lines(file) if line["step"] < step] if file.is_file() else []
        images = sum(len(prompts) for _, prompts in self._requested)
        line = {"step": step, "seconds": round(time.monotonic() - begun, 2), "images": images, **means}
        write_lines(file, [*earlier, line])
        log.info("step %d, validation: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
        if self._tensorboard:
            self._write_tensorboard(step, means, sheet)

    def _method(self, weights: Path) -> Any:
        """FastComposer with the weights of a checkpoint."""
        from fc_bench.baselines.fastcomposer import FastComposer

        parts = Variants(default=TRAINED, variants={TRAINED: str(weights.resolve())})
        backbone = self._backbone.model_copy(update={"fastcomposer": parts})
        setting = replace(self._setting, backbone=backbone)
        return FastComposer(setting, self._options)

    def _write_tensorboard(self, step: int, means: Mapping[str, float], sheet: Any) -> None:
        import numpy as np
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self._output / "tensorboard")) as writer:
            for name, value in means.items():
                writer.add_scalar(f"validation/{name}", value, step)
            writer.add_image("validation", np.asarray(sheet), step, dataformats="HWC")


def draw_curves(output: Path) -> None:
    """Draw losses and validation over the steps into curves.png."""
    from matplotlib.figure import Figure

    losses = read_lines(output / "log.jsonl") if (output / "log.jsonl").is_file() else []
    validated = read_lines(output / "validation.jsonl") if (output / "validation.jsonl").is_file() else []
    panels = [("denoising_loss", "denoising loss", losses), ("localization_loss", "localization loss", losses)]
    panels += [(name, title, validated) for name, title in CURVES.items() if any(name in line for line in validated)]
    figure = Figure(figsize=(4 * len(panels) / 2, 5), layout="constrained")
    axes = figure.subplots(2, -(-len(panels) // 2), squeeze=False).ravel()
    for place, (name, title, lines) in zip(axes, panels, strict=False):
        shown = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        place.plot(*zip(*shown, strict=True), marker="o" if len(shown) < 30 else None, markersize=3) if shown else None
        place.set_title(title, fontsize=9)
        place.set_xlabel("step", fontsize=8)
        place.tick_params(labelsize=8)
        place.grid(alpha=0.3)
    for place in axes[len(panels) :]:
        place.axis("off")
    figure.savefig(output / "curves.png", dpi=120)


def _requested(suite: Suite, settings: ValidationConfig) -> list[tuple[SubjectSet, Sequence[Prompt]]]:
    """Subject sets with the validation's prompts: the first of each category, then the second, ..."""
    requested = []
    for subject_set, prompts in suite.subject_sets(settings.subjects):
        categories: dict[str, list[Prompt]] = {}
        for prompt in prompts:
            categories.setdefault(prompt.category, []).append(prompt)
        longest = max(map(len, categories.values()))
        turns = [own[turn] for turn in range(longest) for own in categories.values() if turn < len(own)]
        requested.append((subject_set, turns[: settings.prompts]))
    return requested


def _first(subject: Any) -> Any:
    from fc_bench.suites.photographs import read_photograph

    return read_photograph(subject.photographs[0])


def _beside(name: str, folder: Path) -> str:
    """A name unchanged, a path relative to the folder."""
    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    return str(folder / expanded(name)) if is_path else name


def is_main_process() -> bool:
    """Whether this is the first of several processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _built_in() -> set[str]:
    return {path.stem for path in BACKBONES.glob("*.yaml")}
