"""The pictures that an examination of metrics needs: factors, their levels, and what each level is compared with.

A level differs from its base in one thing; people, seeds, pose and light are the same. Roles of levels:

- base: what others are compared with
- fault: what a request did not want, and a metric ought to count against an image
- gradual: other people at a stated trait distance, or blends at a stated share
- nuisance: what ought not to matter, because the prompt allows or requests it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import Literal

import numpy as np

from fc_bench.model.pocket.cases import blend
from fc_bench.model.pocket.factors import MOST_PEOPLE, USUAL, SubjectMatter, View, at_distances, stranger
from fc_bench.model.pocket.people import EVALUATION_PEOPLE, Person, make_person
from fc_bench.model.pocket.render import Scene
from fc_bench.model.pocket_vocabulary import ACCESSORIES, ACTIONS, CLASS_NOUNS, CONTEXTS, STYLES

Role = Literal["base", "fault", "gradual", "nuisance"]
Key = tuple[str, str]
"""Factor and level."""

PEOPLE = EVALUATION_PEOPLE[20_000:30_000]
"""Seeds of the people of examinations: in no suite, and no model was trained on them."""
BASE: Key = ("request", "as requested")
ROOM: Key = ("composition", "with room for one more")
OTHER_PEOPLE: Key = ("people", "other people")
TRAIT_DISTANCE, BLEND = "trait distance", "blend with a stranger"
DISTANCES = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5)
SHARES = (0.25, 0.5, 0.75)
LARGEST_WITH_FAULTS, LARGEST_WITH_ROOM = 3, 2
"""Most people of whom some are missing or wrong, and to whom one is added: of more, the pocket detector misses many."""

FLOORS: tuple[Key, ...] = (
    OTHER_PEOPLE,
    ("prompt", "other people in another scene"),
    ("composition", "nobody"),
    ("copying", "the reference photograph"),
    ("composition", "one person in every place"),
    ("composition", "swapped places"),
    ("siblings", "the same image again"),
    ("attention", "on the other person"),
)
"""What may give the low end of a column's scale; the first that costs something does."""

VIEWS: Mapping[str, Mapping[str, View]] = {
    "face size": {f"x {size:g}": View(size=size) for size in (1.2, 0.75, 0.5, 0.35, 0.25)},
    "head turn": {"to the left": View(turn=-0.3), "to the right": View(turn=0.3)},
    "head tilt": {f"{degrees} degrees": View(tilt=degrees) for degrees in (15, 30, 60)},
    "expression": {"smile": View(smile=0.3), "open mouth": View(mouth_open=0.3), "closed eyes": View(eyes_open=0.15)},
    "light": {name: View(light=name) for name in ("darker", "brighter", "from the left")},
    "covered": {name: View(cover=name) for name in ("eyes", "mouth", "one side")},
    "resolution": {f"{side} pixels": View(resolution=side) for side in (96, 64, 48, 32)},
    "JPEG": {f"quality {quality}": View(jpeg=quality) for quality in (60, 30, 10)},
}
STYLED = tuple(style for style in STYLES if style != "photo")
CROSSED_SIZES = (0.6, 0.4)


@dataclass(frozen=True)
class Request:
    """People to be shown in a scene; `seed` tells requests of the same people apart."""

    people: tuple[Person, ...]
    seed: int

    @property
    def key(self) -> tuple[int, ...]:
        """The people's seeds."""
        return tuple(person.seed for person in self.people)

    @cached_property
    def scene(self) -> Scene:
        """A place, drawn for each request."""
        return Scene(context=str(self._generator().choice(list(CONTEXTS))))

    @property
    def elsewhere(self) -> Scene:
        """Another place."""
        return Scene(context=str(self._generator().permutation([c for c in CONTEXTS if c != self.scene.context])[0]))

    @cached_property
    def strangers(self) -> tuple[Person, ...]:
        """For each person one of the same class noun who is in no suite."""
        return tuple(stranger(self.key, place, person.noun) for place, person in enumerate(self.people))

    @property
    def kept(self) -> int:
        """The place of the person who is kept where one of two is."""
        return self.seed % len(self.people)

    def matter(
        self, people: Sequence[Person | None] | None = None, scene: Scene | None = None, view: View = USUAL
    ) -> SubjectMatter:
        """What is shown, in all else the same for this request."""
        return SubjectMatter(tuple(people or self.people), self.key, self.seed, scene or self.scene, view)

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng([37, *self.key, self.seed])


