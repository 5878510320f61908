"""Whatever a file holds, reading it gives a result or one sentence.

A few hundred cases each by default; `FC_BENCH_FUZZ_CASES=10000 python -m pytest tests/properties/test_fuzz.py` tries as
many as that.
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

from fc_bench.errors import UserError
from fc_bench.json_lines import LineWriter, read_lines
from fc_bench.model.checkpoint import read_checkpoint, split_components
from fc_bench.model.errors import ModelInputError
from fc_bench.suite import SubjectSet, read_suite

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


def told_in_one_sentence(error: Exception, where: str = "") -> None:
    assert isinstance(error, (UserError, ModelInputError)), repr(error)
    assert str(error).strip()
    assert where in str(error)
    assert len(str(error)) < 4000


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
    try:
        suite = read_suite(file)
        for subject_set, prompts in suite.subject_sets():
            assert isinstance(subject_set, SubjectSet)
            assert prompts
        suite.content()
    except (UserError, ModelInputError) as error:
        told_in_one_sentence(error)


@fuzzed
@given(data=st.data())
def test_suite_with_anything_anywhere_is_read_or_refused(data, suite, suite_data):
    path = data.draw(st.sampled_from(places(suite_data)))
    content = replaced(suite_data, path, data.draw(plain))
    file = suite.with_name("fuzzed.yaml")
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8", errors="surrogatepass")
    read(file)


@fuzzed
@given(
    cut=st.integers(0, 2000), inserted=st.binary(max_size=30) | texts.map(lambda text: text.encode("utf-8", "replace"))
)
def test_suite_file_with_damaged_bytes_is_read_or_refused(cut, inserted, suite):
    whole = suite.read_bytes()
    file = suite.with_name("damaged.yaml")
    file.write_bytes(whole[: cut % len(whole)] + inserted + whole[(cut + len(inserted)) % len(whole) :])
    read(file)


@fuzzed
@given(
    rows=st.lists(st.lists(texts, min_size=1, max_size=5), max_size=4),
    header=st.sampled_from(["image,subjects,prompt", "image,subjects,prompt,index,method", "subjects,image", ""]),
    raw=st.binary(max_size=60),
)
def test_manifest_is_read_or_refused(rows, header, raw, suite):
    import csv

    from fc_bench.placing import Asked, read_manifest

    text = io.StringIO()
    csv.writer(text).writerows(rows)
    file = suite.with_name("list.csv")
    content = f"{header}\n{text.getvalue()}".encode("utf-8", "surrogatepass")
    file.write_bytes(content if len(raw) % 2 else content[: len(content) // 2] + raw + content[len(content) // 2 :])
    asked = Asked(read_suite(suite).subject_sets(), 2)
    try:
        read_manifest(file, suite.parent / "people", asked, "theirs")
    except (UserError, ModelInputError) as error:
        told_in_one_sentence(error)


@fuzzed
@given(
    records=st.lists(st.dictionaries(texts, plain, max_size=3), max_size=4),
    cut=st.integers(0, 400),
    raw=st.binary(max_size=20),
)
def test_records_damaged_anywhere_are_read_or_refused_and_can_be_gone_on_with(records, cut, raw, tmp_path):
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
    try:
        before = read_lines(file)
    except UserError as error:
        told_in_one_sentence(error, f"{file}:")
        return
    writer = LineWriter(file)
    writer.append({"id": "next"})
    writer.close()
    assert read_lines(file) == [*before, {"id": "next"}]


@fuzzed
@given(place=st.integers(0, 2**31), flips=st.binary(min_size=1, max_size=8), shorter=st.booleans(), safe=st.booleans())
def test_checkpoint_with_damaged_bytes_is_read_or_refused(place, flips, shorter, safe, checkpoints, tmp_path):
    name, whole = checkpoints[safe]
    start = place % len(whole)
    file = tmp_path / name
    file.write_bytes(whole[:start] if shorter else whole[:start] + flips + whole[start + len(flips) :])
    try:
        split_components(read_checkpoint(file))
    except ModelInputError as error:
        told_in_one_sentence(error)


@pytest.fixture(scope="module")
def checkpoints() -> dict[bool, tuple[str, bytes]]:
    """A small checkpoint in the published layout, as .bin and as .safetensors."""
    import torch
    from safetensors.torch import save

    weights = {f"{part}.layer.weight": torch.arange(8.0) for part in ("unet", "vae", "postfuse_module")}
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return {False: ("model.bin", buffer.getvalue()), True: ("model.safetensors", save(weights))}
