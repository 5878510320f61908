"""IP-Adapter and its FaceID, with tiny weights in the published layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.image_processor import IPAdapterMaskProcessor
from PIL import Image
from transformers import CLIPVisionModelWithProjection

from fc_bench.baselines.ip_adapter import IPAdapter
from fc_bench.baselines.ip_adapter_faceid import IPAdapterFaceID
from fc_bench.baselines.pipeline_method import MethodOptions
from fc_bench.baselines.text_only import TextOnly
from fc_bench.builtin import DEFAULT_METHODS, default_methods
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import AskedSet, Conditions, Request, Setting, Subject
from tests.adapters import tiny_adapter, write_adapter

EMBEDDING, PATCHES, FACE = 24, 16, 48
"""Features of the tiny image encoder, of its patches, and of the tiny face pack."""
FILES = {"plain": "safetensors", "plus": "safetensors", "full": "bin", "faceid-plus": "bin"}


@pytest.fixture(scope="session")
def file(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone with adapters."""
    return _with_adapters(tiny_backbone, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="session")
def xl_file(tiny_sdxl_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone of Stable Diffusion XL with adapters."""
    return _with_adapters(tiny_sdxl_backbone, tmp_path_factory.mktemp("xl-adapters"))


def _with_adapters(backbone: Path, folder: Path) -> Path:
    """A backbone with adapters of every kind, whose names tell nothing, and an image encoder."""
    from transformers import CLIPVisionConfig

    data = yaml.safe_load(backbone.read_text())
    unet = UNet2DConditionModel.from_pretrained(backbone.parent / "pipeline" / "unet")
    torch.manual_seed(3)
    vision = CLIPVisionConfig(
        hidden_size=PATCHES,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=EMBEDDING,
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "encoder")
    adapters = {
        kind: str(write_adapter(tiny_adapter(kind, unet, _features(kind)), folder / f"{number}.{suffix}"))
        for number, (kind, suffix) in enumerate(FILES.items())
    }
    faceid = {
        kind: str(write_adapter(tiny_adapter(kind, unet, FACE), folder / f"face-{kind}.bin"))
        for kind in ("faceid", "plain")
    }
    narrow = tiny_adapter("faceid", unet, FACE - 1)
    faceid["narrow"] = str(write_adapter(narrow, folder / "face-narrow.bin"))
    adapters["faceid"] = faceid["faceid"]
    for part in ("pipeline", "clip"):
        data[part] = str(backbone.parent / data[part])
    data["faces"]["pack"] = str(backbone.parent / data["faces"]["pack"])
    data.pop("fastcomposer", None)
    data["ip_adapter"] = {"default": "plain", "image_encoder": "encoder", "variants": adapters}
    data["ip_adapter_faceid"] = {"default": "faceid", "variants": faceid}
    (folder / "backbone.yaml").write_text(yaml.safe_dump(data))
    return folder / "backbone.yaml"


def _features(kind: str) -> int:
    return {"plain": EMBEDDING, "faceid-plus": FACE}.get(kind, PATCHES)


@pytest.fixture
def within(setting: Setting, file: Path) -> Setting:
    """The tiny setting with the adapters' backbone."""
    return replace(setting, backbone=read_backbone(str(file)))


@pytest.fixture
def within_xl(setting: Setting, xl_file: Path) -> Setting:
    """The tiny setting with the adapters' backbone of Stable Diffusion XL."""
    return replace(setting, backbone=read_backbone(str(xl_file)))


@pytest.fixture
def method(within: Setting) -> Callable[..., Any]:
    """IP-Adapter, or its FaceID, with these options."""

    def made(kind: Any = IPAdapter, setting: Setting = within, **options: Any) -> Any:
        return kind(setting, kind.Options(**options))

    return made


@pytest.fixture
def draw(images_of, tmp_path) -> Callable[..., np.ndarray]:
    """Images of a method for subjects."""

    def drawn(method: Any, subjects: Sequence[Subject], **how: Any) -> np.ndarray:
        return images_of(method, method.customize(subjects, 0, tmp_path, None), **how)

    return drawn


def stock(pipeline: Any, encoder: Path | None, adapter: Path) -> Any:
    """The pipeline with the adapter as a user of diffusers loads both."""
    if encoder is not None:
        pipeline.register_modules(image_encoder=CLIPVisionModelWithProjection.from_pretrained(encoder))
    name = None if encoder is None else "unused"
    pipeline.load_ip_adapter(str(adapter.parent), subfolder="", weight_name=adapter.name, image_encoder_folder=name)
    pipeline.set_ip_adapter_scale(0.6)
    return pipeline


def stock_images(
    within: Setting,
    scheduler: Any,
    encoder: Path | None,
    adapter: Path,
    prompt: str = "a photo of a man",
    **inputs: Any,
) -> np.ndarray:
    """An image by the pipeline and the adapter as a user of diffusers loads both, [1, height, width, 3]."""
    pipeline = DiffusionPipeline.from_pretrained(within.backbone.path("pipeline"))
    pipeline.scheduler = type(scheduler).from_config(scheduler.config)
    sampler = within.sampler
    found = stock(pipeline, encoder, adapter)(
        prompt,
        num_inference_steps=sampler.steps,
        guidance_scale=sampler.guidance_scale,
        height=64,
        width=64,
        generator=torch.Generator("cpu").manual_seed(5),
        **inputs,
    ).images
    return np.stack([np.asarray(image) for image in found]).astype(np.int16)


@pytest.fixture(params=["sd1", "sdxl"])
def within_each(request: pytest.FixtureRequest) -> Setting:
    """The tiny setting with the adapters' backbone of each family."""
    return request.getfixturevalue("within" if request.param == "sd1" else "within_xl")


@pytest.mark.parametrize("kind", ["plain", "plus", "full"])
def test_each_kind_is_what_diffusers_makes_of_the_photograph(kind, method, draw, within_each, tunable):
    backbone = within_each.backbone
    ours = method(setting=within_each, adapter=kind)
    adapter, encoder = Path(backbone.ip_adapter.variants[kind]), backbone.path("ip_adapter_encoder")
    photograph = Image.open(tunable["bob"].photographs[0])
    expected = stock_images(within_each, ours.pipeline.scheduler, encoder, adapter, ip_adapter_image=photograph)
    assert np.abs(draw(ours, [tunable["bob"]]) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_two_are_what_diffusers_makes_of_photographs_and_masks(kind, method, draw, within_each, tunable):
    pair, backbone = [tunable["ann"], tunable["bob"]], within_each.backbone
    halves = [Image.new("L", (64, 64)) for _ in pair]
    for place, half in enumerate(halves):
        half.paste(255, (32 * place, 0, 32 * place + 32, 64))
    masks = IPAdapterMaskProcessor().preprocess(halves, height=64, width=64)
    ours = method(setting=within_each, adapter=kind)
    expected = stock_images(
        within_each,
        ours.pipeline.scheduler,
        backbone.path("ip_adapter_encoder"),
        Path(backbone.ip_adapter.variants[kind]),
        "a photo of a woman and a man",
        ip_adapter_image=[[Image.open(subject.photographs[0]) for subject in pair]],
        cross_attention_kwargs={"ip_adapter_masks": [masks.reshape(1, 2, 64, 64)]},
    )
    assert np.abs(draw(ours, pair) - expected).max() <= 1


def test_faceid_is_what_diffusers_makes_of_the_face_and_its_lora(method, draw, within_each, tunable):
    from insightface.app import FaceAnalysis

    backbone = within_each.backbone
    pack = FaceAnalysis(name=str(backbone.path("faces")), providers=["CPUExecutionProvider"])
    pack.prepare(ctx_id=-1, det_size=(128, 128), det_thresh=0.4)
    (face,) = pack.get(np.asarray(Image.open(tunable["bob"].photographs[0]))[..., ::-1].copy())
    embedding = torch.from_numpy(face.normed_embedding)[None, None]
    given = {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(embedding), embedding])]}
    ours = method(IPAdapterFaceID, within_each)
    adapter = Path(backbone.ip_adapter_faceid.variants["faceid"])
    expected = stock_images(within_each, ours.pipeline.scheduler, None, adapter, **given)
    assert np.abs(draw(ours, [tunable["bob"]]) - expected).max() <= 1
    assert ours.pipeline.unet.peft_config.keys() == {"faceid_0"}


