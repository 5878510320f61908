"""What comes next is computed while what came before is dealt with, and nothing else changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from fc_bench.generation.prefetch import ahead

PATIENCE = 30.0
"""Seconds after which what does not happen at the same time fails a test instead of hanging it."""


def test_items_come_in_order_and_an_error_after_those_before_it():
    def items() -> Iterator[int]:
        yield from range(100)
        raise ValueError("the end")

    assert list(ahead(iter(range(100)), most=3)) == list(range(100))
    seen = []
    with pytest.raises(ValueError, match="the end"):
        seen.extend(ahead(items(), most=3))
    got = ahead(items())
    assert [next(got) for _ in range(100)] == list(range(100))


def test_the_next_item_is_computed_while_one_is_dealt_with():
    begun = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        yield 2

    got = ahead(items())
    assert next(got) == 1
    assert begun.wait(PATIENCE)
    assert list(got) == [2]


def test_no_more_items_wait_than_asked():
    computed = []

    def items() -> Iterator[int]:
        for number in range(20):
            computed.append(number)
            yield number

    for number in ahead(items(), most=2):
        assert len(computed) <= number + 1 + 2 + 1  # this one, two that wait, one about to


def test_an_iteration_left_early_ends_the_computing():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    got = ahead(items(), most=1)
    next(got)
    got.close()
    del got
    assert closed.wait(PATIENCE)


def test_an_iteration_left_early_ends_what_has_no_next_item_for_long():
    ended = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        try:
            while True:
                try:
                    time.sleep(0.01)  # a step of training
                except Exception:  # a job's failure is recorded; this is none
                    continue
        finally:
            ended.set()

    got = ahead(items())
    next(got)
    got.close()
    assert ended.is_set()


@pytest.mark.parametrize("accelerated", [True, False])
def test_on_an_accelerator_a_batch_is_sampled_while_the_last_one_is_encoded(
    accelerated, fc_bench, suite, tiny_backbone, plugin, tmp_path, monkeypatch, records
):
    import paste_faces

    from fc_bench.generation import worker as working

    monkeypatch.setattr("fc_bench.generation.worker.fills", lambda device: accelerated)
    batches, second = [], threading.Event()
    generate, encode = paste_faces.Paste.generate, working.png_of

    def sampled(self, customized, requests):
        batches.append(len(requests))
        if len(batches) == 2:
            second.set()
        yield from generate(self, customized, requests)

    waited = []

    def encoded(image):
        if not waited:
            waited.append(second.wait(PATIENCE if accelerated else 0.5))
        return encode(image)

    monkeypatch.setattr(paste_faces.Paste, "generate", sampled)
    monkeypatch.setattr(working, "png_of", encoded)
    asked = ("run", suite, "--backbone", tiny_backbone, "-m", "paste", "--out", tmp_path / "run", "--batch-size", 2)
    done = fc_bench(*asked)
    assert done.code == 0, done.err
    assert waited == [accelerated]
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert [sample["status"] for sample in samples] == ["ok"] * 11
    assert not (tmp_path / "run" / "artefacts").exists()
