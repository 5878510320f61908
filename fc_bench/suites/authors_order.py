"""The order in which the evaluation of FastComposer's authors numbers subjects and prompts."""

from __future__ import annotations

from pathlib import Path

from fc_bench.builtin import FASTCOMPOSER_MULTI_SUITE, FASTCOMPOSER_SINGLE_SUITE
from fc_bench.model.yaml_file import read_yaml
from fc_bench.suites.suite import Prompt, SubjectSet, Suite
from fc_bench.suites.suite_file import SuiteFile


def in_authors_order(suite: Suite) -> list[tuple[SubjectSet, list[Prompt]]]:
    """Every subject set of a suite with its prompts, in the order in which the authors' evaluation numbers them.

    A part (`single` or `multi`) follows the authors' order if all its prompts are among theirs, otherwise its own
    order: prompts as in the suites `fastcomposer-single` and `fastcomposer-multi`, subjects sorted by id
    (mit-han-lab/fastcomposer, `get_combinations` in evaluation/single_object/data.py, and in
    evaluation/multi_object/data.py at 5282a7e), listed sets of several as listed.
    """
    alone = [own for own in suite.subject_sets() if len(own[0].subjects) == 1]
    together = [own for own in suite.subject_sets() if len(own[0].subjects) > 1]
    every_pair = suite.file.multi is not None and suite.file.multi.subjects == "all-pairs"
    return [
        *_ordered(alone, FASTCOMPOSER_SINGLE_SUITE, by_id=True),
        *_ordered(together, FASTCOMPOSER_MULTI_SUITE, by_id=every_pair),
    ]


def _ordered(
    sets: list[tuple[SubjectSet, list[Prompt]]], published: Path, by_id: bool
) -> list[tuple[SubjectSet, list[Prompt]]]:
    """Sets of one part with equal prompts, in the authors' order if the prompts are theirs."""
    places = _places(published)
    if not sets or any(prompts != sets[0][1] for _, prompts in sets):
        return sets
    if any(prompt.template not in places for prompt in sets[0][1]):
        return sets
    prompts = sorted(sets[0][1], key=lambda prompt: places[prompt.template])
    if by_id:
        sets = sorted(sets, key=lambda own: sorted(subject.id for subject in own[0].subjects))
    return [(subject_set, prompts) for subject_set, _ in sets]


def _places(published: Path) -> dict[str, int]:
    """Each prompt of a published suite with its number."""
    file = read_yaml(published, SuiteFile)
    part = file.single or file.multi
    assert part is not None
    texts = (entry.text for entries in part.prompts.values() for entry in entries)
    return {text: place for place, text in enumerate(texts)}