@pytest.mark.parametrize("kind", [IPAdapter, IPAdapterFaceID])
def test_an_adapter_of_one_family_is_refused_on_the_other(kind, within, within_xl):
    for one, other in ((within, within_xl), (within_xl, within)):
        own: Any = one.backbone.ip_adapter if kind is IPAdapter else one.backbone.ip_adapter_faceid
        file = own.variants[own.default]
        told = "cross-attention layers over .* text features, but that of the pipeline has"
        with pytest.raises(ModelInputError, match=told):
            check(kind, other, adapter=file)
        with pytest.raises(ModelInputError, match=told):
            kind(other, kind.Options(adapter=file))
        check(kind, one)


def test_without_weight_the_adapter_is_the_base_model(method, draw, within, tunable):
    plain = draw(TextOnly(within, MethodOptions()), [tunable["bob"]], seeds=(5, 6))
    assert (draw(method(scale=0), [tunable["bob"]], seeds=(5, 6)) == plain).all()
    assert (draw(method(), [tunable["bob"]], seeds=(5, 6)) != plain).any()


@pytest.mark.parametrize("kind", [IPAdapter, IPAdapterFaceID])
def test_each_of_two_has_its_half_from_left_to_right(kind, method, draw, tunable):
    ann, bob, cid = (tunable[name] for name in ("ann", "bob", "cid"))
    made = method(kind, scale=1)
    whole = [draw(made, pair)[0] for pair in ([ann, bob], [ann, cid], [cid, bob])]
    halves = slice(0, 32), slice(32, 64)
    moved = [
        [np.abs(other[:, half] - whole[0][:, half]).mean() for half in halves] for other in whole[1:]
    ]  # another person on the right, on the left
    assert moved[0][1] > moved[0][0]
    assert moved[1][0] > moved[1][1]


