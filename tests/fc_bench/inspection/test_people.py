"""Whom photographs show is told by the person's other photographs; what is plainly somebody else is refused."""

from __future__ import annotations

import pytest

from fc_bench.inspection.inspector import Inspector


def told(inspector: Inspector, people) -> list[tuple[str, bool, str]]:
    """Kind, whether it is refused, and sentence of each finding."""
    return [(finding.kind, finding.blocks, finding.text) for finding in inspector.inspect(people).findings]


@pytest.mark.parametrize("stranger", ["p02", "p16"])
def test_a_reference_whose_larger_face_is_somebody_else_s_is_refused(
    people, shots, shot, finder, beside, larger, stranger
):
    pictures = {"ada": shots("p01"), "bo": [shot("p02", number) for number in (1, 3, 4, 5)]}
    pictures["ada"][0] = beside(shot("p01", 1), larger(shot(stranger, 2)))
    ((kind, blocks, text),) = told(Inspector(finder, (0,)), people(pictures))
    assert (kind, blocks) == ("other-person", True)
    assert text.startswith('The largest of the 2 faces in ada/1.png of "ada", the reference, belongs to another person')
    assert ('it resembles "bo"' in text) == (stranger == "p02")
    assert "crop the photograph to that one" in text


def test_another_photograph_with_a_larger_face_of_somebody_else_is_a_remark(
    people, shots, shot, finder, beside, larger
):
    pictures = {"ada": shots("p01"), "bo": shots("p02")}
    pictures["ada"][3] = beside(larger(shot("p05", 1)), shot("p01", 4))
    ((kind, blocks, text),) = told(Inspector(finder, (0,)), people(pictures))
    assert (kind, blocks) == ("other-person", False)
    assert 'ada/4.png of "ada" belongs to another person' in text


def test_a_smaller_face_of_somebody_else_is_a_remark(people, shots, shot, finder, beside, larger):
    pictures = {"ada": shots("p01"), "bo": shots("p02")}
    pictures["ada"][0] = beside(larger(shot("p01", 1)), shot("p02", 2))
    ((kind, blocks, text),) = told(Inspector(finder, (0,)), people(pictures))
    assert (kind, blocks) == ("several-faces", False)
    assert 'ada/1.png of "ada" shows 2 faces' in text
    assert "the largest is used, so crop the photograph if another person is meant" in text


def test_photographs_with_several_faces_are_named_together(people, shots, shot, finder, beside, larger):
    pictures = {"ada": shots("p01")}
    for place in (1, 2):
        pictures["ada"][place] = beside(larger(shot("p01", place + 1)), shot("p04", place))
    ((kind, _, text),) = told(Inspector(finder, (0,)), people(pictures))
    assert kind == "several-faces"
    assert text.startswith('ada/2.png and ada/3.png of "ada" show several faces')


@pytest.mark.parametrize("place", [0, 2])
def test_a_photograph_in_the_wrong_folder_is_named_with_whose_it_is(people, shots, shot, finder, place):
    pictures = {"ada": shots("p01")[:4], "bo": shots("p02")[:4]}
    pictures["ada"][place] = shot("p02", 5)
    ((kind, blocks, text),) = told(Inspector(finder, (0,)), people(pictures))
    assert (kind, blocks) == ("other-person", place == 0)
    assert text.startswith(f'ada/{place + 1}.png of "ada"')
    assert 'resembles the photographs of "bo"' in text


@pytest.mark.parametrize("place", [0, 2])
def test_a_photograph_of_somebody_who_is_not_in_the_suite_is_named(people, shots, shot, finder, place):
    pictures = {"ada": shots("p01"), "bo": shots("p02")}
    pictures["ada"][place] = shot("p16", 1)
    ((kind, blocks, text),) = told(Inspector(finder, (0,)), people(pictures))
    assert (kind, blocks) == ("other-person", place == 0)
    assert f'ada/{place + 1}.png of "ada"' in text
    assert 'hardly resembles the other photographs of "ada"' in text


def test_one_person_under_two_names_is_a_remark(people, shots, finder):
    everything = shots("p01")
    ((kind, blocks, text),) = told(Inspector(finder, (0,)), people({"ada": everything[:2], "eva": everything[2:]}))
    assert (kind, blocks) == ("same-person", False)
    assert text.startswith('The photographs of "ada" resemble those of "eva"')


def test_of_one_photograph_a_person_only_the_faces_are_counted(people, shot, finder, beside, larger):
    alone = {"ada": [shot("p01", 1)], "bo": [shot("p02", 1)], "cid": [shot("p03", 1)]}
    assert told(Inspector(finder, (0,)), people(alone)) == []
    alone["ada"] = [beside(shot("p01", 1), larger(shot("p02", 2)))]
    ((kind, blocks, text),) = told(Inspector(finder, (0,)), people(alone))
    assert (kind, blocks) == ("several-faces", False)
    assert 'the largest is used (it resembles "bo"' in text


def test_nobody_is_refused_by_a_face_where_none_is_measured(people, shots, shot, finder):
    pictures = {"ada": shots("p01")[:4], "bo": shots("p02")[:4]}
    pictures["ada"][0] = shot("p02", 5)
    ((kind, blocks, _),) = told(Inspector(finder), people(pictures))
    assert (kind, blocks) == ("other-person", False)


def test_a_picture_that_two_people_have_says_nothing_of_who_they_are(people, shots, finder):
    pictures = {"ada": shots("p01"), "bo": shots("p02")}
    pictures["bo"][0] = pictures["ada"][0]
    assert [kind for kind, _, _ in told(Inspector(finder, (0,)), people(pictures))] == ["copies"]
