"""PhotoMaker on the tiny Stable Diffusion XL: what decides its images, and what it refuses before any is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from fc_bench.baselines.photomaker import PhotoMaker
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Request, Sampler, Setting, Subject, fill

from ..golden.photomaker_models import id_encoder_shapes, photomaker_weights

PROMPT = "a photo of a {subject} in the snow"
STEPS = 4


@pytest.fixture(scope="module")
def content(tiny_sdxl_backbone: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The content of a `photomaker-v1.bin` for the tiny Stable Diffusion XL."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(tiny_sdxl_backbone.parent / "pipeline" / "unet")
    return photomaker_weights(unet, id_encoder_shapes(16, 24))


@pytest.fixture(scope="module")
def backbone(tiny_sdxl_backbone: Path, content: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the tiny backbone with PhotoMaker's weights."""
    folder = tmp_path_factory.mktemp("photomaker")
    torch.save(content, folder / "photomaker-v1.bin")
    data = yaml.safe_load(tiny_sdxl_backbone.read_text())
    data |= {
        "pipeline": str(tiny_sdxl_backbone.parent / "pipeline"),
        "photomaker": "photomaker-v1.bin",
        "licenses": {"photomaker": "Apache 2.0"},
        "methods": {"photomaker": {"start_merge_step": 0}},
    }
    (folder / "backbone.yaml").write_text(yaml.safe_dump(data))
    return folder / "backbone.yaml"


@pytest.fixture(scope="module")
def setting(backbone: Path) -> Setting:
    return Setting(read_backbone(str(backbone)), Sampler("euler", STEPS, 3.0, 64), "cpu", "float32")


def method(setting: Setting, **options: Any) -> PhotoMaker:
    return PhotoMaker(setting, PhotoMaker.Options(**{"start_merge_step": 0, **options}))


def requests(method: PhotoMaker, subject: Subject, *seeds: int) -> list[Request]:
    mention = method.mention(subject, 0)
    return [Request(fill(PROMPT, [mention]), fill(PROMPT, [subject.noun]), seed) for seed in seeds]


def pixels(method: PhotoMaker, subject: Subject, *seeds: int, **further: Any) -> np.ndarray:
    customized = method.customize([subject], 3, Path(), None)
    drawn = method.generate(customized, requests(method, subject, *seeds), **further)
    return np.stack([np.asarray(image, dtype=int) for image in drawn])


