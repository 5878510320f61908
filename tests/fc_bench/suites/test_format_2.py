"""Format 2 of suites: sets with prompts of their own, slots, references, attributes, and what a prompt asks beside."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import Conditions, fill
from fc_bench.registry import suite_file
from fc_bench.suites.suite import read_suite
from fc_bench.suites.suite_file import SuiteFile


@pytest.fixture
def second(suite_data):
    """Format 2: one pair with two prompts of its own."""
    del suite_data["single"], suite_data["multi"]
    suite_data |= {
        "format": 2,
        "sets": [{"subjects": ["ann", "bob"], "prompts": {"context": ["a photo of a {1} beside a {bob} in the snow"]}}],
    }
    return suite_data


def prompts_of(file):
    return {subject_set.key: prompts for subject_set, prompts in read_suite(file).subject_sets()}


def refusal(data, write_suite) -> str:
    with pytest.raises(ModelInputError) as error:
        read_suite(write_suite(data))
    return str(error.value)


def test_slots_are_numbers_or_ids_and_are_recorded_as_numbers(second, write_suite):
    (prompt,) = prompts_of(write_suite(second))["ann+bob"]
    assert prompt.template == "a photo of a {1} beside a {2} in the snow"
    assert fill(prompt.template, ["old woman", "man"]) == "a photo of an old woman beside a man in the snow"


def test_a_subject_whose_id_is_a_number_does_not_take_the_slot_of_another(second, write_suite):
    from fc_bench.suites.templates import template_of_set

    assert template_of_set("a {1} and a {2}", ["2", "1"]) == "a {1} and a {2}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a {2} and a {1}", "names subject 2 first"),
        ("a {1}", "has 1 slots for a set of 2"),
        ("a {1} and a {1}", "write {1} {2}, each once"),
        ("a {1} and a {eva}", "names {eva}, which is not in the set, known: 1, 2, ann, bob"),
        ("a {1} and a {2", "a brace without its pair"),
        ("a <|image|> and a {2}", "holds <|image|>"),
        ("{subjects} and {1}", "has the placeholder {1}"),
    ],
)
def test_slots_that_methods_would_misread_are_refused_with_what_to_write(text, what, second, write_suite):
    second["sets"][0]["prompts"]["context"] = [text]
    message = refusal(second, write_suite)
    assert what in message
    assert "suite.yaml:" in message


@pytest.mark.parametrize("number", range(1, 9))
def test_sets_have_one_to_eight_subjects(number, second, write_suite):
    people = [f"p{place}" for place in range(number)]
    second["subjects"] = [{"id": name, "noun": "man", "photographs": ["people/ann-1.png"]} for name in people]
    slots = " and ".join(f"a {{{place}}}" for place in range(1, number + 1))
    second["sets"] = [{"subjects": people, "prompts": {"context": [slots]}}]
    ((subject_set, (prompt,)),) = read_suite(write_suite(second)).subject_sets()
    assert len(subject_set.subjects) == number
    assert fill(prompt.template, ["man"] * number) == " and ".join(["a man"] * number)


def test_a_ninth_subject_is_refused(second, write_suite):
    second["subjects"] = [{"id": f"p{n}", "noun": "man", "photographs": ["people/ann-1.png"]} for n in range(9)]
    second["sets"] = [{"subjects": [f"p{n}" for n in range(9)], "prompts": {"context": ["nine people"]}}]
    assert "8 items" in refusal(second, write_suite)


def test_a_text_without_a_slot_names_nobody(second, write_suite):
    second["sets"][0]["prompts"]["context"] = ["two people in the park"]
    (prompt,) = prompts_of(write_suite(second))["ann+bob"]
    assert prompt.names_nobody
    assert fill(prompt.template, ["woman", "man"]) == "two people in the park"


def test_prompts_of_a_set_named_in_several_places_are_put_together(second, suite_data, write_suite):
    second["multi"] = {"subjects": [["ann", "bob"]], "prompts": {"style": ["a sketch of {subjects}"]}}
    second["sets"].append({"subjects": ["ann", "bob"], "prompts": {"action": ["a {1} greets a {2}"]}})
    found = prompts_of(write_suite(second))
    assert [prompt.category for prompt in found["ann+bob"]] == ["style", "context", "action"]


def test_the_same_prompt_twice_for_one_set_is_refused_wherever_it_stands(second, write_suite):
    from fc_bench.errors import UserError

    second["sets"] += json.loads(json.dumps(second["sets"]))
    with pytest.raises(UserError, match="is listed twice"):
        read_suite(write_suite(second))


def test_a_prompt_may_ask_for_more_than_its_text(second, write_suite):
    asked = {
        "text": "a {1} and a {2}",
        "negative_prompt": "blurry",
        "size": [96, 64],
        "boxes": [[0, 0.1, 0.4, 0.9], [0.5, 0.1, 1, 0.9]],
        "target": "people/cid-1.png",
    }
    second["sets"][0]["prompts"]["context"] = [asked]
    suite = read_suite(write_suite(second))
    ((_, (prompt,)),) = suite.subject_sets()
    assert prompt.conditions == Conditions("blurry", (96, 64), ((0, 0.1, 0.4, 0.9), (0.5, 0.1, 1, 0.9)))
    assert suite.targets == {("ann+bob", "a {1} and a {2}"): prompt.target}
    content = json.loads(json.dumps(suite.content()))
    assert content["sets"][0]["prompts"]["context"] == [asked]
    assert len(content["target_digests"]) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"size": [100, 64]}, "multiple of 8"),
        ({"size": [64]}, "size"),
        ({"boxes": [[0, 0, 1, 1]]}, "1 boxes are given for sets of 2"),
        ({"boxes": [[0.5, 0, 0.2, 1], [0, 0, 1, 1]]}, "has no area"),
        ({"boxes": [[0, 0, 96, 64], [0, 0, 1, 1]]}, "less than or equal to 1"),
        ({"negative": "blurry"}, 'unknown key "negative", did you mean "negative_prompt"?'),
        ({"negative_prompt": ""}, "negative_prompt"),
    ],
)
def test_conditions_that_cannot_be_meant_are_refused(change, what, second, write_suite):
    second["sets"][0]["prompts"]["context"] = [{"text": "a {1} and a {2}", **change}]
    assert what in refusal(second, write_suite)


def test_a_name_belongs_to_one_prompt_of_a_category(second, write_suite):
    prompts = second["sets"][0]["prompts"]
    prompts["context"] = [{"text": "a {1} and a {2}", "name": "k1"}, {"text": "a {1} greets a {2}", "name": "k1"}]
    assert 'another prompt of the category has the name "k1"' in refusal(second, write_suite)
    prompts["action"] = [prompts["context"].pop()]
    names = [prompt.name for prompt in prompts_of(write_suite(second))["ann+bob"]]
    assert names == ["k1", "k1"]


def test_a_missing_target_is_named_with_its_line(second, write_suite):
    from fc_bench.errors import UserError

    second["sets"][0]["prompts"]["context"] = [{"text": "a {1} and a {2}", "target": "people/nobody.png"}]
    with pytest.raises(UserError, match=r"suite\.yaml:\d+: the target \"people/nobody\.png\" does not exist"):
        read_suite(write_suite(second))


def test_a_target_shows_particular_people(suite_data, write_suite):
    suite_data["format"] = 2
    suite_data["single"]["prompts"]["style"] = [{"text": "a sketch of a {subject}", "target": "people/ann-1.png"}]
    assert 'give it to a prompt of theirs under "sets"' in refusal(suite_data, write_suite)


def test_methods_get_the_references_and_metrics_all_photographs_the_first_reference_first(second, write_suite):
    second["photographs"]["count"] = 2
    second["subjects"][0]["references"] = [2]
    suite = read_suite(write_suite(second))
    ((subject_set, _),) = suite.subject_sets()
    assert [path.name for path in subject_set.subjects[0].photographs] == ["ann-2.png"]
    assert [path.name for path in suite.subjects[0].photographs] == ["ann-2.png", "ann-1.png"]
    assert [path.name for path in subject_set.subjects[1].photographs] == ["bob-1.png", "bob-2.png"]


def test_references_are_part_of_the_photographs_digest(second, write_suite):
    digests = []
    for references in (None, [1], [1, 2], [2, 1]):
        second["subjects"][0] |= {"references": references} if references else {}
        digests.append(read_suite(write_suite(second)).photograph_digests()["ann"])
    assert len(set(digests)) == 4


@pytest.mark.parametrize(("references", "what"), [([3], "not number 3"), ([1, 1], "listed twice"), ([], "at least 1")])
def test_references_are_photographs_that_there_are(references, what, second, write_suite):
    second["subjects"][0]["references"] = references
    assert what in refusal(second, write_suite)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: data["subjects"][0].update(attributes={"age": "30s"}), "attributes"),
        (lambda data: data["subjects"][0].update(references=[1]), "references"),
        (lambda data: data.update(sets=[{"subjects": ["ann"], "prompts": {"a": ["a {subject}"]}}]), "sets"),
        (lambda data: data["multi"]["prompts"].update(a=["a {1} greets a {2}"]), "{1}"),
        (lambda data: data["multi"].update(subjects={"people": 2, "count": 1}), "people"),
        (lambda data: data["single"]["prompts"].update(a=[{"text": "a {subject}", "size": [64, 64]}]), "size"),
    ],
)
def test_a_file_states_the_format_that_it_needs(change, field, suite_data, write_suite):
    change(suite_data)
    message = refusal(suite_data, write_suite)
    assert f'"{field}" is part of format 2 of suites; write "format: 2"' in message
    suite_data["format"] = 2
    read_suite(write_suite(suite_data))


@pytest.mark.parametrize("name", ["pocket", "pocket-full", "fastcomposer-single", "fastcomposer-multi"])
def test_suites_of_format_1_are_recorded_as_before(name):
    """Records of earlier versions have none of the fields of format 2, and are compared with today's as a whole."""
    data = yaml.safe_load(suite_file(name).read_text(encoding="utf-8"))
    recorded = SuiteFile.model_validate(data).model_dump(mode="json")
    assert "format" not in recorded
    assert "sets" not in recorded
    assert set().union(*recorded["subjects"]) == {"id", "noun", "photographs"}
    for part in ("single", "multi"):
        assert not data.get(part) or recorded[part]["prompts"] == data[part]["prompts"]


