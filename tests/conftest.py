"""A tiny world for the harness's tests: a backbone of random weights, a face pack with known behavior, a suite.

The face pack consists of real ONNX files that insightface loads. Its detector finds a face below every white 8 x 8
cell of the 128-pixel grid; its recognizer's embedding is the color of 4 x 4 patches of the aligned crop.
"""

from __future__ import annotations

import gc
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")

PEOPLE = {"ann": ("woman", (250, 20, 20)), "bob": ("man", (20, 250, 20)), "cid": ("man", (20, 20, 250))}
PLUGIN = Path(__file__).parent / "plugin_package"


def draw_person(color: tuple[int, int, int], shade: int = 0) -> Image.Image:
    """A 128 x 128 photograph of somebody with that color; the detector of the tiny face pack finds one face."""
    pixels = np.full((128, 128, 3), 120, dtype=np.uint8)
    pixels[32:80, 36:84] = np.clip(np.array(color) - shade, 0, 250)
    pixels[60:70, 50:70] = 60
    pixels[32:40, 56:64] = 255
    return Image.fromarray(pixels)


@pytest.fixture(scope="session", autouse=True)
def frozen_libraries() -> None:
    """Leaves the libraries' own objects out of garbage collection, which runs whenever a method is released."""
    import transformers.models.clip.modeling_clip  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def dlib_backbone(tmp_path_factory: pytest.TempPathFactory):
    """The backbone pocket with dlib's face models; skips where the extra is not installed."""
    from fc_bench.model.backbones.backbone import DLIB_EXTRA, read_backbone

    file = tmp_path_factory.mktemp("dlib") / "backbone.yaml"
    file.write_text("name: real\ndescription: dlib's faces\nextends: pocket\nfaces: {name: dlib, kind: dlib}\n")
    backbone = read_backbone(str(file))
    if backbone.missing_files("faces"):
        pytest.skip(f"the face models of the extra dlib are not installed: {DLIB_EXTRA}")
    return backbone


@pytest.fixture(scope="session")
def real_people() -> dict[str, Image.Image]:
    """Photographs of real people that scikit-image and matplotlib ship, both in the public domain."""
    from matplotlib.cbook import get_sample_data
    from skimage.data import astronaut

    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return {"astronaut": Image.fromarray(astronaut()), "hopper": image.convert("RGB")}


@dataclass(frozen=True)
class Finished:
    """A command that has ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YAML file of a backbone with random weights at 64 pixels."""
    folder = tmp_path_factory.mktemp("backbone")
    _save_pipeline(folder / "pipeline")
    _save_clip(folder / "clip", folder / "pipeline" / "tokenizer")
    _save_face_pack(folder / "faces")
    _save_fastcomposer(folder / "fastcomposer", folder / "pipeline" / "unet")
    data = {
        "name": "tiny",
        "description": "random weights",
        "pipeline": "pipeline",
        "fastcomposer": {"default": "random", "variants": {"random": "fastcomposer"}},
        "clip": "clip",
        "faces": {"name": "tiny-faces", "pack": "faces", "det_size": [128, 128], "det_thresh": 0.4},
        "resolution": 64,
        "sampler": {"scheduler": "ddim", "steps": 2, "guidance_scale": 2.0},
        "how_to_get": "Build it again",
    }
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.fixture(scope="session")
def tiny_sdxl_backbone(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YAML file of the tiny backbone with a pipeline of Stable Diffusion XL, and without FastComposer."""
    folder = tmp_path_factory.mktemp("sdxl-backbone")
    _save_xl_pipeline(folder / "pipeline")
    data = yaml.safe_load(tiny_backbone.read_text())
    del data["fastcomposer"]
    data |= {"name": "tiny-sdxl", "clip": str(tiny_backbone.parent / "clip")}
    data["faces"]["pack"] = str(tiny_backbone.parent / "faces")
    file = folder / "tiny-sdxl.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.fixture
def suite_data() -> dict[str, Any]:
    """A suite's content: three people alone with three prompts, two pairs with one."""
    return {
        "name": "trio",
        "version": "1",
        "description": "three people",
        "license": "MIT",
        "source": "drawn by the tests",
        "seed": 7,
        "photographs": {"pattern": "people/{id}-{n}.png", "count": 2},
        "subjects": [{"id": name, "noun": noun} for name, (noun, _) in PEOPLE.items()],
        "single": {
            "prompts": {
                "context": ["a photo of a {subject} in the snow", "a photo of a {subject} on the beach"],
                "style": ["a sketch of a {subject}"],
            }
        },
        "multi": {"subjects": [["ann", "bob"], ["bob", "cid"]], "prompts": {"context": ["a photo of {subjects}"]}},
    }


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Writes a suite and its people's photographs; returns the YAML file."""

    def write(data: dict[str, Any]) -> Path:
        folder = tmp_path / "suite"
        (folder / "people").mkdir(parents=True, exist_ok=True)
        for name, (_, color) in PEOPLE.items():
            for number in (1, 2):
                draw_person(color, shade=10 * (number - 1)).save(folder / "people" / f"{name}-{number}.png")
        file = folder / "suite.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False))
        return file

    return write


@pytest.fixture
def suite(write_suite: Callable[[dict[str, Any]], Path], suite_data: dict[str, Any]) -> Path:
    """YAML file of the suite as in `suite_data`."""
    return write_suite(suite_data)


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in package, built and installed by pip into a folder of its own."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    target = tmp_path_factory.mktemp("installed")
    parts = (".py", ".toml", ".yaml")
    files = {path.relative_to(PLUGIN): path.read_bytes() for path in PLUGIN.rglob("*") if path.suffix in parts}
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(target), str(source)], check=True, capture_output=True)
    return target