@pytest.mark.parametrize("kind", [IPAdapter, IPAdapterFaceID])
@pytest.mark.parametrize("names", [("bob",), ("ann", "bob")])
def test_an_image_is_the_same_alone_and_in_a_batch(kind, names, method, draw, tunable):
    made, subjects = method(kind), [tunable[name] for name in names]
    together = draw(made, subjects, seeds=(5, 6, 7))
    for seed, image in zip((5, 6, 7), together, strict=True):
        assert np.abs(draw(made, subjects, seeds=(seed,))[0] - image).max() <= 1


def test_a_batch_of_the_harness_holds_one_subject_set(fc_bench, file, suite, tmp_path, monkeypatch, records):
    batches = []
    generate = IPAdapter.generate

    def watched(self, customization, requests):
        batches.append(([subject.id for subject in customization.subjects], len(requests)))
        yield from generate(self, customization, requests)

    monkeypatch.setattr(IPAdapter, "generate", watched)
    done = fc_bench(
        "run", suite, "--backbone", file, "-m", "ip-adapter", "--batch-size", "8", "--out", tmp_path / "run"
    )
    assert done.code == 0, done.err
    assert [sample["status"] for sample in records(tmp_path / "run" / "samples.jsonl")] == ["ok"] * 11
    assert sorted(batches) == sorted(
        [(["ann"], 3), (["bob"], 3), (["cid"], 3), (["ann", "bob"], 1), (["bob", "cid"], 1)]
    )


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (72, 104)])
@pytest.mark.parametrize("names", [("bob",), ("ann", "bob")])
@pytest.mark.filterwarnings("error::UserWarning")
def test_other_sizes_are_drawn_with_masks_of_their_shape(size, names, method, tunable, tmp_path):
    made = method()
    customization = made.customize([tunable[name] for name in names], 0, tmp_path, None)
    request = Request("a photo", "a photo", 5, Conditions(negative_prompt="a dog", size=size))
    (image,) = made.generate(customization, [request])
    assert image.size == size


