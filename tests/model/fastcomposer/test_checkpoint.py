"""The published checkpoint is converted whole or refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.fastcomposer.checkpoint import VIT_L_14
from fc_bench.model.fastcomposer.convert import convert_checkpoint, main
from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline, load_fastcomposer
from fc_bench.model.fastcomposer.postfuse import PostfuseModule
from fc_bench.model.stored_weights import read_checkpoint

from ..conftest import GOLDEN

PUBLISHED = GOLDEN / "pytorch_model.bin"


@pytest.fixture
def state() -> dict[str, Tensor]:
    return torch.load(PUBLISHED, weights_only=True)


def load(file: Path) -> FastComposerPipeline:
    return load_fastcomposer(GOLDEN / "sd", file, image_encoder=GOLDEN / "clip")


def assert_same_weights(one: FastComposerPipeline, two: FastComposerPipeline) -> None:
    for part in ("text_encoder", "image_encoder", "vae", "unet", "postfuse_module"):
        first, second = getattr(one, part).state_dict(), getattr(two, part).state_dict()
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), f"{part}.{name}"


def test_conversion_keeps_every_weight(
    pipeline: FastComposerPipeline, state: dict[str, Tensor], tmp_path: Path
) -> None:
    output = convert_checkpoint(PUBLISHED, GOLDEN / "sd", tmp_path / "converted", GOLDEN / "clip")
    assert_same_weights(load_fastcomposer(GOLDEN / "sd", output), pipeline)
    assert not list(output.rglob("*.bin"))
    for name in ("unet.conv_in.weight", "postfuse_module.mlp1.fc1.weight", "image_encoder.visual_projection.weight"):
        part, _, key = name.partition(".")
        assert torch.equal(getattr(pipeline, part).state_dict()[key], state[name])


def test_a_conversion_leaves_the_whole_output_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelInputError, match=r"cannot be written .*: choose another output folder"):
        convert_checkpoint(PUBLISHED, GOLDEN / "sd", tmp_path / "file" / "converted", GOLDEN / "clip")

    def interrupted(self: FastComposerPipeline, folder: Path) -> None:
        (folder / "model_index.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(FastComposerPipeline, "save_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(PUBLISHED, GOLDEN / "sd", tmp_path / "converted", GOLDEN / "clip")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_safetensors_and_mixed_dtypes_are_read(
    pipeline: FastComposerPipeline, state: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, file)
    assert_same_weights(load(file), pipeline)
    mixed = {key: value.bfloat16() if key.startswith("vae.") else value for key, value in state.items()}
    torch.save(mixed, tmp_path / "mixed.bin")
    assert {value.dtype for value in load(tmp_path / "mixed.bin").vae.state_dict().values()} == {torch.float32}


class Malicious:
    """Pickles into a call."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_malicious_pickle_is_refused_and_not_run(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**state, "unet.conv_in.weight": Malicious()}, "evil.bin")
    with pytest.raises(ModelInputError, match="could run code") as error:
        load(tmp_path / "evil.bin")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "pwned").exists()


def without(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != "postfuse_module.layer_norm.weight"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without, r"postfuse_module: 1 weights are missing, for example layer_norm\.weight"),
        (
            lambda state: {**state, "unet.nose.weight": torch.zeros(1)},
            r"unet: 1 weights are unexpected, for example nose",
        ),
        (lambda state: {**state, "optimizer.step": torch.zeros(1)}, "belongs to none of"),
        (lambda state: {**state, "unet.conv_in.bias": torch.zeros(3)}, r"shape \(3,\) instead of \(16,\)"),
        (lambda state: {"state": dict(state)}, "belongs to none of"),
        (lambda state: {"state": {"model": dict(state)}}, "neither a dictionary of tensors"),
        (lambda _state: torch.zeros(1), "neither a dictionary of tensors"),
    ],
)
def test_unfitting_checkpoint_is_one_sentence(
    change: object, reason: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(change(state), tmp_path / "model.bin")  # type: ignore[operator]
    with pytest.raises(ModelInputError, match=reason) as error:
        load(tmp_path / "model.bin")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.bin", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", PUBLISHED.read_bytes()[:5000]])
def test_damaged_file_is_one_sentence(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelInputError, match="checkpoint") as error:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [PUBLISHED.read_bytes()[:1000], PUBLISHED.read_bytes()[:-100], b"<!DOCTYPE html>"])
def test_a_failed_download_is_not_called_a_danger(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ModelInputError, match="download it again"):
        read_checkpoint(tmp_path / "model.bin")


def test_wrong_image_encoder_is_one_sentence() -> None:
    with pytest.raises(ModelInputError, match=r"image_encoder: .* are missing"):
        load_fastcomposer(GOLDEN / "sd", PUBLISHED)


def test_command_tells_bad_input_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.bin", str(GOLDEN / "sd"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: the checkpoint nowhere.bin does not exist: check the path\n"


def test_a_folder_in_the_place_of_the_checkpoint_is_called_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), str(GOLDEN / "sd"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        f"error: the checkpoint {tmp_path} is a folder without unet, image_encoder, postfuse_module: name the .bin or "
        ".safetensors file in it, or the folder weights/ of a training\n"
    )


def test_a_conversion_prints_no_remarks_of_libraries(tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "fc_bench.model.fastcomposer.convert", PUBLISHED, GOLDEN / "sd", output]
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_VERBOSITY")}
    done = subprocess.run(
        [*map(str, command), "--image-encoder", str(GOLDEN / "clip")], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"{output}\n"), done.stderr
    assert not [remark for remark in ("[transformers]", "torchvision", "Warning") if remark in done.stderr]


def test_a_model_missing_in_the_cache_is_reported_with_the_command_that_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelInputError) as error, loading("the captioner somebody/captions"):
        raise OSError("We couldn't connect")
    assert str(error.value) == (
        "the captioner somebody/captions cannot be loaded (network access is disabled): somebody/captions is not a "
        "local folder, and the local cache does not have all of it; download it with: hf download somebody/captions"
    )
    (tmp_path / "somebody" / "captions").mkdir(parents=True)
    with pytest.raises(ModelInputError, match="folder is complete"), loading("the captioner somebody/captions"):
        raise OSError("no config.json")


def test_full_size_is_the_published_size() -> None:
    with init_empty_weights():
        models = [
            CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12)),
            CLIPVisionModelWithProjection(CLIPVisionConfig(**VIT_L_14)),
            AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
            ),
            UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8),
            PostfuseModule(features=768),
        ]
    position_ids = 2
    assert sum(len(model.state_dict()) for model in models) + position_ids == 1538
    assert len(models[-1].state_dict()) == 14
    assert sum(value.numel() for value in models[-1].state_dict().values()) == 2_958_336
    total = sum(value.numel() for model in models for value in model.state_dict().values())
    assert total == pytest.approx(1.373e9, rel=5e-4)


def test_tensors_that_are_not_dense_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    torch.save({"unet.conv_in.weight": torch.eye(3).to_sparse()}, file)
    with pytest.raises(ModelInputError, match=r"unet\.conv_in\.weight in a sparse, quantized or empty form"):
        read_checkpoint(file)
