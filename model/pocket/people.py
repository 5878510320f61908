"""Identities of the pocket world: who a person is, apart from pose, expression, light and surroundings.

A person is drawn from a seed. Seeds are split into disjoint ranges, so that no one is both trained on and measured on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fc_bench.model import pocket_vocabulary as words

TRAINING_PEOPLE = range(0, 100_000)
"""Seeds of the people that the generator and CLIP are trained on."""
EVALUATION_PEOPLE = range(100_000, 200_000)
"""Seeds of the people that suites show; nothing is trained on them."""
RECOGNIZER_PEOPLE = range(200_000, 300_000)
"""Seeds of the people that the face detector and recognizer are trained on."""
HELD_OUT_RECOGNIZER_PEOPLE = range(300_000, 400_000)
"""Seeds of the people that the recognizer's and detector's held-out quality is measured on."""

Color = NDArray[np.float32]

_HAIR_COLOR_SHARE = np.array([0.16, 0.16, 0.1, 0.12, 0.13, 0.08, 0.06, 0.05, 0.05, 0.04, 0.05])
_HAIR_STYLE_SHARE = {
    "man": np.array([0.12, 0.19, 0.19, 0.18, 0.14, 0.0, 0.1, 0.08]),
    "woman": np.array([0.0, 0.08, 0.08, 0.04, 0.19, 0.2, 0.23, 0.18]),
}
_FACIAL_HAIR_SHARE = np.array([0.42, 0.12, 0.15, 0.13, 0.18])


@dataclass(frozen=True)
class Person:
    """One identity; lengths are in units of half the face's width, angles in radians, colors RGB 0-255."""

    seed: int
    noun: str
    skin: Color
    skin_level: float
    hair: Color
    hair_color: str
    hair_style: str
    hair_volume: float
    hairline: float
    eye_color: str
    facial_hair: str
    aspect: float
    jaw: float
    ear: float
    shoulders: float
    eye_spacing: float
    eye_size: float
    eye_height: float
    brow_thickness: float
    brow_tilt: float
    brow_height: float
    nose_shape: int
    nose_width: float
    nose_length: float
    mouth_width: float
    mouth_height: float
    lip_thickness: float
    lip_color: Color
    freckles: bool
    mole: int

    @property
    def skin_word(self) -> str:
        """The word of the vocabulary for the skin tone."""
        return list(words.SKIN_TONES)[round(self.skin_level)]


def make_person(seed: int, noun: str | None = None) -> Person:
    """The person of a seed, always the same one; `noun` ("man" or "woman") overrides the drawn class noun."""
    rng = np.random.default_rng([20230517, seed])

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    drawn_noun = words.CLASS_NOUNS[int(rng.random() < 0.5)]
    noun = noun or drawn_noun
    man = noun == "man"
    tones = np.array(list(words.SKIN_TONES.values()), np.float32)
    level = between(0, len(tones) - 1)
    lower = min(int(level), len(tones) - 2)
    skin = tones[lower] + (tones[lower + 1] - tones[lower]) * (level - lower) + rng.normal(0, 4, 3)
    colors = list(words.HAIR_COLORS)
    hair_color = colors[int(rng.choice(len(colors), p=_HAIR_COLOR_SHARE / _HAIR_COLOR_SHARE.sum()))]
    hair = np.array(words.HAIR_COLORS[hair_color], np.float32) + rng.normal(0, 8, 3)
    shares = _HAIR_STYLE_SHARE[noun]
    hair_style = list(words.HAIR_STYLES)[int(rng.choice(len(shares), p=shares / shares.sum()))]
    beard = list(words.FACIAL_HAIR)[int(rng.choice(len(_FACIAL_HAIR_SHARE), p=_FACIAL_HAIR_SHARE))]
    lips = np.array([166, 92, 80] if man else [196, 70, 84], np.float32) + rng.normal(0, 14, 3)
    return Person(
        seed=seed,
        noun=noun,
        skin=np.clip(skin, 0, 255).astype(np.float32),
        skin_level=level,
        hair=np.clip(hair, 0, 255).astype(np.float32),
        hair_color=hair_color,
        hair_style=hair_style,
        hair_volume=between(1.06, 1.2),
        hairline=between(0.42, 0.62),
        eye_color=list(words.EYE_COLORS)[int(rng.integers(len(words.EYE_COLORS)))],
        facial_hair=beard if man else "none",
        aspect=between(1.05, 1.36),
        jaw=between(0.72, 1.0) if man else between(0.58, 0.85),
        ear=between(0.14, 0.22),
        shoulders=between(0.9, 1.15) * (1.12 if man else 0.92),
        eye_spacing=between(0.36, 0.47),
        eye_size=between(0.9, 1.35) * (1.0 if man else 1.1),
        eye_height=between(-0.12, 0.06),
        brow_thickness=between(0.06, 0.11) if man else between(0.03, 0.065),
        brow_tilt=between(-0.25, 0.25),
        brow_height=between(0.24, 0.34),
        nose_shape=int(rng.integers(3)),
        nose_width=between(0.1, 0.2),
        nose_length=between(0.26, 0.44),
        mouth_width=between(0.28, 0.46),
        mouth_height=between(0.55, 0.66),
        lip_thickness=between(0.05, 0.09) if man else between(0.08, 0.14),
        lip_color=np.clip(lips, 0, 255).astype(np.float32),
        freckles=bool(rng.random() < 0.25),
        mole=int(rng.choice(4, p=[0.6, 0.14, 0.13, 0.13])),
    )


