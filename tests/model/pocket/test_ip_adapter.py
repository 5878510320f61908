"""The training of the pocket IP-Adapter, at toy size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from fc_bench.model.errors import ModelInputError
from fc_bench.model.ip_adapter import read_adapter
from fc_bench.model.pocket import ip_adapter
from fc_bench.model.pocket.assemble import HERE
from fc_bench.model.pocket.base_unet import build_unet
from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.render import compose_caption, render_photograph, render_seed
from fc_bench.model.pocket.stage import StageSettings
from fc_bench.model.pocket.train import Workspace
from fc_bench.model.pocket.vae import LATENT_CHANNELS, LATENT_SIZE
from fc_bench.model.stored_weights import load_whole

FEATURES = 192


@pytest.fixture(scope="module")
def pictures() -> tuple[PackedDataset, PackedDataset]:
    """Eight pictures of people of a tiny range, and two photographs of each of these."""
    drawn = [render_seed(number, range(3), 0.5) for number in range(8)]
    people = {person.seed: person for picture in drawn for person in picture.people}
    photographs = [(person, render_photograph(person, k)) for person in people.values() for k in (0, 1)]
    annotations = [
        {
            "caption": compose_caption(picture.people, picture.scene)[0],
            "rich_captions": [compose_caption(picture.people, picture.scene)[0]],
            "people": [person.seed for person in picture.people],
            "face_boxes": picture.face_boxes.tolist(),
        }
        for picture in drawn
    ]
    shown = PackedDataset(np.stack([picture.image for picture in drawn]), annotations, 0)
    own = [
        {"people": [person.seed], "rich_captions": [compose_caption(picture.people, picture.scene)[0]]}
        for person, picture in photographs
    ]
    return shown, PackedDataset(np.stack([picture.image for _, picture in photographs]), own, 0)


def trained(pictures: tuple[PackedDataset, PackedDataset], unet: UNet2DConditionModel, folder: Path, steps: int):
    data, photographs = pictures
    base = StableDiffusionPipeline.from_pretrained(HERE / "weights" / "pipeline", dtype=torch.float32)
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(len(data.images), 2, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)).astype(np.float16)
    embeddings = rng.normal(size=(len(photographs.images), FEATURES)).astype(np.float32)
    settings = StageSettings(1e9, 1e-2, 4, max_steps=steps, warmup_steps=1, log_every=1, ema=0.0)
    device = torch.device("cpu")
    return ip_adapter.train_adapter(
        unet, data, latents, photographs, embeddings, base.text_encoder, base.tokenizer, folder, settings, device
    )


def test_only_the_adapter_is_trained_and_its_file_is_the_published_layout(pictures, tmp_path):
    unet = build_unet()
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    start = ip_adapter.untrained_adapter(unet, FEATURES)
    adapter = trained(pictures, unet, tmp_path / "training", 2)
    ip_adapter.save_adapter(adapter, tmp_path / ip_adapter.WEIGHTS)
    saved = load_file(tmp_path / ip_adapter.WEIGHTS)
    assert saved.keys() == start.keys()
    assert all((saved[key] != start[key].half()).any() for key in saved)
    assert all(torch.equal(unet.state_dict()[key], value) for key, value in before.items())
    read = read_adapter(tmp_path / ip_adapter.WEIGHTS)
    assert (read.kind, read.features) == ("plain", FEATURES)
    read.check_fits(build_unet())


def test_the_stage_stands_on_packed_weights_where_the_training_has_none(tmp_path):
    packed = Workspace(tmp_path, torch.device("cpu"), earlier=HERE / "weights")
    assert packed.finished("base", "pipeline") == HERE / "weights" / "pipeline"
    packed.model("base").mkdir(parents=True)
    assert packed.finished("base", "pipeline") == packed.model("base")
    with pytest.raises(ModelInputError, match="run the stage 'clip' first"):
        Workspace(tmp_path, torch.device("cpu")).finished("clip", "clip")


def test_the_shipped_adapter_fits_the_shipped_base_model():
    adapter = read_adapter(HERE / "weights" / "ip-adapter" / ip_adapter.WEIGHTS)
    adapter.check_fits(load_whole(UNet2DConditionModel, HERE / "weights" / "pipeline" / "unet"))
    assert (HERE / "weights" / "ip-adapter" / ip_adapter.WEIGHTS).stat().st_size < 1e6
