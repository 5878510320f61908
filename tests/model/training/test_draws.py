"""The random decisions of training have the stated frequencies and depend on nothing but seed and position."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from fc_bench.model.errors import ModelInputError
from fc_bench.model.training.batches import Stream
from fc_bench.model.training.config import DataConfig, TrainingConfig
from fc_bench.model.training.draws import NoiseDraw, SampleDraws, SubjectTable, draw_noise

TABLE = SubjectTable(np.array([1, 2, 2, 1]), np.array([[0, -1], [0, 1], [1, 2], [2, -1]]), targets=4)
MANY = range(4000)


def draws(table: SubjectTable = TABLE, seed: int = 0, **fields: object) -> SampleDraws:
    return SampleDraws(table, DataConfig.model_validate({"root": Path("data"), **fields}), seed)


def test_every_epoch_holds_every_image_once() -> None:
    rows = [draws().sample(position).row for position in range(12)]
    assert [sorted(rows[first : first + 4]) for first in (0, 4, 8)] == [[0, 1, 2, 3]] * 3
    assert len({tuple(rows[first : first + 4]) for first in (0, 4, 8)}) > 1


def test_sample_depends_on_seed_and_position_only() -> None:
    forward, backward = draws(), draws()
    samples = [forward.sample(position) for position in range(20)]
    assert [backward.sample(position) for position in reversed(range(20))] == samples[::-1]
    assert [draws(seed=1).sample(position) for position in range(20)] != samples


def test_frequencies_are_those_configured() -> None:
    stream = draws(p_unconditional=0.1, p_text_only=0.2, p_keep_subject=0.9)
    samples = [stream.sample(position) for position in MANY]
    assert np.mean([sample.unconditional for sample in samples]) == pytest.approx(0.1, abs=0.02)
    kept = sum(len(sample.kept) for sample in samples) / sum(TABLE.counts[sample.row] for sample in samples)
    assert kept == pytest.approx(0.7 * 0.9, abs=0.02)
    assert not any(sample.kept for sample in samples if sample.unconditional)


def test_at_most_so_many_subjects_in_caption_order() -> None:
    table = SubjectTable(np.array([4]), np.arange(4)[None], targets=1)
    samples = [draws(table, max_subjects=2, p_keep_subject=1.0).sample(position) for position in range(200)]
    kept = {sample.kept for sample in samples if not sample.unconditional}
    assert kept == {(a, b) for a in range(4) for b in range(a + 1, 4)}


def test_reference_from_the_same_image_is_the_subject_itself() -> None:
    for sample in map(draws().sample, range(100)):
        assert [(crop.row, crop.slot) for crop in sample.references] == [(sample.row, slot) for slot in sample.kept]


def test_reference_from_another_image_is_the_same_person() -> None:
    stream = draws(reference="other-image")
    seen = set()
    for sample in map(stream.sample, range(200)):
        for slot, crop in zip(sample.kept, sample.references, strict=True):
            assert crop.row != sample.row
            assert TABLE.subjects[crop.row, crop.slot] == TABLE.subjects[sample.row, slot]
            seen.add((sample.row, slot, crop.row))
    assert seen == {(0, 0, 1), (1, 0, 0), (1, 1, 2), (2, 0, 1), (2, 1, 3), (3, 0, 2)}


def test_reference_list_of_its_own() -> None:
    table = SubjectTable(np.array([1, 1, 1, 1]), np.array([[0], [1], [0], [1]]), targets=2)
    samples = [draws(table, reference="other-image", reference_split="portraits").sample(p) for p in range(100)]
    assert {sample.row for sample in samples} == {0, 1}
    assert {(sample.row, crop.row) for sample in samples for crop in sample.references} == {(0, 2), (1, 3)}


def test_unknown_identity_is_one_sentence() -> None:
    table = SubjectTable(np.array([1, 1]), np.array([[0], [-1]]), targets=2)
    with pytest.raises(ModelInputError, match=r'image 2 .* without "subject"'):
        draws(table, reference="other-image")
    with pytest.raises(ModelInputError, match="whose subject is not in 'portraits'"):
        draws(SubjectTable(table.counts, table.subjects, 1), reference="other-image", reference_split="portraits")


def test_stratified_timesteps_cover_their_range_evenly() -> None:
    timesteps = draw_noise([0, 5], (50, 4, 2, 2), 1000, 0.5, stratified=True).timesteps
    assert (timesteps.sort().values // 20).tolist() == list(range(50))
    assert timesteps.tolist() != sorted(timesteps.tolist())


def test_noise_is_standard_and_independent_between_batches() -> None:
    shape = (64, 4, 8, 8)
    batches = [draw_noise(seed, shape, 1000, 0.5, False) for seed in ([0, 0], [0, 1], [0, 2], [1, 0])]
    flat = torch.stack([noise.flatten() for batch in batches for noise in (batch.posterior, batch.noise)])
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.05
    assert flat.std().item() == pytest.approx(1, abs=0.02)
    masked = torch.cat([batch.masked for batch in batches]).float().mean().item()
    assert masked == pytest.approx(0.5, abs=0.1)
    again = draw_noise([0, 1], shape, 1000, 0.5, False)
    assert torch.equal(again.noise, batches[1].noise)


@pytest.mark.parametrize("stratified", [False, True])
def test_processes_share_out_what_one_draws_for_all_their_batches(stratified: bool, config_fields: dict) -> None:
    config = TrainingConfig.model_validate({**config_fields, "batch_size": 6, "stratified_timesteps": stratified})
    whole = Stream(draws(), config, 1000)
    parts = [Stream(draws(), config.model_copy(update={"batch_size": 3}), 1000, process, 2) for process in range(2)]
    for number in (0, 4):
        assert [sample for part in parts for sample in part.samples(number)] == whole.samples(number)
        expected, found = whole.noise(number, (6, 4, 2, 2)), [part.noise(number, (3, 4, 2, 2)) for part in parts]
        for field in fields(NoiseDraw):
            together = torch.cat([getattr(part, field.name) for part in found])
            assert torch.equal(together, getattr(expected, field.name)), field.name