def test_drawn_sets_are_balanced_between_subjects_and_values_and_the_same_for_the_same_seed(second, write_suite):
    people = {f"p{n}": ("woman" if n < 4 else "man") for n in range(16)}
    second["subjects"] = [
        {"id": name, "noun": noun, "photographs": ["people/ann-1.png"], "attributes": {"gender": noun}}
        for name, noun in people.items()
    ]
    del second["sets"]
    drawn = {"people": 3, "count": 16, "balance": "gender"}
    second["multi"] = {"subjects": drawn, "prompts": {"context": ["{subjects} in the park"]}}
    sets = [subject_set.key.split("+") for subject_set, _ in read_suite(write_suite(second)).subject_sets()]
    assert len({frozenset(own) for own in sets}) == 16
    values = Counter(people[name] for own in sets for name in own)
    assert abs(values["woman"] - values["man"]) <= 1
    uses = Counter(name for own in sets for name in own)
    for noun in ("woman", "man"):
        own = [uses[name] for name in people if people[name] == noun]
        assert max(own) - min(own) <= 1
    again = [subject_set.key.split("+") for subject_set, _ in read_suite(write_suite(second)).subject_sets()]
    assert again == sets
    second["seed"] += 1
    other = [subject_set.key.split("+") for subject_set, _ in read_suite(write_suite(second)).subject_sets()]
    assert other != sets


