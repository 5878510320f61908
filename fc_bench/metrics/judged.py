"""Metrics of judges: what vision-language models answer to the questions of published benchmarks about an image.

The answers are records of the run folder (`fc-bench judge`), and a metric belongs to one judge: `omnicontext@gpt-4.1`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import ClassVar

from fc_bench.protocols import Column, Score
from fc_bench.published import Trimmed, judges

OVERALL = ""
"""The group of an aggregate over all images."""
DREAMBENCH_PLUS_COUNT = 9
"""Prompts of a subject in DreamBench++; only with so many do their numbers say what kind they are."""


@dataclass(frozen=True)
class Question:
    """A question of a benchmark about an image: what the judge sees, and fc-bench's own words for it.

    `{prompt}` stands for the image's prompt. The benchmark's own words are not fc-bench's to pass on.
    """

    name: str
    wording: str
    shows_references: bool = False


@dataclass(frozen=True)
class Rating:
    """An answer as read: the numbers in it, None if it could not be read; `repetition` counts from 1."""

    question: str
    repetition: int
    numbers: tuple[float, ...] | None


@dataclass(frozen=True)
class JudgedImage:
    """The ratings of an image, and its place: the number (from 0) of its `prompt` among the set's `prompts`."""

    subjects: str
    category: str
    prompt: int
    prompts: int
    index: int
    ratings: Sequence[Rating]


Aggregates = dict[tuple[str, str], Trimmed]
"""(column, group) -> the mean as the benchmark's own code takes it."""


class Judged(ABC):
    """A benchmark whose scores are a judge's answers: its questions, what is read from an answer, and its columns."""

    name: ClassVar[str]
    description: ClassVar[str]
    source: ClassVar[str]
    """Repository and commit of the code whose arithmetic it is."""
    questions: ClassVar[tuple[Question, ...]]
    scores: ClassVar[tuple[Column, ...]]
    """Columns of an image, before they are marked with the judge's name."""
    of_text: ClassVar[tuple[str, ...]]
    """Those that are about the prompt and say nothing of the subjects."""
    numbers: ClassVar[int | None] = 1
    """How many numbers an answer to fc-bench's own question holds."""

    @staticmethod
    @abstractmethod
    def read(text: str, numbers: int | None) -> tuple[float, ...] | None:
        """The numbers in an answer that should hold `numbers` (None: any number of them); None if it is unreadable."""

    @classmethod
    @abstractmethod
    def values(cls, means: Mapping[str, float | None]) -> dict[str, float | None]:
        """Each of `scores`, from the mean of each question's readable answers."""

    @classmethod
    @abstractmethod
    def as_published(cls, images: Iterable[JudgedImage]) -> Aggregates:
        """The means of images, and of the benchmark's groups of them, as its own code takes them."""

    @classmethod
    def questions_about(cls, category: str) -> tuple[Question, ...]:
        """The questions for an image whose prompt is of this category."""
        return cls.questions

    @classmethod
    def columns(cls, judge: str, about: str) -> tuple[Column, ...]:
        """The columns of one judge; `about` says whose answers they are, so that those of others do not compare."""
        unreadable = Column(
            f"{cls.unmarked}_unreadable",
            f"{cls.scores[0].title.partition(' ')[0]} unreadable answers",
            False,
            "share of the judge's answers about an image that could not be read, and are missing",
            digits=2,
            bounds=(0.0, 1.0),
        )
        return tuple(
            replace(
                column,
                name=marked(column.name, judge),
                title=f"{column.title} ({judge})",
                description=f"{column.description}; {about}",
            )
            for column in (*cls.scores, unreadable)
        )

    @classmethod
    def score(cls, judge: str, ratings: Sequence[Rating]) -> Score:
        """The score of an image that has answers."""
        means: dict[str, float | None] = {}
        for question in cls.questions:
            own = [fmean(one.numbers) for one in ratings if one.question == question.name and one.numbers]
            means[question.name] = fmean(own) if own else None
        unreadable = sum(one.numbers is None for one in ratings) / len(ratings)
        values = {**cls.values(means), f"{cls.unmarked}_unreadable": unreadable}
        details = [
            [one.question, one.repetition, None if one.numbers is None else list(one.numbers)] for one in ratings
        ]
        return Score({marked(name, judge): value for name, value in values.items()}, {"ratings": details})

    unmarked: ClassVar[str]
    """Beginning of the columns' names."""


