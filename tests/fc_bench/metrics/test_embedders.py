"""Two face embedders side by side, in columns that never mix."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper


@pytest.fixture
def two_embedders(tiny_backbone, tmp_path):
    """The tiny backbone with a second recognizer, which is blind: everybody has the same embedding."""
    pack = tmp_path / "blind"
    shutil.copytree(tiny_backbone.parent / "faces", pack)
    network = onnx.load(pack / "rec.onnx")
    (name,) = [output.name for output in network.graph.output]
    width = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    for node in network.graph.node:
        node.output[:] = [f"{name}_seen" if output == name else output for output in node.output]
    for weight in (("nothing", np.zeros(1)), ("always", np.ones(width))):
        network.graph.initializer.append(numpy_helper.from_array(weight[1].astype(np.float32), weight[0]))
    network.graph.node.append(onnx.helper.make_node("Mul", [f"{name}_seen", "nothing"], [f"{name}_none"]))
    network.graph.node.append(onnx.helper.make_node("Add", [f"{name}_none", "always"], [name]))
    onnx.save(network, pack / "rec.onnx")
    data = yaml.safe_load(tiny_backbone.read_text())
    for part in ("pipeline", "clip"):
        data[part] = str(tiny_backbone.parent / data[part])
    data["fastcomposer"]["variants"] = {"random": str(tiny_backbone.parent / "fastcomposer")}
    first = {**data["faces"], "pack": str(tiny_backbone.parent / "faces")}
    file = tmp_path / "two.yaml"
    file.write_text(
        yaml.safe_dump(
            {**data, "faces": [first, {**first, "name": "Blind one", "det_size": [128, 128], "pack": str(pack)}]}
        )
    )
    return file


def test_each_embedder_fills_its_own_columns(fc_bench, plugin, suite, tiny_backbone, two_embedders, records, tmp_path):
    arguments = ("run", suite, "-m", "paste", "--images-per-prompt", 1)
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert fc_bench(*arguments, "--backbone", tiny_backbone, "--out", alone).code == 0
    done = fc_bench(*arguments, "--backbone", two_embedders, "--out", both)
    assert done.code == 0, done.err
    assert "identity preservation (Blind one)" in done.out
    scores = {(score["sample"], score["metric"]): score["values"] for score in records(both / "scores.jsonl")}
    before = {(score["sample"], score["metric"]): score["values"] for score in records(alone / "scores.jsonl")}
    # The first embedder's numbers are what they were alone.
    assert {key: values for key, values in scores.items() if key[1] != "identity@blind-one"} == before
    blind = [values for key, values in scores.items() if key[1] == "identity@blind-one"]
    assert blind
    assert all(name.endswith("@blind-one") for values in blind for name in values)
    assert [values["identity@blind-one"] for values in blind] == pytest.approx([1.0] * len(blind), abs=1e-5)


def test_runs_with_another_second_embedder_do_not_mix_in_one_folder(
    fc_bench, plugin, suite, tiny_backbone, two_embedders, tmp_path
):
    arguments = ("run", suite, "-m", "paste", "--out", tmp_path / "run", "--backbone")
    assert fc_bench(*arguments, two_embedders).code == 0
    done = fc_bench(*arguments, tiny_backbone)
    assert done.code == 2
    assert "which this command does not measure" in done.err


def test_a_protocol_is_measured_with_the_embedder_that_its_column_names(
    fc_bench, plugin, write_suite, suite_data, two_embedders, records, tmp_path
):
    """The blind embedder finds everybody equal to everybody, whether the image is scored or the record is."""
    arguments = ("-m", "paste", "--images-per-prompt", 1, "--backbone", two_embedders)
    scored, derived = tmp_path / "scored", tmp_path / "derived"
    alone = write_suite({**suite_data, "metrics": ["identity"]})
    assert fc_bench("run", alone, *arguments, "--out", derived).code == 0
    asked = write_suite({**suite_data, "metrics": ["identity", "xverse", "multiid"]})
    assert fc_bench("run", asked, *arguments, "--out", scored).code == 0
    done = fc_bench("run", asked, *arguments, "--out", derived)
    assert done.code == 0, done.err
    found = [
        {(one["sample"], one["metric"]): one["values"] for one in records(folder / "scores.jsonl")}
        for folder in (scored, derived)
    ]
    assert found[0] == found[1]
    blind = [values for (_, metric), values in found[0].items() if metric == "xverse@blind-one"]
    assert blind
    assert [values["xverse_id@blind-one"] for values in blind] == pytest.approx([100.0] * len(blind), abs=1e-3)
