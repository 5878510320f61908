"""The closed vocabulary of the pocket world: everything that a picture can show, with its words.

The renderer, the captions, the tokenizer and the suite all use these lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

STYLES = {
    "photo": "a photo of",
    "sketch": "a pencil sketch of",
    "black-and-white": "a black-and-white photograph of",
    "watercolor": "a watercolor painting of",
}
"""Style name -> the first words of a caption."""

CONTEXTS = {
    "snow": "in the snow",
    "beach": "on the beach",
    "jungle": "in the jungle",
    "city": "in the city",
    "night": "at night",
    "desert": "in the desert",
    "mountain": "in front of a mountain",
    "autumn": "in an autumn forest",
    "house": "in front of a blue house",
    "meadow": "in a flower meadow",
}
"""Context name -> the last words of a caption."""

ACCESSORIES = {
    "hat": ("wearing a red hat", "wearing red hats"),
    "santa": ("wearing a santa hat", "wearing santa hats"),
    "glasses": ("wearing pink glasses", "wearing pink glasses"),
    "scarf": ("wearing a rainbow scarf", "wearing rainbow scarves"),
    "shirt": ("wearing a yellow shirt", "wearing yellow shirts"),
}
"""Accessory or clothing -> its words for one person and for two."""

ACTIONS = {
    "book": ("holding a book", "holding books"),
    "cake": ("holding a cake", "holding cakes"),
}
"""Action -> its words for one person and for two."""

SKIN_TONES = {
    "pale": (250, 218, 188),
    "fair": (240, 196, 156),
    "tan": (218, 166, 118),
    "brown": (172, 118, 78),
    "dark": (106, 70, 48),
}
"""Skin word -> RGB; a person's skin tone can lie anywhere between two neighbors."""

HAIR_COLORS = {
    "black": (34, 30, 34),
    "brown": (98, 62, 38),
    "red": (168, 56, 34),
    "ginger": (226, 124, 46),
    "blond": (242, 210, 116),
    "grey": (158, 158, 164),
    "white": (236, 236, 232),
    "blue": (58, 112, 214),
    "pink": (242, 132, 176),
    "green": (64, 160, 92),
    "purple": (134, 82, 186),
}

HAIR_STYLES = {
    "bald": "a bald head",
    "short": "short {color} hair",
    "parted": "parted {color} hair",
    "spiky": "spiky {color} hair",
    "curly": "curly {color} hair",
    "bob": "a {color} bob",
    "long": "long {color} hair",
    "bun": "a {color} bun",
}

EYE_COLORS = {
    "brown": (92, 58, 34),
    "blue": (60, 120, 205),
    "green": (62, 150, 90),
    "grey": (120, 130, 140),
    "black": (28, 24, 26),
    "amber": (206, 140, 40),
}

FACIAL_HAIR = {"none": "", "stubble": "stubble", "moustache": "a moustache", "goatee": "a goatee", "beard": "a beard"}

_ANY = float("inf")
GEOMETRY_WORDS = {
    "a long face": ("aspect", 1.2, _ANY),
    "a round face": ("aspect", -_ANY, 1.2),
    "a wide jaw": ("jaw", 0.88, _ANY),
    "a narrow jaw": ("jaw", -_ANY, 0.68),
    "big eyes": ("eye_size", 1.25, _ANY),
    "small eyes": ("eye_size", -_ANY, 1.05),
    "close eyes": ("eye_spacing", -_ANY, 0.39),
    "wide-set eyes": ("eye_spacing", 0.44, _ANY),
    "thick eyebrows": ("brow_thickness", 0.09, _ANY),
    "thin eyebrows": ("brow_thickness", -_ANY, 0.045),
    "a wide nose": ("nose_width", 0.17, _ANY),
    "a thin nose": ("nose_width", -_ANY, 0.125),
    "a wide mouth": ("mouth_width", 0.42, _ANY),
    "a small mouth": ("mouth_width", -_ANY, 0.32),
    "full lips": ("lip_thickness", 0.12, _ANY),
    "freckles": ("freckles", 0, _ANY),
    "a mole": ("mole", 0, _ANY),
}
"""Words -> the trait they describe and the open range in which they hold; lengths in half face widths."""

CLASS_NOUNS = ("man", "woman")

_FUNCTION_WORDS = (
    "a an and the with of in on together person people men women image picture portrait face head hair eyes"
)
_RARE_TOKENS = "sks zwx"


def phrases() -> Iterator[str]:
    """Every phrase that a caption can contain."""
    yield from STYLES.values()
    yield from CONTEXTS.values()
    for singular, plural in (*ACCESSORIES.values(), *ACTIONS.values()):
        yield singular
        yield plural
    yield from SKIN_TONES
    yield from HAIR_COLORS
    yield from EYE_COLORS
    yield from (style.format(color="") for style in HAIR_STYLES.values())
    yield from FACIAL_HAIR.values()
    yield from GEOMETRY_WORDS
    yield from CLASS_NOUNS
    yield _FUNCTION_WORDS
    yield _RARE_TOKENS


def words() -> list[str]:
    """The sorted words of the closed vocabulary; as in CLIP's tokenizer, punctuation is separate from letters."""
    found: set[str] = set()
    for phrase in phrases():
        found.update(re.findall(r"[a-z]+|[^a-z\s]+", phrase.lower()))
    return sorted(found)