@pytest.fixture
def plugin(plugin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plug-in is installed, for this process."""
    monkeypatch.syspath_prepend(str(plugin_folder))
    return plugin_folder


@pytest.fixture
def fc_bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """Runs the command line in this process, as the console script does."""

    def invoke(*arguments: object) -> Finished:
        from fc_bench.cli import main

        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["fc-bench", *map(str, arguments)])
        code = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Finished(code, out.getvalue(), err.getvalue())

    return invoke


def records(file: Path) -> list[dict[str, Any]]:
    """All records of a JSON-lines file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(name="records")
def records_fixture() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads a JSON-lines file."""
    return records


@pytest.fixture
def people() -> dict[str, tuple[str, tuple[int, int, int]]]:
    """Id -> (noun, color) of the tiny world's people."""
    return PEOPLE


@pytest.fixture
def portrait() -> Callable[..., Image.Image]:
    """Draws a person."""
    return draw_person


def _save_pipeline(folder: Path) -> None:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=4,
            sample_size=64,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=4,
            norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def _save_fastcomposer(folder: Path, unet: Path) -> None:
    """The trained parts alone: the base's UNet, a random vision tower, a random post-fuse module."""
    import shutil

    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from fc_bench.model.fastcomposer.postfuse import PostfuseModule

    torch.manual_seed(2)
    shutil.copytree(unet, folder / "unet")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    PostfuseModule(features=16).save_pretrained(folder / "postfuse_module")


def _save_xl_pipeline(folder: Path) -> None:
    """Stable Diffusion XL with three levels, so that it has all five groups of cross-attention and both map sizes.

    As in the published files, the second tokenizer pads with `!`, and `eos_token_id` is not the tokenizer's.
    """
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(3)
    tokenizers = _tokenizer(), _tokenizer(pad_token="!")
    shape = {
        "vocab_size": len(tokenizers[0]),
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=4,
            sample_size=64,
            scaling_factor=0.13025,
            force_upcast=True,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(**shape, hidden_size=16)),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**shape, hidden_size=24, projection_dim=20)),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, 2, 3],
            cross_attention_dim=40,
            attention_head_dim=[1, 2, 2],
            use_linear_projection=True,
            norm_num_groups=4,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6 * 8,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    ).save_pretrained(folder)


def _tokenizer(**special: str) -> Any:
    """One token per character: CLIP's byte alphabet without merges."""
    from transformers import CLIPTokenizer

    printable = [chr(code) for code in range(33, 127)]
    tokens = [*printable, *(f"{token}</w>" for token in printable), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, **special)


def _save_clip(folder: Path, tokenizer: Path) -> None:
    import shutil

    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(1)
    ids = _tokenizer()
    shutil.copytree(tokenizer, folder)
    text = {
        "vocab_size": len(ids),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": ids.bos_token_id,
        "eos_token_id": ids.eos_token_id,
        "pad_token_id": ids.pad_token_id,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 16,
    }
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)


def _save_face_pack(folder: Path) -> None:
    folder.mkdir()
    _save_detector(folder / "det.onnx")
    _save_recognizer(folder / "rec.onnx")


def _save_detector(file: Path) -> None:
    """SCRFD's nine outputs: scores, boxes, landmarks at strides 8, 16, 32, two anchors a cell; only stride 8 speaks."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: np.ndarray) -> Any:
        return numpy_helper.from_array(value, name)

    cells = {8: 256, 16: 64, 32: 16}
    box = np.array([2.5, 0.0, 3.5, 6.0], dtype=np.float32)
    points = np.array([-1.2, 2.0, 2.2, 2.0, 0.5, 3.3, -0.9, 4.5, 1.9, 4.5], dtype=np.float32)
    weights = [
        constant("shape", np.array([256, 1], dtype=np.int64)),
        constant("flat", np.array([512, 1], dtype=np.int64)),
        constant("threshold", np.array(0.9, dtype=np.float32)),
        constant("gain", np.array(10.0, dtype=np.float32)),
        constant("low", np.array(0.0, dtype=np.float32)),
        constant("silent", np.zeros((256, 1), dtype=np.float32)),
        constant("axis", np.array([1], dtype=np.int64)),
    ]
    nodes = [
        helper.make_node("ReduceMin", ["image", "axis"], ["grey"], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["pooled", "shape"], ["bright"]),
        helper.make_node("Sub", ["bright", "threshold"], ["above"]),
        helper.make_node("Mul", ["above", "gain"], ["scaled"]),
        helper.make_node("Max", ["scaled", "low"], ["loud"]),
        helper.make_node("Concat", ["loud", "silent"], ["pairs"], axis=1),
        helper.make_node("Reshape", ["pairs", "flat"], ["score_8"]),
    ]
    outputs = []
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride, count in cells.items():
            name = f"{kind}_{stride}"
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [2 * count, width]))
            if name == "score_8":
                continue
            row = {"score": np.zeros(1, np.float32), "bbox": box, "kps": points}[kind]
            weights.append(constant(f"{name}_value", np.tile(row, (2 * count, 1))))
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 128, 128])
    graph = helper.make_graph(nodes, "detector", [image], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)


def _save_recognizer(file: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("AveragePool", ["crop"], ["pooled"], kernel_shape=[28, 28], strides=[28, 28]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    crop = helper.make_tensor_value_info("crop", TensorProto.FLOAT, [1, 3, 112, 112])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 48])
    graph = helper.make_graph(nodes, "recognizer", [crop], [embedding])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
