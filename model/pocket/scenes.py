"""Backgrounds of the pocket world, with one function per context, which draws on a canvas with a random generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fc_bench.model.pocket.canvas import SIZE, Canvas, hsv

Rng = np.random.Generator


def draw_background(canvas: Canvas, context: str | None, rng: Rng) -> None:
    """Draw a context of `pocket_vocabulary.CONTEXTS`, or a plain colored wall for None."""
    if context is None:
        _plain(canvas, rng)
    else:
        _CONTEXTS[context](canvas, rng)


def _near(color: ArrayLike, rng: Rng, spread: float = 7) -> NDArray[np.float32]:
    return np.clip(np.asarray(color) + rng.normal(0, spread, 3), 0, 255).astype(np.float32)


def _plain(canvas: Canvas, rng: Rng) -> None:
    color = hsv(int(rng.integers(180)), rng.uniform(20, 120), rng.uniform(120, 245))
    canvas.gradient(color, color * rng.uniform(0.75, 1))


def _snow(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((150, 190, 225), rng), _near((215, 230, 242), rng))
    y = rng.uniform(70, 85)
    hills = [(0, y), (40, y - rng.uniform(0, 8)), (90, y + rng.uniform(0, 6)), (SIZE, y - 4), (SIZE, SIZE), (0, SIZE)]
    canvas.polygon(hills, (244, 248, 252))
    for x in (rng.uniform(6, 22), rng.uniform(106, 122), rng.uniform(40, 88)):
        height = rng.uniform(26, 40)
        for layer in range(3):
            top, half = y - height + layer * 9, 7 + layer * 2
            canvas.polygon([(x, top), (x - half, top + 16), (x + half, top + 16)], (70, 120, 100))
    for _ in range(40):
        canvas.disc(rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(0.9, 1.8), (255, 255, 255))


def _beach(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((110, 190, 240), rng), _near((190, 230, 250), rng))
    canvas.disc(rng.choice([rng.uniform(8, 26), rng.uniform(102, 120)]), rng.uniform(10, 22), 9, (255, 236, 120))
    y = rng.uniform(52, 64)
    canvas.rectangle(0, y, SIZE, y + 22, _near((30, 120, 190), rng))
    canvas.rectangle(0, y + 18, SIZE, y + 23, (200, 235, 245))
    canvas.rectangle(0, y + 22, SIZE, SIZE, _near((240, 214, 150), rng))


def _jungle(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((22, 84, 40), rng), _near((12, 58, 28), rng))
    for _ in range(18):
        start = rng.uniform(0, SIZE, 2)
        angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(16, 28)
        along = np.array([math.cos(angle), math.sin(angle)])
        across = np.array([-along[1], along[0]])
        middle = start + along * length * 0.5
        leaf = [start, middle + across * length * 0.22, start + along * length, middle - across * length * 0.22]
        canvas.polygon(leaf, _near((40, 150, 60), rng, 18))


def _city(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((170, 200, 225), rng), _near((220, 225, 230), rng))
    x = -4.0
    while x < SIZE:
        width, top = rng.uniform(16, 26), rng.uniform(8, 50)
        canvas.rectangle(x, top, x + width, SIZE, _near((112, 116, 130), rng, 12))
        for row in np.arange(top + 4, 110, 10):
            for column in np.arange(x + 3, x + width - 4, 7):
                lit = rng.random() < 0.5
                canvas.rectangle(column, row, column + 4, row + 5, (250, 232, 150) if lit else (80, 86, 100))
        x += width + rng.uniform(0, 3)


def _night(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((10, 14, 46), rng, 5), _near((34, 38, 92), rng, 6))
    for _ in range(32):
        canvas.disc(rng.uniform(0, SIZE), rng.uniform(0, 110), rng.uniform(0.7, 1.4), (250, 248, 220))
    x, y = rng.choice([rng.uniform(10, 26), rng.uniform(102, 118)]), rng.uniform(10, 24)
    canvas.disc(x, y, 9, (250, 244, 200))
    canvas.disc(x + 4, y - 2, 8, (14, 18, 52))


def _desert(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((250, 170, 90), rng), _near((255, 220, 150), rng))
    y = rng.uniform(62, 80)
    dunes = [(0, y), (35, y - 10), (80, y + 6), (SIZE, y - 8), (SIZE, SIZE), (0, SIZE)]
    canvas.polygon(dunes, _near((222, 150, 80), rng))
    for x in (rng.uniform(6, 20), rng.uniform(108, 122)):
        canvas.line([(x, y + 14), (x, y - 16)], (50, 130, 70), 5)
        canvas.line([(x, y), (x + 7, y), (x + 7, y - 9)], (50, 130, 70), 3.5)


def _mountain(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((140, 190, 235), rng), _near((215, 232, 245), rng))
    ground = 92
    for x, height in (
        (rng.uniform(0, 36), rng.uniform(66, 80)),
        (rng.uniform(92, SIZE), rng.uniform(66, 82)),
        (rng.uniform(50, 78), rng.uniform(56, 72)),
    ):
        top = ground - height
        canvas.polygon([(x - 46, ground), (x, top), (x + 46, ground)], _near((104, 112, 134), rng))
        snow = [(-11, 0.24), (0, 0), (11, 0.24), (4, 0.3), (-3, 0.22)]
        canvas.polygon([(x + dx, top + height * dy) for dx, dy in snow], (250, 252, 255))
    canvas.rectangle(0, ground - 2, SIZE, SIZE, _near((96, 160, 84), rng))


def _autumn(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((240, 200, 120), rng), _near((206, 140, 62), rng))
    for low, high in ((4, 24), (30, 58), (70, 98), (104, 124)):
        x = rng.uniform(low, high)
        canvas.rectangle(x - 3.5, 0, x + 3.5, SIZE, _near((92, 58, 34), rng))
    for _ in range(42):
        y = rng.uniform(0, SIZE) if rng.random() < 0.3 else rng.uniform(0, 46)
        canvas.disc(rng.uniform(0, SIZE), y, rng.uniform(3.5, 6), _near((220, 96, 30), rng, 22))


def _house(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((180, 215, 240), rng), _near((225, 238, 246), rng))
    canvas.rectangle(0, 96, SIZE, SIZE, _near((110, 176, 90), rng))
    canvas.rectangle(6, 34, 122, 100, _near((62, 112, 206), rng))
    canvas.polygon([(0, 36), (64, rng.uniform(-6, 4)), (SIZE, 36)], _near((150, 62, 50), rng))
    for x in (11, 97):
        canvas.rectangle(x, 48, x + 20, 72, (250, 246, 225))
        canvas.line([(x + 10, 48), (x + 10, 72)], (62, 90, 140), 1.6)
        canvas.line([(x, 60), (x + 20, 60)], (62, 90, 140), 1.6)


def _meadow(canvas: Canvas, rng: Rng) -> None:
    canvas.gradient(_near((150, 210, 245), rng), _near((200, 232, 246), rng))
    y = rng.uniform(46, 60)
    canvas.rectangle(0, y, SIZE, SIZE, _near((104, 186, 84), rng))
    petals = [(240, 80, 110), (250, 220, 70), (250, 250, 250), (180, 90, 220)]
    for _ in range(40):
        x, flower = rng.uniform(0, SIZE), rng.uniform(y + 2, SIZE)
        canvas.disc(x, flower, rng.uniform(2, 3.2), petals[int(rng.integers(4))])
        canvas.disc(x, flower, 1, (255, 200, 60))


_CONTEXTS: dict[str, Callable[[Canvas, Rng], None]] = {
    "snow": _snow,
    "beach": _beach,
    "jungle": _jungle,
    "city": _city,
    "night": _night,
    "desert": _desert,
    "mountain": _mountain,
    "autumn": _autumn,
    "house": _house,
    "meadow": _meadow,
}
