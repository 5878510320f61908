"""Whatever a file holds, reading it gives a result or one sentence.

A few hundred cases each by default, with `FC_BENCH_FUZZ_CASES` as many as that (`python tests/benchmarks/fuzz.py`).
"""

from __future__ import annotations

import copy
import io
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fc_bench.model.fastcomposer.checkpoint import load_components, split_components
from fc_bench.model.stored_weights import load_strictly, read_checkpoint
from fc_bench.run_folder.json_lines import LineWriter, read_lines
from fc_bench.suites.suite import SubjectSet, read_suite

CASES = int(os.environ.get("FC_BENCH_FUZZ_CASES", "200"))
PUBLISHED = Path(__file__).parents[1] / "golden" / "fastcomposer" / "pytorch_model.bin"

fuzzed = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

texts = st.text(max_size=40) | st.sampled_from(
    ["../../etc/passwd", "/etc/passwd", "-rf", "a\nb", "a\0b", "{subject}", "{subjects}", "<|image|>", "~root/x", "con",
     "x" * 300, "\u202etxt", "!!python/object/apply:os.system [ls]", "&a *a", "=1+1", "ann", "all", "all-pairs"]
)  # fmt: skip
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


fitting: st.SearchStrategy[Any] = st.sampled_from(
    ["dan", "cat", 1, 3, "a {subject} at sea", "{subjects} at sea", "all-pairs", ["ann", "cid"], [["ann", "cid"]],
     ["a {subject} at sea"], {"context": ["a {subject} at sea"]}]
)  # fmt: skip
"""What stands somewhere in suites."""


