"""PhotoMaker's file: its two forms give the same parts, and every other file is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.photomaker import read_photomaker

FEATURES, WIDTH = (24, 32), 64


@pytest.fixture
def content() -> dict[str, dict[str, Tensor]]:
    """The content of a tiny `photomaker-v1.bin`, made of our own modules."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from fc_bench.model.fastcomposer.postfuse import PostfuseModule

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        image_size=28,
        patch_size=14,
        projection_dim=sum(FEATURES),
    )
    encoder = dict(CLIPVisionModelWithProjection(config).state_dict())
    first, second = encoder.pop("visual_projection.weight").split(FEATURES)
    fuse = PostfuseModule(features=sum(FEATURES)).state_dict()
    encoder |= {"visual_projection.weight": first, "visual_projection_2.weight": second}
    encoder |= {f"fuse_module.{name}": value for name, value in fuse.items()}
    encoder["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    return {"id_encoder": encoder, "lora_weights": {"unet.mid_block.to_q_lora.down.weight": torch.ones(2, 3)}}


def flat(content: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{part}.{name}": value.clone() for part, own in content.items() for name, value in own.items()}


def test_nested_and_flat_file_give_the_same_parts(content: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "photomaker-v1.bin")
    save_file(flat(content), tmp_path / "photomaker-v1.safetensors")
    one, other = (read_photomaker(tmp_path / f"photomaker-v1.{suffix}") for suffix in ("bin", "safetensors"))
    for part in ("image_encoder", "postfuse_module"):
        first, second = (getattr(each, part).state_dict() for each in (one, other))
        assert all(torch.equal(value, second[name]) for name, value in first.items())
    projection = one.image_encoder.visual_projection.weight
    assert torch.equal(projection[: FEATURES[0]], content["id_encoder"]["visual_projection.weight"])
    assert torch.equal(projection[FEATURES[0] :], content["id_encoder"]["visual_projection_2.weight"])
    assert one.lora.keys() == other.lora.keys() == content["lora_weights"].keys()


def test_number_format_is_that_of_the_call(content: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "photomaker-v1.bin")
    read = read_photomaker(tmp_path / "photomaker-v1.bin", torch.bfloat16)
    assert read.image_encoder.dtype == read.postfuse_module.dtype == torch.bfloat16


def without(part: str, name: str) -> Any:
    return lambda content: {**content, part: {key: own for key, own in content[part].items() if key != name}}


def also(part: str, name: str) -> Any:
    return lambda content: {**content, part: {**content[part], name: torch.zeros(2, 2)}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (also("id_encoder", "qformer_perceiver.token_proj.0.weight"), "those of PhotoMaker v2"),
        (lambda _: {"unet.conv_in.weight": torch.zeros(1), "postfuse_module.x": torch.zeros(1)}, "a FastComposer ch"),
        (lambda content: content["lora_weights"], "a LoRA without an image encoder"),
        (lambda _: {"unet.mid_block.to_q.lora_A.weight": torch.zeros(1)}, "a LoRA without an image encoder"),
        (lambda content: {"id_encoder": content["id_encoder"]}, "without the LoRA"),
        (lambda _: {"state_dict": {"weight": torch.zeros(1)}}, "not in PhotoMaker's layout"),
        (lambda _: {}, "without a usable visual_projection"),
        (without("id_encoder", "visual_projection_2.weight"), r"without a usable visual_projection_2"),
        (without("id_encoder", "fuse_module.layer_norm.bias"), r"1 weights are missing, for example layer_norm.bias"),
        (also("id_encoder", "fuse_module.nose"), "unexpected, for example nose"),
        (also("id_encoder", "vision_model.embeddings.patch_embedding.weight"), "without a usable vision_model"),
        (also("id_encoder", "visual_projection.weight"), "the projections do not fit"),
        (also("lora_weights", "text_encoder.to_q.lora_A.weight"), "something other than the UNet"),
        (lambda _: torch.zeros(1), "neither a dictionary of tensors"),
        (lambda content: {"state": content}, "neither a dictionary of tensors"),
    ],
)
def test_another_file_is_refused_in_one_sentence(
    change: Any, reason: str, content: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    file = tmp_path / "photomaker-v1.bin"
    torch.save(change(content), file)
    with pytest.raises(ModelInputError, match=reason) as error:
        read_photomaker(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
