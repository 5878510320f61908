"""Tiny copies of benchmarks, in the form in which their authors publish them; every photograph is drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

MAN = (
    "'a {0} {1} in the jungle'.format(unique_token, class_token),\n'a red {0} {1}'.format(unique_token, class_token)\n"
)
CLASSES = (
    "Classes\n\nsubject_name,class\nbackpack_dog,backpack\ndog2,dog\n\nPrompts\n\nObject Prompts\n\nprompt_list = [\n"
    + MAN
    + "]\n\nLive Subject Prompts\n\nprompt_list = [\n"
    + MAN.replace("red", "wet")
    + "]\n"
)


@pytest.fixture
def copies(tmp_path, portrait) -> Callable[[str], Path]:
    """Writes a benchmark's copy below `<tmp>/NAME`; every photograph shows another person."""
    saturated = [color for color in product((250, 20), repeat=3) if len(set(color)) > 1]
    colors = [(*color, shade) for shade in (0, 90) for color in saturated]
    drawn = 0

    def photograph(file: Path) -> None:
        nonlocal drawn
        file.parent.mkdir(parents=True, exist_ok=True)
        *color, light = colors[drawn]
        portrait(tuple(color), shade=light).save(file, quality=100, subsampling=0)
        drawn += 1

    def write(file: Path, content: Any) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))

    def multihuman(root: Path) -> None:
        faces = [f"data/faces/ffhq_{number}.jpg" for number in range(4)]
        for face in faces:
            photograph(root / face)
        items = [
            {"people": faces[:1], "prompt": "An athlete in a race. Ultra-Realistic. 8K.", "identifier": ["woman"]},
            {"people": faces[1:], "prompt": "Three athletes in a race.", "identifier": ["man", "man", "woman"]},
        ]
        write(root / "data/multihuman_metadata.json", items)

    def xverse(root: Path) -> None:
        people, things = (
            ["human/00_boy", "human/05_man", "human/01_man"],
            ["object/00_motorcycle", "animal/13_polar bear"],
        )
        for name in people + things:
            photograph(root / f"assets/XVerseBench/{name}.jpg")

        def item(index: int, prompt: str, *words: list[Any]) -> dict[str, Any]:
            inputs = [{"image_path": f"assets/XVerseBench/{word[0]}.jpg", "caption": "a"} for word in words]
            uses = [[place, word[1], word[1], *word[2:]] for place, word in enumerate(words)]
            return {"index": index, "prompt": prompt, "modulation": [{"src_inputs": inputs, "use_words": uses}]}

        boy, man, other = ([name, name.split("_")[1]] for name in people)
        cycle, bear = ([name, name.split("_")[1]] for name in things)
        write(
            root / "eval/tools/XVerseBench_multi.json",
            [
                item(0, "A polar bear near a motorcycle.", bear, cycle),
                item(1, "A man is riding a motorcycle.", man, cycle),
                item(2, "A motorcycle is behind a boy.", boy, cycle),
                item(3, "A man is standing beside another man.", man, [*other, 2]),
                item(4, "A man is standing beside another man.", other, [*man, 2]),
            ],
        )
        write(root / "eval/tools/XVerseBench_single.json", [item(0, "a polar bear on ice\n", bear)])

    def multiid(root: Path) -> None:
        photograph(root / "p1/untar/0001_1.jpg")
        photograph(root / "p1/untar/0001.jpg")
        for name in ("refs/person_1/0002_1", "refs/person_2/0002_2", "refs/person_3/0002_3", "num_3/0002"):
            photograph(root / f"p3/{name}.jpg")
        one = {"prompt": "A person in the snow.", "image_paths": ["0001_1.jpg"], "ori_img_path": "0001.jpg"}
        paths = [f"refs/person_{number}/0002_{number}.jpg" for number in (1, 2, 3)]
        write(root / "p1.json", [one])
        write(root / "p3.json", [{"prompt": "Three friends.", "image_paths": paths, "ori_img_path": "num_3/0002.jpg"}])

    def omnicontext(root: Path) -> None:
        rows = [("0001", "single_character", 1), ("0002", "multi_character", 2), ("0003", "single_object", 1)]
        lines = []
        for key, task, count in rows:
            names = [f"{key}_{number}.jpg" for number in range(count)]
            for name in names:
                photograph(root / "images" / task / name)
            row = {"key": key, "task_type": task, "instruction": f"Show {task} in a park", "input_images": names}
            lines.append({**row, "instruction_language": "en"})
        lines.append({**lines[0], "key": "0004", "instruction_language": "cn"})
        write(root / "metadata.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))

    def dreambooth(root: Path) -> None:
        write(root / "dataset/prompts_and_classes.txt", CLASSES)
        for name in ("backpack_dog", "dog2"):
            for number in range(2):
                photograph(root / f"dataset/{name}/0{number}.jpg")

    def uno(root: Path) -> None:
        dreambooth(root / "datasets/dreambooth")
        paths = ["./dreambooth/dataset/dog2/01.jpg", "./dreambooth/dataset/backpack_dog/00.jpg"]
        texts = ["a dog and a backpack in the jungle", "a backpack and a dog in the snow"]
        write(root / "datasets/dreambench_multiip.json", [{"prompt": text, "image_paths": paths} for text in texts])
        write(root / "datasets/dreambench_singleip.json", [{"prompt": "a wet dog", "image_paths": paths[:1]}])

    def dreambench_plus(root: Path) -> None:
        for category, noun in (("animal", "kitten"), ("object", "cup")):
            photograph(root / f"images/{category}/00.jpg")
            texts = [f"a {noun} in place {number}" for number in range(8)] + ["nobody there"]
            write(root / f"captions/{category}/00.txt", "\n".join([noun, *texts]))

    def customconcept101(root: Path) -> None:
        for name in ("scene_barn", "pet_cat1"):
            for number in range(2):
                photograph(root / f"benchmark_dataset/{name}/{number}.jpg")
        barn, cat = (
            {
                "class_prompt": noun,
                "instance_data_dir": f"./benchmark_dataset/{name}",
                "prompt_filename": f"prompts/{noun}.txt",
            }
            for noun, name in (("barn", "scene_barn"), ("cat", "pet_cat1"))
        )
        write(root / "prompts/barn.txt", "photo of a {}.\n{} in the snow. ")
        write(root / "prompts/cat.txt", "photo of a {}.\n")
        write(root / "prompts/scene_pet.txt", "{0} behind a {1}\n{1} in front of {0}\n{0} and {0}\n")
        write(root / "dataset.json", [barn, cat])
        write(root / "dataset_multiconcept.json", [[barn, cat, {"prompt_filename_compose": "prompts/scene_pet.txt"}]])

    def psrbench(root: Path) -> None:
        for name in ("animals/cat", "animals/dog", "subjects/cup"):
            photograph(root / f"{name}.jpg")
        item = {"input_paths": ["animals/dog.jpg", "animals/cat.jpg"]}
        for subset in ("Attribute", "Action", "Background", "Position", "Complex", "Three", "Four"):
            write(
                root / f"{subset}.json",
                [{**item, "instruction": f"a cat beside a dog, {subset}", "category1": "dog", "category2": "cat"}],
            )

    writers = {
        "multihuman": multihuman,
        "xverse": xverse,
        "multiid": multiid,
        "omnicontext": omnicontext,
        "dreambooth": dreambooth,
        "uno": uno,
        "dreambench-plus": dreambench_plus,
        "customconcept101": customconcept101,
        "psrbench": psrbench,
    }

    def copy(name: str) -> Path:
        root = tmp_path / name
        if not root.exists():
            writers[name](root)
        return root

    return copy