def marked(column: str, judge: str) -> str:
    """The name of a column, or a metric, of a judge."""
    return f"{column}@{judge}"


def ratings_of(details: Mapping[str, Sequence[tuple[str, int, Sequence[float] | None]]]) -> list[Rating]:
    """The ratings that `Judged.score` recorded."""
    return [
        Rating(question, repetition, None if numbers is None else tuple(numbers))
        for question, repetition, numbers in details["ratings"]
    ]


def _one(number: float | None) -> tuple[float, ...] | None:
    return None if number is None else (number,)


_AS_JSON = 'Answer with a JSON object alone: {"score": a number from 0 to 10, "reasoning": "one sentence"}'


class OmniContext(Judged):
    """Prompt following and subject consistency of OmniContext."""

    name = "omnicontext"
    unmarked = "omnicontext"
    of_text = ("omnicontext_pf",)
    description = "prompt following and subject consistency of OmniContext"
    source = "VectorSpaceLab/OmniGen2 0f72fa9"
    questions = (
        Question(
            "PF",
            "The last image was generated from the text below; the images before it are photographs of the subjects. "
            "Does the last image show what the text asks for? Leave aside whether the subjects look like their "
            "photographs, and be strict: 0 is nothing of it, 10 is all of it.\n"
            f"Text: {{prompt}}\n{_AS_JSON}",
            shows_references=True,
        ),
        Question(
            "SC",
            "The last image was generated from the text below; the images before it are photographs of the subjects. "
            "Are the subjects in the last image the same individuals as in their photographs? Compare faces, hair, "
            "build and distinctive features, leave aside everything else, and be strict: 0 is no likeness at all, 10 "
            f"is the same individuals without a doubt.\nText: {{prompt}}\n{_AS_JSON}",
            shows_references=True,
        ),
    )
    scores = (
        Column(
            "omnicontext_pf",
            "OmniContext PF",
            True,
            "prompt following from 0 to 10, as answered by the judge, mean of its readable answers",
            digits=2,
            bounds=(0.0, judges.LARGEST),
        ),
        Column(
            "omnicontext_sc",
            "OmniContext SC",
            True,
            "subject consistency from 0 to 10, as answered by the judge, mean of its readable answers",
            digits=2,
            bounds=(0.0, judges.LARGEST),
        ),
        Column(
            "omnicontext_overall",
            "OmniContext overall",
            True,
            "geometric mean of the image's PF and SC; missing without one of them",
            digits=2,
            headline=True,
            bounds=(0.0, judges.LARGEST),
        ),
    )

    @staticmethod
    def read(text: str, numbers: int | None) -> tuple[float, ...] | None:
        """One number from 0 to 10."""
        return _one(judges.omnicontext_score(text))

    @classmethod
    def values(cls, means: Mapping[str, float | None]) -> dict[str, float | None]:
        """All columns."""
        pf, sc = means["PF"], means["SC"]
        overall = None if pf is None or sc is None else math.sqrt(pf * sc)
        return {"omnicontext_pf": pf, "omnicontext_sc": sc, "omnicontext_overall": overall}

    @classmethod
    def as_published(cls, images: Iterable[JudgedImage]) -> Aggregates:
        """The mean of the tasks' means, where a task is a category; images without both numbers are left out."""
        tasks: dict[str, list[tuple[float, float]]] = {}
        for image in images:
            own = {one.question: one.numbers for one in image.ratings}  # the last repetition counts
            pf, sc = own.get("PF"), own.get("SC")
            if pf and sc:
                tasks.setdefault(image.category, []).append((pf[0], sc[0]))
        if not tasks:
            return {}
        used = sum(map(len, tasks.values()))
        means = judges.omnicontext_means(tasks)["average"]
        return {(column.name, OVERALL): Trimmed(mean, used) for column, mean in zip(cls.scores, means, strict=True)}


_AS_SCORE = "End with one line that holds the word Score, a colon and a whole number from 0 to 4, such as Score: 2"