def test_it_runs_a_suite_of_single_subjects(fc_bench, suite, backbone, records, tmp_path):
    done = fc_bench("run", suite, "--backbone", backbone, "-m", "photomaker", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "2 subject sets are left out, because it takes at most 1 subject" in done.out
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert [sample["status"] for sample in samples] == ["ok"] * 9
    assert len({Path(tmp_path / "run" / sample["image"]).read_bytes() for sample in samples}) == 9


def test_photographs_decide_the_image_as_many_as_are_used(setting, tunable):
    bob, cid = tunable["bob"], tunable["cid"]
    drawn = {number: pixels(method(setting, photographs=number), bob, 1) for number in (1, 2, 3)}
    assert not np.array_equal(drawn[1], drawn[2])
    assert not np.array_equal(drawn[2], drawn[3])
    one = replace(bob, photographs=bob.photographs[:1])
    assert np.array_equal(drawn[1], pixels(method(setting), one, 1))
    assert np.array_equal(drawn[3], pixels(method(setting), bob, 1))  # four would be used, three are there
    assert not np.array_equal(drawn[3], pixels(method(setting), cid, 1))
    assert PhotoMaker.references(PhotoMaker.Options(photographs=2)) == 2


def test_a_merge_after_the_last_step_shows_nobody(setting, tunable):
    late = method(setting, start_merge_step=STEPS)
    assert np.array_equal(pixels(late, tunable["bob"], 1), pixels(late, tunable["cid"], 1))
    early = [pixels(method(setting, start_merge_step=step), tunable["bob"], 1) for step in (0, 1, 2)]
    assert len({each.tobytes() for each in early}) == 3


def test_the_lora_decides_the_image_even_without_a_subject(setting, content, tunable, tmp_path):
    without = {name: torch.zeros_like(value) for name, value in content["lora_weights"].items()}
    torch.save({**content, "lora_weights": without}, tmp_path / "without.bin")
    options = {"start_merge_step": STEPS}
    one = pixels(method(setting, **options), tunable["bob"], 1)
    assert not np.array_equal(
        one, pixels(method(setting, **options, weights=tmp_path / "without.bin"), tunable["bob"], 1)
    )


@pytest.mark.parametrize("scheduler", ["euler", "dpm", "pndm", "ddim"])
@pytest.mark.parametrize("step", [0, 1])
def test_subjects_share_the_steps_before_the_merge(scheduler, step, setting, tunable):
    own = method(replace(setting, sampler=replace(setting.sampler, scheduler=scheduler)), start_merge_step=step)
    count = own.text_only_iterations(PhotoMaker.Options(start_merge_step=step), setting.sampler)
    assert count == step + 1
    for name in ("bob", "cid"):
        prefix = own.prefix(requests(own, tunable[name], 1, 2), count)
        shared = pixels(own, tunable[name], 1, 2, prefix=prefix)
        assert np.array_equal(shared, pixels(own, tunable[name], 1, 2))


def test_attention_is_that_of_the_subject_and_changes_no_image(setting, tunable):
    own, bob = method(setting), tunable["bob"]
    customized = own.customize([bob], 3, Path(), None)
    ((image, maps),) = own.generate_with_attention(customized, requests(own, bob, 1))
    assert maps is not None
    assert maps.shape[0] == 1
    assert maps.sum() == pytest.approx(1, rel=1e-4)
    assert np.array_equal(np.asarray(image, dtype=int), pixels(own, bob, 1)[0])


def test_remembered_prompts_change_no_image(setting, tunable):
    plain = pixels(method(setting), tunable["bob"], 1)
    assert np.array_equal(plain, pixels(method(replace(setting, remembers_text=True)), tunable["bob"], 1))


def test_doctor_names_the_file_and_its_license(fc_bench, backbone):
    done = fc_bench("doctor", "--backbone", backbone)
    assert done.code == 0, done.err
    assert "photomaker" in done.out
    assert "Apache 2.0" in done.out


@pytest.fixture
def refused(fc_bench, suite, backbone, tmp_path):
    """The one sentence with which a run ends before it generates anything."""

    def run(*arguments: Any, backbone: Path = backbone) -> str:
        out = tmp_path / "refused"
        done = fc_bench("run", suite, "--backbone", backbone, "-m", "photomaker", "--out", out, *arguments)
        assert done.code == 2
        assert "Traceback" not in done.err
        assert not (out / "samples.jsonl").exists() or not (out / "samples.jsonl").read_text()
        return " ".join(done.err.split())

    return run


def test_another_family_is_refused(refused, tiny_backbone):
    assert "PhotoMaker works on Stable Diffusion XL alone" in refused(backbone=tiny_backbone)


def test_another_file_is_refused(refused, content, tmp_path):
    second = {"qformer_perceiver.token_proj.0.weight": torch.zeros(1)}
    wide = photomaker_weights(torch.nn.Module(), id_encoder_shapes(24, 32))["id_encoder"]
    for change, reason in (
        ({**content, "id_encoder": {**content["id_encoder"], **second}}, "PhotoMaker v2"),
        (content["lora_weights"], "a LoRA without an image encoder"),
        ({**content, "id_encoder": wide}, "text of 56 features, but the pipeline's has 40"),
    ):
        torch.save(change, tmp_path / "other.bin")
        assert reason in refused("-o", f"photomaker.weights={tmp_path / 'other.bin'}")
    assert "which do not exist" in refused("-o", f"photomaker.weights={tmp_path / 'nowhere.bin'}")


def test_a_lora_of_another_unet_is_refused(refused, setting, content, tmp_path):
    from fc_bench.model.errors import ModelInputError

    lora = content["lora_weights"]
    for change in (
        {name: torch.zeros(3, 3) for name in lora},
        {name.replace("mid_block", "up_blocks.7"): value for name, value in lora.items()},
        {name.replace("0", "1", 1) if name == next(iter(lora)) else name: lora[name] for name in lora},
    ):
        torch.save({**content, "lora_weights": change}, tmp_path / "other.bin")
        with pytest.raises(ModelInputError, match="does not fit the pipeline's UNet"):
            method(setting, weights=tmp_path / "other.bin")
        sentence = refused("-m", "text-only", "-o", f"photomaker.weights={tmp_path / 'other.bin'}")
        assert "does not fit the pipeline's UNet" in sentence


def test_a_backbone_without_its_file_says_so(refused, tiny_sdxl_backbone):
    assert "declares no PhotoMaker; add `photomaker:` to its file" in refused(backbone=tiny_sdxl_backbone)


def test_a_merge_after_which_no_step_is_left_is_refused(refused, setting):
    last = setting.sampler.steps - 1
    assert f"The option start_merge_step is {last}" in refused("-o", f"photomaker.start_merge_step={last}")


def test_a_prompt_too_long_for_a_token_of_each_photograph_is_refused(refused, suite_data, suite):
    longest = 77 - 2 - len("aphotoofaman")  # a token per letter
    suite_data["single"]["prompts"] = {"context": ["a photo of a {subject} " + "x" * (longest - len("wo"))]}
    suite.write_text(yaml.safe_dump(suite_data))
    assert "with one image token for each reference picture" in refused()
