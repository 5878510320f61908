"""A value outside what can be run is refused in one line, wherever it is written; one that means something works."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from fc_bench.analysis.gate import read_gate
from fc_bench.cli.options import parse_method_options
from fc_bench.commands.sweep import values_in
from fc_bench.errors import UserError
from fc_bench.generation.plan import resolve_method
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.durations import parse_duration
from fc_bench.model.errors import ModelInputError
from fc_bench.model.settings import LARGEST, LARGEST_WHOLE
from fc_bench.model.training.config import load_config
from fc_bench.model.yaml_file import read_yaml
from fc_bench.protocols import Sampler, Setting
from fc_bench.suites.suite_file import SuiteFile

NO_NUMBERS = ["nan", ".nan", "true", "''", "[1]", "1e-400", "1.0e-400", "1e400", "1.0e+400", "-inf", "9" * 5000]


@pytest.fixture
def resolved(tiny_backbone):
    """A method's row with the option as the command line gives it."""
    backbone = read_backbone(str(tiny_backbone))
    setting = Setting(backbone, Sampler("ddim", 2, 2.0, 64), "cpu", "float32")

    def resolve(option: str):
        name = option.partition(".")[0]
        return resolve_method(name, parse_method_options([option])[name], setting)

    return resolve


@pytest.mark.parametrize("value", [*NO_NUMBERS, "inf", "-1", str(10**60), "1e300"])
@pytest.mark.parametrize(
    "option",
    ["dreambooth.learning_rate", "dreambooth.steps", "textual-inversion.photographs", "fastcomposer.alpha"],
)
def test_option_that_is_no_usable_number_is_refused_by_its_name(resolved, option, value):
    with pytest.raises(UserError, match=option.partition(".")[2]):
        resolved(f"{option}={value}")


@pytest.mark.parametrize("value", ["", "2024-13-45", "[", "&a [*a]", "{a: 1, a: 2}"])
def test_value_that_yaml_cannot_read_is_refused_with_its_option(value):
    with pytest.raises(UserError, match=r"dreambooth\.steps"):
        parse_method_options([f"dreambooth.steps={value}"])


@pytest.mark.parametrize("method", ["dreambooth", "dreambooth-lora", "textual-inversion", "custom-diffusion"])
@pytest.mark.parametrize("value", ["inf", ".inf", "null"])
def test_infinite_gradient_norm_switches_clipping_off_and_is_recorded_as_null(resolved, method, value):
    _, options, row = resolved(f"{method}.max_grad_norm={value}")
    assert options.max_grad_norm is None
    assert json.loads(json.dumps(row.options, allow_nan=False))["max_grad_norm"] is None


def test_training_recipe_takes_an_infinite_gradient_norm_as_no_limit_and_reads_itself_back(recipe):
    file = recipe(optimizer={"clip": math.inf})
    config = load_config(file)
    assert config.optimizer.clip is None
    file.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    assert load_config(file) == config


class Loose(BaseModel):
    """Options of a plug-in that takes any number."""

    limit: float = 1.0
    several: list[float] = []


@pytest.fixture
def loose(monkeypatch):
    """A method with these options, as `text-only`."""
    from fc_bench.baselines.text_only import TextOnly

    monkeypatch.setattr(TextOnly, "Options", Loose)


def test_infinity_of_a_plug_in_is_text_in_strict_json_and_reads_back_as_the_number(resolved, loose):
    _, options, row = resolved("text-only.limit=-.inf")
    assert json.loads(json.dumps(row.options, allow_nan=False))["limit"] == "-inf"
    assert Loose.model_validate(row.options) == options


@pytest.mark.parametrize("option", ["limit=nan", "several=[1, .nan]"])
def test_what_is_not_a_number_is_refused_for_a_plug_in_too(resolved, loose, option):
    with pytest.raises(UserError, match=f"{option.partition('=')[0]}: nan is not a number"):
        resolved(f"text-only.{option}")


@pytest.mark.parametrize("value", [math.inf, 1e400, math.nan])
def test_suite_s_options_are_strict_json_and_equal_to_themselves(suite_data, write_suite, value):
    suite_data["options"] = {"dreambooth": {"max_grad_norm": value}}
    read = read_yaml(write_suite(suite_data), SuiteFile).model_dump(mode="json")
    assert SuiteFile.model_validate(json.loads(json.dumps(read, allow_nan=False))).model_dump(mode="json") == read