class DreamBenchPlus(Judged):
    """Concept preservation and prompt following of DreamBench++."""

    name = "dreambench-plus"
    unmarked = "dreambench_plus"
    of_text = ("dreambench_plus_pf",)
    description = "concept preservation and prompt following of DreamBench++"
    source = "yuangpeng/dreambench_plus 66ca27e"
    questions = (
        Question(
            "CP",
            "The last image was generated; the images before it are photographs of its subjects. How much of what "
            "makes the subjects recognizable is preserved in the last image: shape, color, texture, and facial "
            "features of a person or an animal? Leave aside background, pose and action. 0 is nothing, 4 is all.\n"
            f"{_AS_SCORE}",
            shows_references=True,
        ),
        Question(
            "PF",
            "The image was generated from the text below. Does it show what the text says: the objects and their "
            "relations, actions, place and style? 0 is nothing of it, 4 is all of it.\n"
            f"Text: {{prompt}}\n{_AS_SCORE}",
        ),
    )
    scores = (
        Column(
            "dreambench_plus_cp",
            "DreamBench++ CP",
            True,
            "concept preservation, the judge's number from 0 to 4 divided by 4, mean of its readable answers",
            headline=True,
            bounds=(0.0, 1.0),
        ),
        Column(
            "dreambench_plus_pf",
            "DreamBench++ PF",
            True,
            "prompt following, the judge's number from 0 to 4 divided by 4, mean of its readable answers",
            headline=True,
            of_image_alone=True,
            bounds=(0.0, 1.0),
        ),
        Column(
            "dreambench_plus_product",
            "DreamBench++ CP x PF",
            True,
            "product of the image's CP and PF; theirs is the product of the means (report --protocols --as-published)",
            headline=True,
            bounds=(0.0, 1.0),
        ),
    )

    @staticmethod
    def read(text: str, numbers: int | None) -> tuple[float, ...] | None:
        """One whole number from 0 to 4."""
        return _one(judges.dreambench_plus_score(text))

    @classmethod
    def values(cls, means: Mapping[str, float | None]) -> dict[str, float | None]:
        """All columns, divided by 4."""
        cp, pf = (
            None if mean is None else mean / judges.DREAMBENCH_PLUS_LARGEST for mean in (means["CP"], means["PF"])
        )
        product = None if cp is None or pf is None else cp * pf
        return {"dreambench_plus_cp": cp, "dreambench_plus_pf": pf, "dreambench_plus_product": product}

    @classmethod
    def as_published(cls, images: Iterable[JudgedImage]) -> Aggregates:
        """The mean over repetitions of the means over first images, of all and of each group; the product of means.

        Groups of prompts need subjects with nine prompts each, groups of subjects the benchmark's ids.
        """
        names = {"CP": "dreambench_plus_cp", "PF": "dreambench_plus_pf"}
        given: dict[str, dict[int, dict[str, float]]] = {name: {} for name in names}
        for image in images:
            known = image.prompts == DREAMBENCH_PLUS_COUNT
            number = image.prompt if known else image.prompt + DREAMBENCH_PLUS_COUNT
            for one in image.ratings if image.index == 0 else ():
                if one.numbers is not None:
                    ratings = given[one.question].setdefault(one.repetition, {})
                    ratings[f"{image.subjects}-{number}"] = one.numbers[0]
        found: Aggregates = {}
        for question, repetitions in given.items():
            used = len({name for ratings in repetitions.values() for name in ratings})
            means: dict[str, list[float]] = {}
            for ratings in repetitions.values():
                for group, mean in judges.dreambench_plus_means(ratings).items():
                    means.setdefault(OVERALL if group == "all" else group, []).append(mean)
            found |= {(names[question], group): Trimmed(fmean(own), used) for group, own in means.items()}
        both = [found.get((name, OVERALL)) for name in names.values()]
        if both[0] is not None and both[1] is not None:
            product = Trimmed(both[0].mean * both[1].mean, min(both[0].used, both[1].used))
            found["dreambench_plus_product", OVERALL] = product
        return found


_AS_THOUGHT = "Give your reasons first. Answer in this form: [Thought]: your reasons [Score]: a number from 0 to 10"


