"""Pictures of the pocket world with exact annotations: caption, masks, face boxes, landmarks, identities.

Everything about a picture follows from its seed; a few hundred pictures a second on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from fc_bench.model import pocket_vocabulary as words
from fc_bench.model.articles import with_article
from fc_bench.model.pocket.canvas import SIZE, Canvas, shrink
from fc_bench.model.pocket.people import Person, describe, make_person
from fc_bench.model.pocket.portrait import Pose, draw_person
from fc_bench.model.pocket.scenes import draw_background

cv2.setNumThreads(1)


@dataclass(frozen=True)
class Scene:
    """What a prompt asks for, apart from the people; None = not mentioned."""

    style: str = "photo"
    accessory: str | None = None
    action: str | None = None
    context: str | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scene:
        """A random scene, photographs and places more often than not."""

        def maybe(options: Sequence[str], share: float) -> str | None:
            return str(rng.choice(list(options))) if rng.random() < share else None

        return cls(
            style=maybe([s for s in words.STYLES if s != "photo"], 0.24) or "photo",
            accessory=maybe(list(words.ACCESSORIES), 0.32),
            action=maybe(list(words.ACTIONS), 0.18),
            context=maybe(list(words.CONTEXTS), 0.78),
        )


@dataclass(frozen=True)
class NounPhrase:
    """Where a person's noun phrase stands in a caption: characters [start, end), the class noun last before `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Picture:
    """A rendered picture with everything that is true about it.

    image [128, 128, 3] RGB; masks [people, 128, 128] 0-255 (what is visible of each person); face_boxes [people, 4] as
    x0 y0 x1 y1 and landmarks [people, 5, 2] in pixels; people in caption order, whoever of them stands on the left.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    face_boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    people: tuple[Person, ...]
    scene: Scene


def compose_caption(
    people: Sequence[Person], scene: Scene, rng: np.random.Generator | None = None, most_traits: int = 0
) -> tuple[str, list[NounPhrase]]:
    """The caption of a scene and where each person's noun phrase stands; `most_traits` describes traits, too."""
    text = words.STYLES[scene.style]
    spans = []
    for index, person in enumerate(people):
        before, clause = describe(person, rng, most_traits) if rng is not None and most_traits else ("", "")
        phrase = with_article(f"{before} {person.noun}".strip())
        text += " and " if index else " "
        spans.append(NounPhrase(len(text), len(text) + len(phrase)))
        text += f"{phrase} {clause}" if clause else phrase
    plural = int(len(people) > 1)
    if scene.accessory:
        text += " " + words.ACCESSORIES[scene.accessory][plural]
    if scene.action:
        text += " " + words.ACTIONS[scene.action][plural]
    if scene.context:
        text += " " + words.CONTEXTS[scene.context]
    return text, spans


def scene_of(caption: str, people: Sequence[Person]) -> Scene:
    """The scene whose caption of these people, without traits, is `caption`; raises ValueError if there is none."""
    kinds = (words.STYLES, (None, *words.ACCESSORIES), (None, *words.ACTIONS), (None, *words.CONTEXTS))
    for style, accessory, action, context in product(*kinds):
        scene = Scene(str(style), accessory, action, context)
        if compose_caption(people, scene)[0] == caption:
            return scene
    raise ValueError(f"no scene of the pocket world has the caption {caption!r}")


def render(
    people: Sequence[Person], scene: Scene, rng: np.random.Generator, first_on_left: bool | None = None
) -> Picture:
    """Draw one or two people in a scene; who stands left, pose, expression, clothes and light come from `rng`.

    `first_on_left` decides who stands left and changes nothing else. Raises ValueError for any other number of people.
    """
    if not 1 <= len(people) <= 2:
        raise ValueError(f"the pocket world shows one or two people, not {len(people)}")
    canvas = Canvas()
    draw_background(canvas, scene.context, rng)
    return paint(canvas, people, _poses(people, rng, first_on_left), scene, rng)