def test_more_drawn_sets_than_there_are_is_refused(second, write_suite):
    from fc_bench.errors import UserError

    del second["sets"]
    second["multi"] = {"subjects": {"people": 2, "count": 4}, "prompts": {"context": ["{subjects} in the park"]}}
    with pytest.raises(UserError, match="Only 3 different sets of 2 were found, 4 are requested"):
        read_suite(write_suite(second))


def test_balance_needs_the_attribute_of_everyone(second, write_suite):
    del second["sets"]
    second["multi"] = {
        "subjects": {"people": 2, "count": 1, "balance": "age"},
        "prompts": {"context": ["{subjects} in the park"]},
    }
    assert 'the subject "ann" has no attribute "age"' in refusal(second, write_suite)


def test_slots_of_shared_prompts_fit_every_set(second, write_suite):
    del second["sets"]
    second["multi"] = {"subjects": [["ann", "bob"], ["ann", "bob", "cid"]], "prompts": {"a": ["a {1} greets a {2}"]}}
    assert "has 2 slots for sets of 2 and 3" in refusal(second, write_suite)


def test_the_fast_reader_reads_what_the_thorough_one_reads(tmp_path):
    """Both readers give the same, so that the fast one changes nothing but the time."""
    from fc_bench.model import yaml_file

    text = suite_file("pocket-full").read_text(encoding="utf-8")
    path = tmp_path / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    slow = yaml_file._read(text, path, SuiteFile, yaml_file._Loader)
    fast = yaml_file._read(text, path, SuiteFile, yaml_file._FastLoader)
    assert fast == slow