class PSRBench(Judged):
    """Alignment of attributes, actions, backgrounds and whole prompts of PSRBench."""

    name = "psrbench"
    unmarked = "psrbench"
    of_text = ("psrbench_attribute", "psrbench_action", "psrbench_background", "psrbench_complex")
    description = "alignment of attributes, actions, backgrounds and whole prompts of PSRBench"
    source = "wang-shulei/PSR c719168"
    questions = tuple(
        Question(
            name,
            f"The image was generated from the text below. {asked} Be strict: 0 is nothing of it, 10 is all of it.\n"
            f"Text: {{prompt}}\n{_AS_THOUGHT}",
        )
        for name, asked in (
            (
                "attribute",
                "Do the things in the image have the attributes that the text gives them? Judge this alone.",
            ),
            ("action", "Do the subjects in the image do what the text says they do? Judge this alone."),
            ("background", "Is the background of the image the one that the text describes? Judge this alone."),
            ("complex", "Does the image show everything that the text describes?"),
        )
    )
    scores = tuple(
        Column(
            f"psrbench_{name}",
            f"PSRBench {name} alignment",
            True,
            f"alignment of {what} with the prompt from 0 to 10, as answered by the judge, mean of its readable answers",
            digits=2,
            headline=True,
            of_image_alone=True,
            bounds=(0.0, judges.LARGEST),
        )
        for name, what in (
            ("attribute", "attributes"),
            ("action", "actions"),
            ("background", "the background"),
            ("complex", "the whole image"),
        )
    )

    @classmethod
    def questions_about(cls, category: str) -> tuple[Question, ...]:
        """The question of the image's subset; `complex` where the category is none of them."""
        own = tuple(question for question in cls.questions if question.name == category.lower())
        return own or cls.questions[-1:]

    @staticmethod
    def read(text: str, numbers: int | None) -> tuple[float, ...] | None:
        """One number from 0 to 10."""
        return _one(judges.psrbench_score(text))

    @classmethod
    def values(cls, means: Mapping[str, float | None]) -> dict[str, float | None]:
        """A column for each question."""
        return {f"psrbench_{name}": mean for name, mean in means.items()}

    @classmethod
    def as_published(cls, images: Iterable[JudgedImage]) -> Aggregates:
        """The mean of all answers, where one that cannot be read counts 5."""
        given: dict[str, list[float]] = {}
        for image in images:
            for one in image.ratings:
                number = judges.PSRBENCH_UNREADABLE if one.numbers is None else one.numbers[0]
                given.setdefault(one.question, []).append(number)
        return {(f"psrbench_{name}", OVERALL): Trimmed(fmean(own), len(own)) for name, own in given.items()}


class MultiHumanAction(Judged):
    """The action score of MultiHuman-Testbench."""

    name = "multihuman-action"
    unmarked = "multihuman_action"
    of_text = ("multihuman_action",)
    description = "action score of MultiHuman-Testbench"
    source = "Qualcomm-AI-research/MultiHuman-Testbench ff9f120"
    questions = (
        Question(
            "action",
            "The image was generated from the text below. Do the people in it do what the text says? Answer with one "
            "digit and nothing else, from 0, nobody does, to 9, everybody does.\nText: {prompt}",
        ),
    )
    scores = (
        Column(
            "multihuman_action",
            "MultiHuman action",
            True,
            "mean over the questions about the image of the judge's digit plus 1, from 1 to 10",
            digits=2,
            headline=True,
            of_image_alone=True,
            bounds=(1.0, 10.0),
        ),
    )

    @staticmethod
    def read(text: str, numbers: int | None) -> tuple[float, ...] | None:
        """A number from 1 to 10 for each digit."""
        return judges.multihuman_scores(text, numbers)

    @classmethod
    def values(cls, means: Mapping[str, float | None]) -> dict[str, float | None]:
        """The mean."""
        return {"multihuman_action": means["action"]}

    @classmethod
    def as_published(cls, images: Iterable[JudgedImage]) -> Aggregates:
        """The mean over all questions of all images, so that an image with more questions counts more."""
        answered = [[one.numbers for one in image.ratings if one.numbers] for image in images]
        every = [number for own in answered for numbers in own for number in numbers]
        used = sum(1 for own in answered if own)
        return {("multihuman_action", OVERALL): Trimmed(fmean(every), used)} if every else {}


PROTOCOLS: dict[str, type[Judged]] = {
    protocol.name: protocol for protocol in (OmniContext, DreamBenchPlus, PSRBench, MultiHumanAction)
}
"""Name on the command line -> protocol."""