@dataclass(frozen=True)
class Shown:
    """A picture, and what metrics get beside it.

    `asked` is the scene of the prompt; `photograph` the number of a photograph of the first person that is shown
    instead of the subject matter; `reversed_request` names the subjects in the opposite order; `attention` says where
    the attention of each subject's token is; `siblings` are the other images of the prompt.
    """

    matter: SubjectMatter
    asked: Scene
    photograph: int | None = None
    reversed_request: bool = False
    attention: str | None = None
    siblings: tuple[SubjectMatter, ...] = ()


@dataclass(frozen=True)
class Level:
    """A level of a factor: `show` gives the picture of a request with these people (the right ones, or strangers).

    `with_others`: it is also shown with strangers in everyone's place.
    """

    factor: str
    name: str
    role: Role
    show: Callable[[Request, Sequence[Person]], Shown]
    base: Key = BASE
    with_others: bool = False
    amount: float | None = None
    """The trait distance, or the share of the stranger."""

    @property
    def key(self) -> Key:
        """Factor and level."""
        return self.factor, self.name


@dataclass(frozen=True)
class Case:
    """One picture of an examination; `others`: strangers are in everyone's place."""

    level: Level
    request: Request
    others: bool
    shown: Shown


@dataclass(frozen=True)
class Design:
    """How many people are examined and with how many seeds each; `largest` is the largest number of people at once.

    `factors` keeps only those factors and what they are compared with (None: all).
    """

    people: int = 54
    seeds: int = 2
    largest: int = MOST_PEOPLE
    factors: frozenset[str] | None = None

    def groups(self) -> list[tuple[int, ...]]:
        """The seeds of the people of each group, one to eight; a person is in as many groups of a size as it has."""
        chosen = PEOPLE[: self.people]
        return [
            tuple(chosen[(first + place) % self.people] for place in range(size))
            for size in range(1, self.largest + 1)
            for first in range(self.people)
            if size <= self.people
        ]

    def levels(self, size: int) -> list[Level]:
        """The levels of requests for that many people."""
        every = levels(size)
        if self.factors is None:
            return every
        kept = [level for level in every if level.factor in self.factors]
        needed = {BASE, *(level.base for level in kept)}
        return [level for level in every if level in kept or level.key in needed]

    def cases(self, group: Sequence[int]) -> Iterator[Case]:
        """The pictures of a group."""
        people = tuple(make_person(seed) for seed in group)
        for seed, level in product(range(self.seeds), self.levels(len(group))):
            request = Request(people, seed)
            yield Case(level, request, False, level.show(request, people))
            if level.with_others:
                yield Case(level, request, True, level.show(request, request.strangers))

    def pictures(self) -> int:
        """The number of all pictures."""
        each = {size: sum(1 + level.with_others for level in self.levels(size)) for size in range(1, self.largest + 1)}
        return self.seeds * sum(each[len(group)] for group in self.groups())


@cache
def levels(size: int) -> list[Level]:
    """All levels of requests for `size` people."""
    base = Level(*BASE, "base", lambda request, people: Shown(request.matter(people), request.scene), with_others=True)
    if size > LARGEST_WITH_FAULTS:
        return [base, _composed("nobody", lambda request: [None] * len(request.people))]
    found = [base, *_composition(size)]
    if size == 1:
        return [*found, *_gradual(), *_scenes(True), *_views(), *_crossed(), *_prompt(), *_copying(), *_siblings()]
    if size == 2:
        sizes = [level for level in _views() if level.factor == "face size"]
        styles = [level for level in _scenes(True) if level.factor == "style"]
        return [*found, *sizes, *styles, *_attention()]
    return found


