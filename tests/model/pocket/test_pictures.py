"""Properties of the pocket world's pictures and of the dataset made of them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fc_bench.model import pocket_vocabulary as vocabulary
from fc_bench.model.errors import ModelInputError
from fc_bench.model.pocket import people
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.dataset import DatasetPlan, read_packed, read_photographs, write_dataset
from fc_bench.model.pocket.people import Person, make_person, trait_vector
from fc_bench.model.pocket.render import Picture, Scene, compose_caption, render, render_photograph, render_seed
from fc_bench.model.pocket.subjects import suite_people, write_photographs
from fc_bench.model.pocket.tokenizer import CONTEXT_LENGTH, build_tokenizer
from fc_bench.model.training.dataset import read_image, read_records, read_segmentation

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [render_seed(seed, range(500)) for seed in range(60)]


def test_a_picture_follows_from_its_seed(pictures: list[Picture]) -> None:
    again = render_seed(7, range(500))
    assert np.array_equal(again.image, pictures[7].image)
    assert np.array_equal(again.masks, pictures[7].masks)
    assert not np.array_equal(pictures[8].image, pictures[7].image)


def test_a_person_follows_from_the_seed() -> None:
    first, again, other = make_person(3), make_person(3), make_person(4)
    assert np.array_equal(trait_vector(first), trait_vector(again))
    assert np.linalg.norm(trait_vector(first) - trait_vector(other)) > 0.5


def test_nobody_is_in_two_ranges() -> None:
    ranges = [
        people.TRAINING_PEOPLE,
        people.EVALUATION_PEOPLE,
        people.RECOGNIZER_PEOPLE,
        people.HELD_OUT_RECOGNIZER_PEOPLE,
    ]
    ordered = sorted(ranges, key=lambda r: r.start)
    assert all(first.stop <= second.start for first, second in pairwise(ordered))
    assert all(person.seed in people.EVALUATION_PEOPLE for person in suite_people().values())


def test_masks_of_two_people_share_no_area(pictures: list[Picture]) -> None:
    pairs = [picture for picture in pictures if len(picture.people) == 2]
    assert len(pairs) > 10
    for picture in pairs:
        covered = picture.masks.astype(int).sum(0)
        assert covered.max() <= 256  # a pixel's quarters belong to one person each; 256 = rounding of two halves


def test_landmarks_lie_in_the_face_box_and_the_face_in_the_mask(pictures: list[Picture]) -> None:
    for picture in pictures:
        for box, landmarks, mask in zip(picture.face_boxes, picture.landmarks, picture.masks, strict=True):
            x0, y0, x1, y1 = box
            assert (landmarks[:, 0] > x0).all()
            assert (landmarks[:, 0] < x1).all()
            assert (landmarks[:, 1] > y0).all()
            assert (landmarks[:, 1] < y1).all()
            middle = mask[int((y0 + y1) / 2), int(np.clip((x0 + x1) / 2, 0, SIZE - 1))]
            assert middle > 127


def test_whoever_is_named_first_stands_left_about_as_often_as_right() -> None:
    drawn = [render_seed(seed, range(100), share_of_pairs=1.0) for seed in range(200)]
    left = np.mean([picture.face_boxes[0, 0] < picture.face_boxes[1, 0] for picture in drawn])
    assert 0.4 < left < 0.6


def test_noun_phrases_end_with_the_class_noun(pictures: list[Picture]) -> None:
    rng = np.random.default_rng(0)
    for picture in pictures:
        for most_traits in (0, 5):
            caption, spans = compose_caption(picture.people, picture.scene, rng, most_traits)
            phrases = [caption[span.start : span.end] for span in spans]
            assert [phrase.split()[-1] for phrase in phrases] == [person.noun for person in picture.people]
            assert all(phrase.startswith("a ") for phrase in phrases)


def test_traits_change_the_picture_and_pose_does_too() -> None:
    person = make_person(12)
    assert not np.array_equal(render_photograph(person, 0).image, render_photograph(person, 1).image)
    assert not np.array_equal(render_photograph(person, 0).image, render_photograph(make_person(13), 0).image)


@pytest.mark.parametrize("scene", [Scene(style=style) for style in vocabulary.STYLES], ids=lambda s: s.style)
def test_every_style_and_thing_can_be_drawn(scene: Scene) -> None:
    plain = render([make_person(1)], Scene(), np.random.default_rng(1)).image
    drawn = {render([make_person(1)], scene, np.random.default_rng(1)).image.tobytes()}
    for accessory in vocabulary.ACCESSORIES:
        drawn.add(render([make_person(1)], Scene(scene.style, accessory), np.random.default_rng(1)).image.tobytes())
    for action in vocabulary.ACTIONS:
        changed = Scene(scene.style, action=action)
        drawn.add(render([make_person(1)], changed, np.random.default_rng(1)).image.tobytes())
    for context in vocabulary.CONTEXTS:
        changed = Scene(scene.style, context=context)
        drawn.add(render([make_person(1)], changed, np.random.default_rng(1)).image.tobytes())
    expected = 1 + len(vocabulary.ACCESSORIES) + len(vocabulary.ACTIONS) + len(vocabulary.CONTEXTS)
    assert len(drawn) == expected
    assert (plain.tobytes() in drawn) == (scene.style == "photo")


def test_three_people_are_refused() -> None:
    with pytest.raises(ValueError, match="one or two people, not 3"):
        render([make_person(i) for i in range(3)], Scene(), np.random.default_rng(0))


def test_every_word_of_the_world_is_one_token() -> None:
    tokenizer = build_tokenizer()
    split = {word: tokenizer.tokenize(word) for word in vocabulary.words()}
    assert {word: tokens for word, tokens in split.items() if len(tokens) != 1} == {}


def test_no_caption_is_too_long_for_the_text_encoder(pictures: list[Picture]) -> None:
    tokenizer, rng = build_tokenizer(), np.random.default_rng(0)
    captions = [compose_caption(p.people, p.scene, rng, 4)[0] for p in pictures for _ in range(3)]
    assert max(len(tokenizer(caption).input_ids) for caption in captions) <= CONTEXT_LENGTH


def test_foreign_text_tokenizes_without_unknown_tokens() -> None:
    tokenizer = build_tokenizer()
    ids = tokenizer("ein Zèbra, 東京!").input_ids
    assert tokenizer.eos_token_id not in ids[:-1]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    plan = DatasetPlan(folder, 12, 5, 100, 0, 0.5, 3, photographs=2)
    return write_dataset(plan, workers=1)


def test_the_training_reader_reads_what_was_drawn(dataset: Path) -> None:
    records = read_records(dataset, "train")
    packed = read_packed(dataset)
    assert len(records) == packed.train_count == 9
    for index, record in enumerate(records):
        annotation = packed.annotations[index]
        assert record.caption == annotation["caption"]
        assert [int(segment.subject or -1) for segment in record.segments] == annotation["people"]
        image = read_image(record)
        assert np.array_equal(image.numpy().transpose(1, 2, 0), packed.images[index])
        segmentation = np.asarray(read_segmentation(record, (SIZE, SIZE)))
        assert set(np.unique(segmentation)) - {0} == {segment.id for segment in record.segments}


def test_every_person_has_reference_photographs(dataset: Path) -> None:
    subjects = [record.segments[0].subject for record in read_records(dataset, "references")]
    assert sorted(subjects) == sorted(str(seed) for seed in range(100, 105) for _ in range(2))


def test_packed_photographs_are_the_references(dataset: Path) -> None:
    packed = read_photographs(dataset)
    records = read_records(dataset, "references")
    assert len(records) == packed.train_count == 10
    for record, annotation, image in zip(records, packed.annotations, packed.images, strict=True):
        assert [int(record.segments[0].subject or -1)] == annotation["people"]
        assert np.array_equal(read_image(record).numpy().transpose(1, 2, 0), image)


def test_writing_a_dataset_again_changes_nothing(dataset: Path, tmp_path: Path) -> None:
    plan = DatasetPlan(tmp_path, 12, 5, 100, 0, 0.5, 3, photographs=2)
    write_dataset(plan, workers=2)
    for file in sorted(dataset.rglob("*")):
        if file.is_file():
            assert (tmp_path / file.relative_to(dataset)).read_bytes() == file.read_bytes(), file.name


def test_a_dataset_of_another_plan_is_refused(dataset: Path) -> None:
    with pytest.raises(ModelInputError, match=r"holds other pictures \(people\)"):
        write_dataset(DatasetPlan(dataset, 12, 6, 100, 0, 0.5, 3, photographs=2), workers=1)


def test_shipped_photographs_are_what_the_renderer_draws(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    shipped = REPOSITORY / "datasets" / "pocket" / "subjects"
    drawn = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.png"))
    assert drawn == sorted(file.relative_to(shipped) for file in shipped.rglob("*.png"))
    from PIL import Image

    for name in drawn:
        difference = np.asarray(Image.open(tmp_path / name), int) - np.asarray(Image.open(shipped / name), int)
        assert np.abs(difference).max() <= 2, name


def test_suite_nouns_are_those_of_the_people_drawn() -> None:
    import yaml

    suite = yaml.safe_load((REPOSITORY / "datasets" / "pocket" / "full.yaml").read_text())
    declared = {subject["id"]: subject["noun"] for subject in suite["subjects"]}
    assert declared == {name: person.noun for name, person in suite_people().items()}


def test_annotations_are_plain_json(dataset: Path) -> None:
    meta = json.loads((dataset / "00000" / "00000000.json").read_text())
    segment = meta["segments"][0]
    left, top, right, bottom = segment["bbox"]
    assert 0 <= top < bottom <= SIZE
    assert 0 <= left < right <= SIZE
    inside = np.load(dataset / "00000" / "00000000.npy") == segment["id"]
    assert inside[top, left:right].any()
    assert inside[top:bottom, right - 1].any()
    assert inside.sum() == inside[top:bottom, left:right].sum()
    assert meta["caption"][segment["start"] : segment["end"]].endswith(segment["word"])


def test_description_names_only_true_traits() -> None:
    rng = np.random.default_rng(2)
    for seed in range(40):
        person: Person = make_person(seed)
        caption = compose_caption([person], Scene(), rng, 8)[0]
        colors = [color for color in vocabulary.HAIR_COLORS if f"{color} hair" in caption]
        assert all(color == person.hair_color for color in colors)
        assert ("bald" in caption) <= (person.hair_style == "bald")
        assert ("beard" in caption) <= (person.facial_hair == "beard")
        eyes = [color for color in vocabulary.EYE_COLORS if f"{color} eyes" in caption]
        assert all(color == person.eye_color for color in eyes)