@pytest.mark.parametrize("kind", [IPAdapter, IPAdapterFaceID])
def test_text_that_is_remembered_and_no_guidance_change_nothing_else(kind, method, draw, within, tunable):
    bob = [tunable["bob"]]
    plain = draw(method(kind), bob)
    assert np.abs(draw(method(kind, replace(within, remembers_text=True)), bob) - plain).max() <= 1
    unguided = replace(within, sampler=replace(within.sampler, guidance_scale=1.0))
    assert (draw(method(kind, unguided), bob) != plain).any()


def test_a_prompt_that_the_text_encoder_would_cut_is_refused(method, draw, tunable):
    with pytest.raises(UserError, match="the text encoder reads at most 77"):
        draw(method(), [tunable["bob"]], template="a {subject} " + "very " * 90)


def check(kind: Any, setting: Setting, subjects: Sequence[Subject] = (), **options: Any) -> None:
    kind.check(setting, kind.Options(**options), [AskedSet(tuple(subjects), lambda mentions: [])])


@pytest.mark.parametrize(
    ("kind", "adapter", "told"),
    [
        (IPAdapter, "faceid", "run it as the method ip-adapter-faceid"),
        (IPAdapter, "faceid-plus", "a face and patches together"),
        (IPAdapterFaceID, "plain", "run it as the method ip-adapter"),
    ],
)
def test_an_adapter_of_another_kind_is_refused_whatever_its_name(kind, adapter, told, within):
    with pytest.raises(UserError, match=told):
        check(kind, within, adapter=adapter)


def test_an_adapter_of_another_family_is_refused_before_anything_is_generated(within, file, fc_bench, suite, tmp_path):
    other = UNet2DConditionModel(
        block_out_channels=(8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    adapter = write_adapter(tiny_adapter("plain", other, EMBEDDING), tmp_path / "other.safetensors")
    data = yaml.safe_load(file.read_text())
    data["ip_adapter"] |= {
        "image_encoder": str(file.parent / "encoder"),
        "default": "o",
        "variants": {"o": str(adapter)},
    }
    backbone = tmp_path / "backbone.yaml"
    backbone.write_text(yaml.safe_dump(data))
    told = "is for a UNet with 7 cross-attention layers over 32 text features, but that of the pipeline has 4 over 16"
    with pytest.raises(ModelInputError, match=told):
        IPAdapter(replace(within, backbone=read_backbone(str(backbone))), IPAdapter.Options())
    done = fc_bench("run", suite, "--backbone", backbone, "-m", "ip-adapter", "--out", tmp_path / "run")
    assert done.code == 2
    assert told in done.err.replace("\n", " ")
    assert not (tmp_path / "run" / "samples.jsonl").exists()


def test_an_image_encoder_and_a_face_pack_of_other_sizes_are_refused(within, file, tmp_path, tunable):
    data = yaml.safe_load(file.read_text())
    del data["ip_adapter"]["image_encoder"]
    (tmp_path / "backbone.yaml").write_text(yaml.safe_dump(data))
    other = replace(within, backbone=read_backbone(str(tmp_path / "backbone.yaml")))
    with pytest.raises(UserError, match=r"takes 24 features of an image, but the image encoder .* gives 16"):
        check(IPAdapter, other)
    with pytest.raises(UserError, match=r"takes 47 numbers of a face, but the face pack .* gives 48"):
        check(IPAdapterFaceID, within, [tunable["bob"]], adapter="narrow")
    check(IPAdapter, within)
    check(IPAdapterFaceID, within, [tunable["bob"]])


def test_a_photograph_without_a_face_is_refused_by_faceid_alone(within, tmp_path):
    empty = tmp_path / "empty.png"
    Image.new("RGB", (128, 128)).save(empty)
    nobody = Subject("nobody", "man", (empty,))
    with pytest.raises(UserError, match=r'No face is found in .*, the reference photograph of "nobody"'):
        check(IPAdapterFaceID, within, [nobody])
    check(IPAdapter, within, [nobody])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"unet": torch.zeros(2)}, "does not hold an image projection"),
        ({"image_proj": {"proj.weight": torch.zeros(2, 2)}, "ip_adapter": {}}, "does not hold an image projection"),
        ([1, 2], "is neither a dictionary of tensors nor one of parts"),
    ],
)
def test_a_file_that_is_no_adapter_is_refused_in_a_sentence(content, told, tmp_path):
    from fc_bench.model.ip_adapter import read_adapter

    torch.save(content, tmp_path / "adapter.bin")
    with pytest.raises(ModelInputError, match=told):
        read_adapter(tmp_path / "adapter.bin")