def test_option_of_the_suite_that_is_refused_is_told_to_be_the_suite_s(
    fc_bench, tiny_backbone, suite_data, write_suite, tmp_path
):
    suite_data["options"] = {"dreambooth": {"learning_rate": math.nan}}
    suite = write_suite(suite_data)
    done = fc_bench("run", suite, "--backbone", tiny_backbone, "-m", "dreambooth", "--out", tmp_path / "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert 'Option of the method "dreambooth" in the suite: learning_rate' in done.err


NOT_FINITE = [math.nan, math.inf, True, 1e300, 10**60, "1e400", "1e-400"]


@pytest.fixture
def recipe(tmp_path):
    """Writes a training configuration with these fields; returns its file."""

    def write(**fields: object) -> Path:
        content = {"data": {"root": "data"}, "max_steps": 1, "pipeline": "p", "image_encoder": "e", "output": "o"}
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({**content, **fields}))
        return file

    return write


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize(
    "fields",
    [{"max_seconds": "?"}, {"optimizer": {"weight_decay": "?"}}, {"optimizer": {"betas": ["?", 0.9]}}],
)
def test_training_recipe_refuses_what_is_no_usable_number_with_its_line(recipe, fields, value):
    filled = json.loads(json.dumps(fields).replace('"?"', json.dumps(value)))
    with pytest.raises(ModelInputError, match=r"recipe\.yaml:\d+: "):
        load_config(recipe(**filled))


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("key", ["quality", "cost"])
def test_gate_refuses_what_is_no_usable_tolerance_with_its_line(tmp_path, key, value):
    file = tmp_path / "gate.yaml"
    file.write_text(yaml.safe_dump({key: {"identity": {"tolerance": value}}}))
    with pytest.raises(ModelInputError, match=r"gate\.yaml:3: "):
        read_gate(file)


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("key", ["steps", "guidance_scale", "resolution"])
def test_suite_refuses_what_is_no_usable_sampler_setting_with_its_line(suite_data, write_suite, key, value):
    suite_data["sampler"] = {key: value}
    with pytest.raises(ModelInputError, match=rf"suite\.yaml:\d+: sampler\.{key}"):
        read_yaml(write_suite(suite_data), SuiteFile)


@pytest.mark.parametrize("value", [[0, 128], [-128, 128], [True, 128], [10**60, 128], [100, 128]])
def test_backbone_refuses_what_is_no_size_of_a_detector_s_input(tiny_backbone, tmp_path, value):
    data = yaml.safe_load(tiny_backbone.read_text())
    data["faces"]["det_size"] = value
    file = tmp_path / "backbone.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ModelInputError, match=r"backbone\.yaml:\d+: faces\.0\.det_size"):
        read_backbone(str(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0:inf:1", "never reaches"),
        ("nan:1:1", "never reaches"),
        ("0:1e999999:1", "a number beyond"),
        ("0:1:1e-999999", "widen the step"),
        ("1,2024-13-45", "cannot be read"),
    ],
)
def test_range_of_a_sweep_that_no_number_can_count_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        values_in(text)


@pytest.mark.parametrize("text", ["0s", "nan", "infs", "1e3s", "-1h", "9" * 400 + "s", f"{LARGEST_WHOLE + 1}s"])
def test_duration_that_nobody_can_wait_is_refused(text):
    with pytest.raises(ModelInputError, match="write it like 90s, 30m or 2h"):
        parse_duration(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["compose", "a {x}", "--alpha", "nan"],
        ["compose", "a {x}", "--guidance-scale", "inf"],
        ["compose", "a {x}", "--seed", str(10**60)],
        ["compose", "a {x}", "--steps", "-1"],
        ["cost", "--memory-limit", "nan"],
        ["cost", "--memory-limit", "inf"],
        ["cost", "--budget", "inf"],
        ["run", "--images-per-prompt", str(10**60)],
        ["run", "--limit-subjects", str(10**60)],
        ["run", "--batch-size", "1e3"],
        ["run", "--executor", "ray", "--gpus-per-job", "nan"],
        ["run", "--fail-on-error", "nan"],
        ["run", "--out", ""],
        ["run", "--out="],
        ["train", "fastcomposer", "pocket", "--max-steps", str(10**60)],
        ["train", "fastcomposer", "pocket", "--budget", "1e400s"],
        ["validate", ""],
        ["compare", "a", "b", "--gate", ""],
    ],
)
def test_argument_outside_what_can_be_run_is_one_line_and_exit_code_2(fc_bench, arguments):
    done = fc_bench(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert done.err.startswith("fc-bench: ")
    assert "Traceback" not in done.out + done.err


def test_bounds_of_numbers_are_those_of_float32():
    assert max(LARGEST, LARGEST_WHOLE) < 3.4e38