def describe(person: Person, rng: np.random.Generator, most: int) -> tuple[str, str]:
    """Words before the class noun (skin, perhaps empty) and a "with ..." clause naming up to `most` further traits."""
    before = person.skin_word if rng.random() < 0.75 else ""
    hair = words.HAIR_STYLES[person.hair_style].format(color=person.hair_color)
    traits = [f"{person.eye_color} eyes", *_geometry_words(person)]
    if person.facial_hair != "none":
        traits.append(words.FACIAL_HAIR[person.facial_hair])
    chosen = [traits[i] for i in rng.permutation(len(traits))[: int(rng.integers(0, most))]]
    if rng.random() < 0.9:
        chosen.append(hair)
    order = rng.permutation(len(chosen))
    clause = " and ".join(chosen[i] for i in order)
    return before, f"with {clause}" if clause else ""


def _geometry_words(person: Person) -> list[str]:
    ranges = words.GEOMETRY_WORDS.items()
    return [phrase for phrase, (trait, low, high) in ranges if low < getattr(person, trait) < high]


def trait_vector(person: Person) -> NDArray[np.float32]:
    """A person's traits as a vector in which Euclidean distance is how different two people look, [53].

    Continuous traits are scaled to their spread, categories are one-hot; each is weighted by how much of the picture it
    changes. The recognizer's similarity is trained to fall with this distance.
    """

    def scaled(value: float, low: float, high: float, weight: float) -> float:
        return weight * (2 * (value - low) / (high - low) - 1)

    def one_hot(value: str | int, options: list[str] | range, weight: float) -> list[float]:
        return [weight * float(value == option) for option in options]

    bald = person.hair_style == "bald"
    hair = np.zeros(3) if bald else (person.hair / 127.5 - 1) * 1.1
    return np.array(
        [
            *(person.skin / 127.5 - 1) * 1.6,
            *hair,
            *one_hot(person.hair_style, list(words.HAIR_STYLES), 0.8),
            *one_hot(person.facial_hair, list(words.FACIAL_HAIR), 0.7),
            *one_hot(person.eye_color, list(words.EYE_COLORS), 0.35),
            *one_hot(person.nose_shape, range(3), 0.35),
            *one_hot(person.mole, range(4), 0.2),
            0.5 * (person.noun == "man"),
            0.4 * person.freckles,
            scaled(person.aspect, 1.05, 1.36, 0.5),
            scaled(person.jaw, 0.58, 1.0, 0.35),
            scaled(person.hair_volume, 1.06, 1.2, 0.1),
            scaled(person.hairline, 0.42, 0.62, 0.2),
            scaled(person.ear, 0.14, 0.22, 0.1),
            scaled(person.eye_spacing, 0.36, 0.47, 0.3),
            scaled(person.eye_size, 0.9, 1.49, 0.4),
            scaled(person.eye_height, -0.12, 0.06, 0.3),
            scaled(person.brow_thickness, 0.03, 0.11, 0.35),
            scaled(person.brow_tilt, -0.25, 0.25, 0.25),
            scaled(person.brow_height, 0.24, 0.34, 0.15),
            scaled(person.nose_width, 0.1, 0.2, 0.2),
            scaled(person.nose_length, 0.26, 0.44, 0.3),
            scaled(person.mouth_width, 0.28, 0.46, 0.3),
            scaled(person.mouth_height, 0.55, 0.66, 0.2),
            scaled(person.lip_thickness, 0.05, 0.14, 0.3),
            *(person.lip_color / 127.5 - 1) * 0.3,
        ],
        np.float32,
    )