def test_an_adapter_in_a_file_of_the_user_gives_the_same_images(method, draw, file, within, tunable):
    adapter, encoder = Path(within.backbone.ip_adapter.variants["plus"]), file.parent / "encoder"
    own = method(adapter=str(adapter), image_encoder=encoder)
    assert (draw(own, [tunable["bob"]]) == draw(method(adapter="plus"), [tunable["bob"]])).all()


@pytest.mark.parametrize("option", ["adapter", "image_encoder"])
def test_weights_of_an_option_that_do_not_exist_are_refused(option, fc_bench, suite, file, tmp_path):
    given = f"ip-adapter.{option}={tmp_path}/nowhere.bin"
    done = fc_bench("run", suite, "--backbone", file, "-m", "ip-adapter", "-o", given, "--out", tmp_path / "run")
    assert done.code == 2
    assert f'The option "{option}" names the weights' in done.err


def test_a_backbone_without_adapters_says_so(fc_bench, suite, tiny_backbone, tmp_path):
    for name, what in (("ip-adapter", "IP-Adapter"), ("ip-adapter-faceid", "IP-Adapter FaceID")):
        done = fc_bench("run", suite, "--backbone", tiny_backbone, "-m", name, "--out", tmp_path / "run")
        assert done.code == 2
        assert f"declares no {what}; add one to its file" in done.err.replace("\n", " ")


def test_a_run_that_names_no_method_has_those_that_the_backbone_has_weights_for(tiny_backbone, tiny_sdxl_backbone):
    for backbone, missing in (
        ("pocket", {"photomaker"}),
        ("sdxl", {"fastcomposer"}),
        (tiny_backbone, {"photomaker", "ip-adapter"}),
        (tiny_sdxl_backbone, {"fastcomposer", "photomaker", "ip-adapter"}),
    ):
        methods = default_methods(read_backbone(str(backbone)))
        assert set(DEFAULT_METHODS) - set(methods) == missing


def test_doctor_lists_adapters_and_encoder_with_their_licenses(fc_bench, file):
    done = fc_bench("doctor", "--backbone", file)
    assert done.code == 0, done.err
    for component in ("ip_adapter/plain", "ip_adapter_encoder", "ip_adapter_faceid/faceid"):
        assert component in done.out


def test_remarks_name_the_layout_of_pairs_and_what_scores_faceid():
    options = IPAdapter.Options()
    assert IPAdapter.remark(options, 1) is None
    assert "half of the image" in str(IPAdapter.remark(options, 2))
    assert "recognizer that scores identity" in str(IPAdapterFaceID.remark(options, 1))
    assert "half of the image" in str(IPAdapterFaceID.remark(options, 2))
