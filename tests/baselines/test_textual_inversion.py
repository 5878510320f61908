"""Textual Inversion learns one subject's embedding and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fc_bench.baselines.textual_inversion import FILE, TEMPLATES, TextualInversion, TextualInversionOptions
from fc_bench.baselines.tuning.latents import Posteriors
from fc_bench.baselines.tuning.tokens import NewTokens
from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import Customization, Subject

from .conftest import of_sd1, of_sdxl

FEW = {"steps": 4, "learning_rate": 0.05, "batch_size": 2, "photographs": 3, "initializer": "m"}


def method_of(setting, **options) -> TextualInversion:
    return TextualInversion(setting, TextualInversionOptions(**{**FEW, **options}))


def learnt(method: TextualInversion, subject: Subject, folder: Path) -> Customization:
    folder.mkdir()
    return method.customize([subject], 0, folder, None)


def embeddings(method: TextualInversion, folder: Path) -> list[torch.Tensor]:
    """The new rows [vectors, features] of each text encoder in an artefact."""
    stored = load_file(folder / FILE)
    return [stored[key] for key in method.base.family.token_keys("<ann>")]


def base_embeddings(method: TextualInversion, token: str) -> list[torch.Tensor]:
    """A token's row [features] of each of the base model's tables."""
    text = method.base.text
    return [
        encoder.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(token)].detach()
        for tokenizer, encoder in zip(text.tokenizers, text.encoders, strict=True)
    ]


def test_there_are_the_27_templates_of_the_paper():
    assert len(set(TEMPLATES)) == 27
    assert all(template.count("{}") == 1 for template in TEMPLATES)


@pytest.mark.parametrize("vectors", [1, 3])
def test_the_artefact_changes_the_image_and_stock_diffusers_gives_the_same_one(
    setting, tunable, images_of, stock_pipeline, stock_images, load_token, tmp_path, vectors
):
    method = method_of(setting, vectors=vectors)
    ours = images_of(method, learnt(method, tunable["ann"], tmp_path / "artefact"))
    shapes = [tuple(rows.shape) for rows in embeddings(method, tmp_path / "artefact")]
    assert shapes == [(vectors, encoder.config.hidden_size) for encoder in method.base.text.encoders]
    stored = load_file(tmp_path / "artefact" / FILE)
    starts = dict(zip(method.base.family.token_keys("<ann>"), base_embeddings(method, "m</w>"), strict=True))
    for key in ("", *starts):  # as written, or with the rows of one text encoder as they were before the training
        rows = {name: starts[name].repeat(vectors, 1) if name == key else own for name, own in stored.items()}
        save_file(rows, tmp_path / "changed.safetensors")
        stock = stock_pipeline()
        load_token(stock, "<ann>", tmp_path / "changed.safetensors" if key else tmp_path / "artefact" / FILE)
        assert (np.abs(ours - stock_images(stock, "a photo of a <ann>")).max() <= 1) == (not key)


@of_sdxl
def test_the_artefact_says_what_stock_pipelines_need_beside_it_and_without_that_images_differ(
    setting, tunable, images_of, stock_pipeline, stock_images, load_token, tmp_path
):
    method = method_of(setting)
    ours = images_of(method, learnt(method, tunable["ann"], tmp_path / "artefact"))
    stock = stock_pipeline()
    load_token(stock, "<ann>", tmp_path / "artefact" / FILE, fitted=False)
    assert np.abs(ours - stock_images(stock, "a photo of a <ann>")).max() > 1
    with safe_open(tmp_path / "artefact" / FILE, "pt") as file:
        note = file.metadata()["note"]
    (statement,) = re.findall(r"pipeline\.\S+ = pipeline\.\w+\.\w+", note)
    exec(statement, {"pipeline": stock})
    assert np.abs(ours - stock_images(stock, "a photo of a <ann>")).max() <= 1


@of_sd1
def test_training_moves_the_embeddings_away_from_the_initializer(setting, tunable, tmp_path):
    method = method_of(setting, vectors=2)
    learnt(method, tunable["ann"], tmp_path / "artefact")
    starts = base_embeddings(method, "m</w>")
    for (first, second), start in zip(embeddings(method, tmp_path / "artefact"), starts, strict=True):
        assert (first != start).any()
        assert (second != start).any()
        assert (first != second).any()


@of_sd1
def test_subjects_learnt_apart_are_loaded_together(setting, tunable, images_of, tmp_path):
    method = method_of(setting)
    assert method.tunes_apart
    for name in ("ann", "bob", "cid"):
        learnt(method, tunable[name], tmp_path / name)
    pair = [tunable["ann"], tunable["bob"]]
    together = images_of(method, method.restore(pair, [tmp_path / "ann", tmp_path / "bob"]))
    for artefacts in (["cid", "bob"], ["ann", "cid"]):
        other = images_of(method, method.restore(pair, [tmp_path / name for name in artefacts]))
        assert (other != together).any()


@of_sd1
def test_gradient_checkpointing_of_the_shared_unet_ends_with_the_training(setting, tunable, tmp_path):
    method = method_of(setting, gradient_checkpointing=True, learning_rate=1e38)
    with pytest.raises(UserError, match="diverged"):
        learnt(method, tunable["bob"], tmp_path / "failed")
    assert not method.base.unet.is_gradient_checkpointing
    assert not method.base.unet.training


def test_only_the_tokens_rows_of_the_loaded_table_differ_from_the_base_models(setting, tunable, tmp_path):
    method = method_of(setting, vectors=2)
    customization = learnt(method, tunable["ann"], tmp_path / "artefact")
    loaded = method.base.family.text_of(customization.state).encoders
    new = embeddings(method, tmp_path / "artefact")
    for encoder, before, rows in zip(loaded, method.base.text.encoders, new, strict=True):
        table, own = (model.get_input_embeddings().weight for model in (encoder, before))
        assert torch.equal(table[: len(own)], own)
        assert torch.equal(table[len(own) :], rows)


def test_training_can_reach_the_new_rows_alone(setting):
    base = method_of(setting).base
    count = len(base.text.encoders)
    tokens = NewTokens(base, ["<ann>", "<ann>_1"], [[5] * count, [7] * count])

    def features(prompt: str) -> torch.Tensor:
        found = tokens.encode([prompt])
        return torch.cat([part.flatten() for part in (found.text, found.pooled) if part is not None])

    plain = base.family.encode(base.text, ["a photo of a man"]).text
    assert torch.equal(tokens.encode(["a photo of a man"]).text, plain)
    before = features("a photo of a man")
    optimizer = torch.optim.AdamW(tokens.rows, lr=0.1, weight_decay=0.5)
    features("a photo of a <ann> <ann>_1").square().sum().backward()
    optimizer.step()
    for encoder, rows, own in zip(tokens._text.encoders, tokens.rows, base.text.encoders, strict=True):
        trained = [name for name, parameter in encoder.named_parameters() if parameter.grad is not None]
        assert [name.rsplit(".", 1)[-1] for name in trained] == ["rows"]
        assert (rows[0] != own.get_input_embeddings().weight[5]).any()
    assert torch.equal(features("a photo of a man"), before)


@of_sd1
def test_photographs_are_seen_in_both_orientations_under_many_templates(setting, tunable, tmp_path, monkeypatch):
    method = method_of(setting, batch_size=4, steps=12)
    seen_rows, seen_prompts = set(), set()
    encode, sample = NewTokens.encode, Posteriors.sample

    def encode_and_note(self, prompts):
        seen_prompts.update(prompts)
        return encode(self, prompts)

    def sample_and_note(self, rows, noise):
        seen_rows.update(rows)
        return sample(self, rows, noise)

    monkeypatch.setattr(NewTokens, "encode", encode_and_note)
    monkeypatch.setattr(Posteriors, "sample", sample_and_note)
    learnt(method, tunable["ann"], tmp_path / "artefact")
    assert seen_rows == set(range(6))
    assert seen_prompts <= {template.format("<ann>") for template in TEMPLATES}
    assert len(seen_prompts) > 10


def test_a_subject_whose_id_has_capitals_is_known_by_all_its_vectors(setting, tunable, images_of, tmp_path):
    method = method_of(setting, vectors=2)
    subject = replace(tunable["ann"], id="Ann")
    customization = learnt(method, subject, tmp_path / "artefact")
    pipeline = customization.state
    loaded = method.base.family.text_of(pipeline).tokenizers
    for tokenizer, own in zip(loaded, method.base.text.tokenizers, strict=True):
        prompt = pipeline.maybe_convert_prompt(f"a {method.mention(subject, 0)}", tokenizer)
        known = len(own)
        assert [number for number in tokenizer(prompt).input_ids if number >= known] == [known, known + 1]


@of_sd1
def test_an_initializer_of_several_tokens_is_refused_with_its_pieces(setting, tunable, tmp_path):
    with pytest.raises(UserError, match=r'The option initializer: "man" has to be one token .* "m", "a", "n</w>"'):
        learnt(method_of(setting, initializer="man"), tunable["ann"], tmp_path / "word")
    with pytest.raises(UserError, match=r'The class noun of ann as initializer: "woman" has to be one token'):
        learnt(method_of(setting, initializer=None), tunable["ann"], tmp_path / "noun")


@of_sd1
def test_a_damaged_artefact_is_reported_in_one_sentence(setting, tunable, tmp_path):
    method = method_of(setting)
    learnt(method, tunable["ann"], tmp_path / "artefact")
    file = tmp_path / "artefact" / "learned_embeds.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ModelInputError, match="learned_embeds"):
        method.restore([tunable["ann"]], [tmp_path / "artefact"])