def _composition(size: int) -> list[Level]:
    """What may be wrong with who is shown, apart from other people altogether."""

    def with_stranger(request: Request) -> list[Person | None]:
        return [p if place == request.kept else request.strangers[place] for place, p in enumerate(request.people)]

    def without(request: Request) -> list[Person | None]:
        return [None if place == request.kept else person for place, person in enumerate(request.people)]

    def twice(request: Request) -> list[Person | None]:
        return [request.people[request.kept]] * len(request.people)

    def blended(request: Request) -> list[Person | None]:
        return [_between_the_first(request), _between_the_first(request), *request.people[2:]]

    def one_for_two(request: Request) -> list[Person | None]:
        return [_between_the_first(request), None, *request.people[2:]]

    def newcomer(request: Request) -> Person:
        return stranger(request.key, len(request.people), request.people[0].noun)

    found = [_composed("nobody", lambda request: [None] * len(request.people))]
    if size <= LARGEST_WITH_ROOM:
        found += [
            Level(*ROOM, "base", lambda request, _: Shown(request.matter([*request.people, None]), request.scene)),
            _composed("a stranger added", lambda request: [*request.people, newcomer(request)], base=ROOM),
            _composed(
                "someone shown once more", lambda request: [*request.people, request.people[request.kept]], base=ROOM
            ),
        ]
    if size > 1:
        found += [
            _composed("one missing", without),
            _composed("strangers for all but one", with_stranger),
            _composed("one person in every place", twice),
            _composed("a blend of two in both places", blended),
            _composed("one face for two", one_for_two),
            _composed("swapped places", lambda request: request.people[::-1], role="nuisance"),
            Level(
                "composition",
                "subjects named in the other order",
                "nuisance",
                lambda request, people: Shown(request.matter(people), request.scene, reversed_request=True),
            ),
        ]
    return found


@cache
def _blend(one: int, other: int, nouns: tuple[str, str], share: float) -> Person:
    return blend(make_person(one, nouns[0]), make_person(other, nouns[1]), share=share)


def _between_the_first(request: Request) -> Person:
    one, other = request.people[:2]
    return _blend(one.seed, other.seed, (one.noun, other.noun), 0.5)


def _composed(
    name: str, people: Callable[[Request], Sequence[Person | None]], role: Role = "fault", base: Key = BASE
) -> Level:
    return Level(
        "composition", name, role, lambda request, _: Shown(request.matter(people(request)), request.scene), base
    )


@cache
def _on_the_way(person: int) -> tuple[Person, ...]:
    return tuple(at_distances(make_person(person), DISTANCES))


def _gradual() -> list[Level]:
    """Other people at stated trait distances, and blends with the stranger."""

    def at(number: int) -> Callable[[Request, Sequence[Person]], Shown]:
        return lambda request, _: Shown(request.matter([_on_the_way(*request.key)[number]]), request.scene)

    def blended(share: float) -> Callable[[Request, Sequence[Person]], Shown]:
        def show(request: Request, _: Sequence[Person]) -> Shown:
            (one,), (other,) = request.people, request.strangers
            return Shown(request.matter([_blend(one.seed, other.seed, (one.noun, other.noun), share)]), request.scene)

        return show

    return [
        *(Level(TRAIT_DISTANCE, f"{d:g}", "gradual", at(place), amount=d) for place, d in enumerate(DISTANCES)),
        *(Level(BLEND, f"share {share:g}", "gradual", blended(share), amount=share) for share in SHARES),
    ]


def _scenes(with_others: bool) -> list[Level]:
    """What the prompt requests apart from the people, and the picture shows."""

    def show(change: Callable[[Scene], Scene]) -> Callable[[Request, Sequence[Person]], Shown]:
        return lambda request, people: Shown(request.matter(people, change(request.scene)), change(request.scene))

    changes: dict[str, dict[str, Callable[[Scene], Scene]]] = {
        "style": {style: lambda scene, style=style: replace(scene, style=style) for style in STYLED},
        "accessory": {one: lambda scene, one=one: replace(scene, accessory=one) for one in ACCESSORIES},
        "action": {one: lambda scene, one=one: replace(scene, action=one) for one in ACTIONS},
        "background": {
            "a plain wall": lambda scene: replace(scene, context=None),
            **{one: lambda scene, one=one: replace(scene, context=one) for one in ("night", "jungle", "city")},
        },
    }
    return [
        Level(factor, name, "nuisance", show(change), with_others=with_others)
        for factor, own in changes.items()
        for name, change in own.items()
    ]


