"""Prior preservation's class images are drawn once, shared by all subjects of a noun, and tell what they took."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.tuning import concepts
from fc_bench.baselines.tuning.class_images import class_images
from fc_bench.baselines.tuning.concepts import ClassPictures
from fc_bench.errors import UserError

from .conftest import of_sd1

MAN, WOMAN = "a photo of a man", "a photo of a woman"
pytestmark = [pytest.mark.usefixtures("own_cache"), of_sd1]
with_prior = pytest.mark.parametrize("case", ["dreambooth", "dreambooth-lora", "custom-diffusion"])


@pytest.fixture
def base(setting) -> BasePipeline:
    return BasePipeline(setting)


@pytest.fixture
def encoded_prompts(monkeypatch) -> list[str]:
    """The prompts of all class images that are encoded, one for each time."""
    found = []
    encode_pictures = concepts.encode_pictures

    def recorded(base, parts, side):
        found.extend(prompt for _, prompt in parts)
        return encode_pictures(base, parts, side)

    monkeypatch.setattr(concepts, "encode_pictures", recorded)
    return found


def test_they_are_drawn_once_and_are_the_same_ones(base, monkeypatch):
    first = class_images(base, MAN, 3)
    monkeypatch.setattr(base, "sample", None)
    again = class_images(base, MAN, 3)
    assert first.seconds == again.seconds > 0
    assert first.sha256 == again.sha256
    assert [image.tobytes() for image in first.images] == [image.tobytes() for image in again.images]
    assert len({image.tobytes() for image in first.images}) == 3


def test_more_of_them_keep_the_ones_there_are_and_a_damaged_one_is_drawn_again(base, own_cache):
    first = class_images(base, MAN, 2)
    files = sorted(own_cache.rglob("*.png"))
    assert len(files) == 2
    files[1].write_bytes(b"half")
    kept = files[0].stat().st_mtime_ns
    more = class_images(base, MAN, 3)
    assert files[0].stat().st_mtime_ns == kept
    assert [image.tobytes() for image in more.images[:2]] == [image.tobytes() for image in first.images]


def test_those_of_another_prompt_or_sampler_are_others(base, setting, own_cache):
    slower = BasePipeline(replace(setting, sampler=replace(setting.sampler, steps=4)))
    drawn = [class_images(of, prompt, 1) for of, prompt in ((base, MAN), (base, WOMAN), (slower, MAN))]
    assert len({images.sha256 for images in drawn}) == 3
    assert len(list(own_cache.rglob("*.png"))) == 3


def test_each_file_tells_its_prompt_and_its_seconds(base, own_cache):
    drawn = class_images(base, MAN, 2)
    texts = [Image.open(file).info for file in own_cache.rglob("*.png")]
    assert {text["prompt"] for text in texts} == {MAN}
    assert drawn.seconds == pytest.approx(sum(float(text["seconds"]) for text in texts))


def test_a_cache_that_cannot_be_written_is_reported_with_the_variable(base, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set FC_BENCH_CACHE to a writable folder"):
        class_images(base, MAN, 1)


def test_each_prompts_are_encoded_once_whoever_asks(base, tunable, encoded_prompts):
    pictures = ClassPictures(base, 2, 64)
    ann, bob, cid = (tunable[name] for name in ("ann", "bob", "cid"))
    same_noun = pictures.of([bob, cid])
    forward, backward = pictures.of([bob, ann]), pictures.of([ann, bob])
    assert encoded_prompts == [MAN, WOMAN]
    assert same_noun is not None
    assert forward is not None
    assert backward is not None
    assert same_noun.prompts == (MAN, MAN)
    assert forward.prompts == (MAN, MAN, WOMAN, WOMAN)
    assert backward.prompts == (WOMAN, WOMAN, MAN, MAN)
    assert torch.equal(backward.posteriors.mean[2:], forward.posteriors.mean[:2])
    assert torch.equal(backward.posteriors.std[:2], forward.posteriors.std[2:])


@with_prior
def test_a_pair_of_one_noun_is_trained_beside_one_set_encoded_once(
    case, build, customize, tunable, encoded_prompts, tmp_path
):
    method = build(case)
    for name, people in (("men", ["bob", "cid"]), ("pair", ["bob", "ann"]), ("reversed", ["ann", "bob"])):
        customize(method, [tunable[person] for person in people], tmp_path / name)
    assert encoded_prompts == [MAN, WOMAN]


@with_prior
def test_drawing_and_encoding_are_the_shared_seconds_of_the_first_job(
    case, build, customize, tunable, tmp_path, monkeypatch
):
    now = 0.0
    draw, encode = concepts.class_images, concepts.encode_pictures

    def slow(work: Callable, seconds: float) -> Callable:
        def done(*given):
            nonlocal now
            now += seconds
            return work(*given)

        return done

    monkeypatch.setattr(concepts, "class_images", slow(draw, 100))
    monkeypatch.setattr(concepts, "encode_pictures", slow(encode, 1))
    monkeypatch.setattr(concepts, "time", SimpleNamespace(perf_counter=lambda: now))
    method = build(case)
    told = [
        customize(method, [tunable[name] for name in names], tmp_path / "-".join(names)).shared_seconds
        for names in (["bob"], ["cid"], ["bob", "cid"], ["ann", "bob"])
    ]
    assert told == [101, 0, 0, 101]


@with_prior
def test_the_customization_tells_the_class_images_also_when_others_drew_them(
    case, build, customize, tunable, own_cache, tmp_path
):
    first = customize(build(case), [tunable["bob"]], tmp_path / "first")
    files = sorted(own_cache.rglob("*.png"))
    pixels = b"".join(np.asarray(Image.open(file).convert("RGB")).tobytes() for file in files)
    about = first.details["class_images"]
    assert about.keys() == {MAN}
    assert about[MAN] == {
        "count": len(files),
        "sha256": hashlib.sha256(pixels).hexdigest(),
        "seconds_to_draw": pytest.approx(sum(float(Image.open(file).info["seconds"]) for file in files)),
    }
    assert first.shared_seconds >= about[MAN]["seconds_to_draw"] - 1e-3 > 0
    warm = customize(build(case), [tunable["bob"]], tmp_path / "warm")
    assert warm.details["class_images"] == about
    assert warm.shared_seconds > 0  # encoding
    pair = customize(build(case), [tunable["bob"], tunable["ann"]], tmp_path / "pair")
    assert pair.details["class_images"].keys() == {MAN, WOMAN}
    assert pair.details["class_images"][MAN] == about[MAN]


@with_prior
def test_without_them_the_artefact_is_another_and_nothing_is_reported(case, build, customize, tunable, tmp_path):
    with_them = customize(build(case), [tunable["bob"]], tmp_path / "with")
    without = customize(build(case, class_images=0), [tunable["bob"]], tmp_path / "without")
    assert without.details["class_images"] == {}
    assert without.shared_seconds == 0
    assert without.details["last_loss"] != with_them.details["last_loss"]


def test_files_of_a_cache_are_named_by_what_decides_them(base, own_cache):
    class_images(base, MAN, 1)
    (file,) = own_cache.rglob("*.png")
    assert file.parent.parent == Path(own_cache) / "class-images"
    assert file.parent.name.startswith("tiny-")