def paint(
    canvas: Canvas,
    people: Sequence[Person],
    poses: Sequence[Pose],
    scene: Scene,
    rng: np.random.Generator,
    cover: str | None = None,
) -> Picture:
    """Draw people over the background on a canvas, each in front of those before; light and paper come from `rng`.

    `cover` hides a part of each face (`portrait.COVERS`).
    """
    masks: list[NDArray[np.uint8]] = []
    drawn = []
    for person, pose in zip(people, poses, strict=True):
        result = draw_person(canvas, person, pose, scene.accessory, scene.action, cover)
        masks = [np.where(result.mask > 0, 0, mask).astype(np.uint8) for mask in masks]
        masks.append(result.mask)
        drawn.append(result)
    image = _stylize(_light(canvas.finish(), rng), scene.style, rng)
    return Picture(
        image=image,
        masks=np.array([shrink(mask) for mask in masks], np.uint8).reshape(-1, SIZE, SIZE),
        face_boxes=np.array([d.face_box for d in drawn], np.float32).reshape(-1, 4),
        landmarks=np.array([d.landmarks for d in drawn], np.float32).reshape(-1, 5, 2),
        people=tuple(people),
        scene=scene,
    )


def render_photograph(person: Person, seed: int) -> Picture:
    """A plain photograph of one person, as one would hand in as a reference: no accessory, any place or a wall."""
    rng = np.random.default_rng([7, person.seed, seed])
    context = str(rng.choice(list(words.CONTEXTS))) if rng.random() < 0.5 else None
    return render([person], Scene(context=context), rng)


def render_background(context: str | None, rng: np.random.Generator, style: str = "photo") -> NDArray[np.uint8]:
    """A picture without anyone in it, [128, 128, 3]."""
    canvas = Canvas()
    draw_background(canvas, context, rng)
    return _stylize(_light(canvas.finish(), rng), style, rng)


def render_seed(seed: int, people_seeds: Sequence[int], share_of_pairs: float = 0.5) -> Picture:
    """The picture of a seed: who (drawn from `people_seeds`), how many and in what scene all follow from it."""
    rng = np.random.default_rng([11, seed])
    count = 2 if rng.random() < share_of_pairs else 1
    chosen = rng.choice(len(people_seeds), count, replace=False)
    people = [make_person(int(people_seeds[i])) for i in chosen]
    return render(people, Scene.draw(rng), rng)


def _poses(people: Sequence[Person], rng: np.random.Generator, first_on_left: bool | None) -> list[Pose]:
    if len(people) == 1:
        height = rng.uniform(33, 40)
        return [Pose.draw(rng.uniform(56, 72), rng.uniform(58, 66), height / people[0].aspect, rng)]
    height = rng.uniform(26, 30)
    drawn = bool(rng.random() < 0.5)
    places = (33, 95) if (drawn if first_on_left is None else first_on_left) else (95, 33)
    return [
        Pose.draw(
            center + rng.uniform(-2, 2), rng.uniform(60, 68), height * rng.uniform(0.96, 1.04) / person.aspect, rng
        )
        for center, person in zip(places, people, strict=True)
    ]


def _light(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    gain = rng.uniform(0.88, 1.1) * (1 + rng.uniform(-0.1, 0.1) * ramp[None] + rng.uniform(-0.07, 0.07) * ramp[:, None])
    tint = np.array([rng.uniform(0.96, 1.04), 1, rng.uniform(0.96, 1.04)], np.float32)
    return np.clip(image * (gain[..., None].astype(np.float32) * tint), 0, 255).astype(np.uint8)


def _stylize(image: NDArray[np.uint8], style: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    if style == "photo":
        return image
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if style == "black-and-white":
        return np.repeat(np.clip((gray - 128) * 1.15 + 128, 0, 255)[..., None], 3, 2).astype(np.uint8)
    if style == "sketch":
        dodge = np.clip(gray / (cv2.GaussianBlur(gray, (0, 0), 2.2) + 1) * 255, 0, 255)
        drawn = np.clip(dodge * 0.62 + gray * 0.34 + 8, 0, 255)
        drawn = np.where(dodge < 240, drawn * 0.5, drawn)
        return np.clip(drawn[..., None] * np.array([1, 0.99, 0.95]), 0, 255).astype(np.uint8)
    if style == "watercolor":
        soft = cv2.medianBlur(image, 3) * 0.6 + cv2.bilateralFilter(image, 5, 40, 3) * 0.4
        wash = 255 - (255 - soft.astype(np.float32)) * 0.7
        paper = cv2.resize(rng.normal(0, 7, (12, 12)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        return np.clip(wash + paper[..., None], 0, 255).astype(np.uint8)
    raise ValueError(f"unknown style {style!r}; known: {', '.join(words.STYLES)}")