def _views() -> list[Level]:
    """How the picture and its faces look, of which the prompt says nothing."""

    def show(view: View) -> Callable[[Request, Sequence[Person]], Shown]:
        return lambda request, people: Shown(request.matter(people, view=view), request.scene)

    return [
        Level(factor, name, "nuisance", show(view), with_others=True)
        for factor, own in VIEWS.items()
        for name, view in own.items()
    ]


def _crossed() -> list[Level]:
    """Styles crossed with face sizes."""

    def show(style: str, size: float) -> Callable[[Request, Sequence[Person]], Shown]:
        def shown(request: Request, people: Sequence[Person]) -> Shown:
            scene = replace(request.scene, style=style)
            return Shown(request.matter(people, scene, View(size=size)), scene)

        return shown

    return [
        Level("style and face size", f"{style}, x {size:g}", "nuisance", show(style, size), with_others=True)
        for style, size in product(STYLES, CROSSED_SIZES)
    ]


def _prompt() -> list[Level]:
    """Pictures of the right person that miss a part of the prompt."""

    def show(
        shown: Callable[[Request], Scene], asked: Callable[[Request], Scene]
    ) -> Callable[[Request, Sequence[Person]], Shown]:
        return lambda request, people: Shown(request.matter(people, shown(request)), asked(request))

    def other_noun(request: Request, _: Sequence[Person]) -> Shown:
        (person,) = request.people
        noun = CLASS_NOUNS[1 - CLASS_NOUNS.index(person.noun)]
        return Shown(request.matter([stranger(request.key, 0, noun)]), request.scene)

    def plain(request: Request) -> Scene:
        return request.scene

    return [
        Level("prompt", "another background", "fault", show(lambda request: request.elsewhere, plain)),
        Level("prompt", "no background", "fault", show(lambda request: replace(request.scene, context=None), plain)),
        Level(
            "prompt",
            "a photo instead of a sketch",
            "fault",
            show(plain, lambda request: replace(request.scene, style="sketch")),
            ("style", "sketch"),
        ),
        Level(
            "prompt",
            "without the red hat",
            "fault",
            show(plain, lambda request: replace(request.scene, accessory="hat")),
            ("accessory", "hat"),
        ),
        Level(
            "prompt",
            "without the book",
            "fault",
            show(plain, lambda request: replace(request.scene, action="book")),
            ("action", "book"),
        ),
        Level("prompt", "a stranger of the other class noun", "fault", other_noun),
        Level(
            "prompt",
            "other people in another scene",
            "fault",
            lambda request, _: Shown(request.matter(request.strangers, request.elsewhere), request.scene),
        ),
    ]


def _copying() -> list[Level]:
    """The reference photograph itself, and a photograph that no metric has."""

    def show(number: int) -> Callable[[Request, Sequence[Person]], Shown]:
        return lambda request, _: Shown(request.matter(), request.scene, photograph=number)

    another: Key = ("copying", "a new photograph")
    return [
        # Each seed has a photograph of its own, beyond those that the subject has.
        Level(*another, "base", lambda request, _: Shown(request.matter(), request.scene, photograph=5 + request.seed)),
        Level("copying", "the reference photograph", "fault", show(0), another),
    ]


def _siblings() -> list[Level]:
    """The other images of a prompt."""

    def show(step: int) -> Callable[[Request, Sequence[Person]], Shown]:
        def shown(request: Request, _: Sequence[Person]) -> Shown:
            others = tuple(replace(request.matter(), seed=request.seed + step * number) for number in (1, 2, 3))
            return Shown(request.matter(), request.scene, siblings=others)

        return shown

    seeds: Key = ("siblings", "images of other seeds")
    return [
        Level(*seeds, "base", show(1000)),
        Level("siblings", "the same image again", "fault", show(0), seeds),
    ]


def _attention() -> list[Level]:
    """Where the attention of each subject's token lies."""

    def show(where: str) -> Callable[[Request, Sequence[Person]], Shown]:
        return lambda request, _: Shown(request.matter(), request.scene, attention=where)

    own: Key = ("attention", "on the own person")
    return [
        Level(*own, "base", show("own")),
        Level("attention", "on both people alike", "fault", show("both"), own),
        Level("attention", "on the other person", "fault", show("other"), own),
        Level("attention", "on the whole image alike", "fault", show("everywhere"), own),
    ]