def places(data: Any, path: tuple = ()) -> list[tuple]:
    """Paths to everything in nested data."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def replaced(data: Any, path: tuple, value: Any) -> Any:
    if not path:
        return value
    data = copy.deepcopy(data)
    inside = data
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return data


def read(file: Path) -> None:
    """Everything that reading a suite does before a run."""
    suite = read_suite(file)
    for subject_set, prompts in suite.subject_sets():
        assert isinstance(subject_set, SubjectSet)
        assert prompts
    suite.content()


@fuzzed
@given(data=st.data())
def test_suite_with_anything_anywhere_is_read_or_refused(data, suite, suite_data, outcomes):
    path = data.draw(st.sampled_from(places(suite_data)))
    content = replaced(suite_data, path, data.draw(fitting | plain))
    file = suite.with_name("fuzzed.yaml")
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8", errors="surrogatepass")
    with outcomes.told():
        read(file)


@fuzzed
@given(
    cut=st.integers(0, 2000), inserted=st.binary(max_size=30) | texts.map(lambda text: text.encode("utf-8", "replace"))
)
def test_suite_file_with_damaged_bytes_is_read_or_refused(cut, inserted, suite, outcomes):
    whole = suite.read_bytes()
    file = suite.with_name("damaged.yaml")
    file.write_bytes(whole[: cut % len(whole)] + inserted + whole[(cut + len(inserted)) % len(whole) :])
    with outcomes.told():
        read(file)


@fuzzed
@given(
    data=st.data(),
    header=st.sampled_from(
        [
            "image,subjects,prompt",
            "image,subjects,prompt,index,method",
            "image,subjects,prompt,seconds,memory",
            "subjects,image",
            "",
        ]
    ),
    raw=st.just(b"") | st.binary(max_size=60),
)
def test_manifest_is_read_or_refused(data, header, raw, suite, asked, outcomes):
    import csv

    from fc_bench.commands.image_assignment import read_manifest

    images = [str(path.relative_to(suite.parent / "people")) for path in sorted((suite.parent / "people").rglob("*.*"))]
    prompts = [prompt.template for _, own in asked.sets for prompt in own]
    whole = [images, [subject_set.key for subject_set, _ in asked.sets], prompts, ["", "0", "1"], ["", "theirs"]]
    fields = [st.one_of(*3 * [st.sampled_from(known)], texts) for known in whole]
    rows = data.draw(
        st.lists(st.tuples(*fields[: header.count(",") + 1]) | st.lists(texts, max_size=6), min_size=1, max_size=3)
    )
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    file = suite.with_name("list.csv")
    content = f"{header}\n{text.getvalue()}".encode("utf-8", "surrogatepass")
    file.write_bytes(content if not raw else content[: len(content) // 2] + raw + content[len(content) // 2 :])
    with outcomes.told(file.name if header else ""):
        read_manifest(file, suite.parent / "people", asked, "theirs")


@pytest.fixture
def asked(suite):
    """What the suite asks for."""
    from fc_bench.layouts.requested import RequestedImages

    sets = read_suite(suite).subject_sets()
    return RequestedImages(sets, sets, 2)


@fuzzed
@given(
    records=st.lists(st.dictionaries(texts, plain, max_size=3), max_size=4),
    cut=st.integers(0, 400),
    raw=st.binary(max_size=20),
)
def test_records_damaged_anywhere_are_read_or_refused_and_can_be_gone_on_with(records, cut, raw, tmp_path, outcomes):
    file = tmp_path / "records.jsonl"
    file.unlink(missing_ok=True)
    writer = LineWriter(file)
    for record in records:
        try:
            writer.append(record)
        except ValueError:
            continue  # not a number: refused before anything is written
    writer.close()
    whole = file.read_bytes()
    place = cut % (len(whole) + 1)
    file.write_bytes(whole[:place] + raw + whole[place + len(raw) :])
    with outcomes.told(f"{file}:"):
        before = read_lines(file)
        writer = LineWriter(file)
        writer.append({"id": "next"})
        writer.close()
        assert read_lines(file) == [*before, {"id": "next"}]


@fuzzed
@given(place=st.integers(0, 2**31), flips=st.binary(min_size=1, max_size=8), shorter=st.booleans(), safe=st.booleans())
def test_checkpoint_with_damaged_bytes_is_read_or_refused(place, flips, shorter, safe, checkpoints, tmp_path, outcomes):
    name, whole = checkpoints[safe]
    start = place % len(whole)
    file = tmp_path / name
    file.write_bytes(whole[:start] if shorter else whole[:start] + flips + whole[start + len(flips) :])
    with outcomes.told():
        split_components(read_checkpoint(file))


def _changed(weights: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """Weights of which one is lost, called otherwise, of another shape or kind, or no tensor."""
    import torch

    name = data.draw(st.sampled_from(sorted(weights)), "weight")
    part, _, rest = name.partition(".")
    dtypes = st.sampled_from([torch.float16, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
    others: list[Any] = [part, f"{part}.", f"unet.{rest}", f"{name}.0", "", 7]
    shape = data.draw(st.lists(st.integers(0, 3), max_size=5), "shape")
    instead: list[Any] = [
        torch.zeros(shape, dtype=data.draw(dtypes, "dtype")),
        weights[name].to(data.draw(dtypes, "dtype")),
        torch.full_like(weights[name].float(), float("nan")),
        weights[name].to_sparse(),
        data.draw(plain, "value"),
    ]
    kept = {key: value for key, value in weights.items() if key != name}
    if data.draw(st.booleans(), "lost"):
        return kept
    return {
        **kept,
        data.draw(st.just(name) | st.sampled_from(others) | texts, "name"): data.draw(
            st.sampled_from(instead), "instead"
        ),
    }


@fuzzed
@given(data=st.data())
def test_checkpoint_with_other_weights_is_loaded_or_refused(data, published, tmp_path, outcomes):
    import torch

    weights, models = published
    file, part = tmp_path / "model.bin", "postfuse_module"
    torch.save(_changed({name: value for name, value in weights.items() if name.startswith(part)}, data), file)
    with outcomes.told():
        loaded = split_components(read_checkpoint(file))
        load_strictly(models[part], loaded[part], torch.float32, f"the checkpoint {file}, {part}")


@settings(fuzzed, max_examples=max(5, CASES // 100))
@given(data=st.data(), flips=st.none() | st.tuples(st.integers(0, 2**31), st.binary(min_size=1, max_size=8)))
def test_checkpoint_is_converted_whole_or_refused(data, flips, published, tmp_path, outcomes):
    import shutil

    import torch

    from fc_bench.model.fastcomposer.convert import convert_checkpoint

    file, output = tmp_path / "model.bin", tmp_path / "converted"
    shutil.rmtree(output, ignore_errors=True)
    if flips is None:
        torch.save(_changed(published[0], data), file)
    else:
        whole = PUBLISHED.read_bytes()
        start = flips[0] % len(whole)
        file.write_bytes(whole[:start] + flips[1] + whole[start + len(flips[1]) :])
    with outcomes.told():
        convert_checkpoint(file, PUBLISHED.parent / "sd", output, PUBLISHED.parent / "clip")
        return
    assert not output.exists()


@pytest.fixture(scope="module")
def published() -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights of a small checkpoint in the published layout, and models that they fit."""
    folder = PUBLISHED.parent
    return read_checkpoint(PUBLISHED), load_components(PUBLISHED, folder / "sd", image_encoder=folder / "clip")


@pytest.fixture(scope="module")
def checkpoints() -> dict[bool, tuple[str, bytes]]:
    """A small checkpoint in the published layout, as .bin and as .safetensors."""
    import torch
    from safetensors.torch import save

    weights = {f"{part}.layer.weight": torch.arange(8.0) for part in ("unet", "vae", "postfuse_module")}
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return {False: ("model.bin", buffer.getvalue()), True: ("model.safetensors", save(weights))}
