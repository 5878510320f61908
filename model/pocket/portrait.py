"""Portraits of one person, drawn from traits (the identity) and a pose (the variation between pictures)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fc_bench.model.pocket.canvas import Canvas, Points, ellipse, hsv
from fc_bench.model.pocket.people import Person
from fc_bench.model.pocket_vocabulary import EYE_COLORS

_RAINBOW = [(228, 40, 50), (250, 150, 40), (250, 226, 60), (60, 180, 80), (50, 110, 220), (140, 70, 190)]
_PINK = (250, 60, 160)
_RED = (214, 34, 40)
_WHITE = (250, 250, 250)
_CLOTH = (120, 150, 170)

COVERS: Mapping[str, tuple[float, float, float, float]] = {
    "eyes": (-1.0, -0.3, 1.0, 0.12),
    "mouth": (-0.95, 0.2, 0.95, 1.0),
    "one side": (-1.05, -1.0, 0.0, 1.0),
}
"""What hides a part of a face -> left, top, right, bottom; half face widths across, half face heights down."""


@dataclass(frozen=True)
class Pose:
    """The variation between pictures of one person: place, size, head turn, expression and clothes."""

    x: float
    y: float
    radius: float
    roll: float
    yaw: float
    smile: float
    mouth_open: float
    eyes_open: float
    gaze: tuple[float, float]
    shirt: NDArray[np.float32]

    @classmethod
    def draw(cls, x: float, y: float, radius: float, rng: np.random.Generator) -> Pose:
        """A random pose of a head with half-width `radius` pixels centered at (x, y)."""
        return cls(
            x=x,
            y=y,
            radius=radius,
            roll=math.radians(rng.uniform(-9, 9)),
            yaw=rng.uniform(-0.13, 0.13),
            smile=rng.uniform(-0.06, 0.16),
            mouth_open=rng.uniform(0.08, 0.2) if rng.random() < 0.25 else 0.0,
            eyes_open=rng.uniform(0.8, 1.1),
            gaze=(rng.uniform(-0.05, 0.05), rng.uniform(-0.03, 0.03)),
            shirt=hsv(int(rng.integers(180)), rng.uniform(60, 200), rng.uniform(90, 230)),
        )


@dataclass(frozen=True)
class DrawnPerson:
    """The place of a drawn person: supersampled mask (0 or 255), face box x0 y0 x1 y1 and five landmarks, in pixels."""

    mask: NDArray[np.uint8]
    face_box: NDArray[np.float32]
    landmarks: NDArray[np.float32]


def draw_person(
    canvas: Canvas,
    person: Person,
    pose: Pose,
    accessory: str | None = None,
    action: str | None = None,
    cover: str | None = None,
) -> DrawnPerson:
    """Draw a person from back to front and return their place; the landmarks are eyes, nose and mouth corners.

    `cover` is one of `COVERS`, or None.
    """
    artist = _Artist(canvas, person, pose)
    canvas.begin_mask()
    artist.back_hair()
    artist.body(yellow=accessory == "shirt")
    artist.face()
    artist.nose_and_mouth()
    artist.eyes()
    artist.front_hair()
    if accessory == "hat":
        artist.hat()
    elif accessory == "santa":
        artist.santa_hat()
    elif accessory == "glasses":
        artist.glasses()
    elif accessory == "scarf":
        artist.scarf()
    if action == "book":
        artist.book()
    elif action == "cake":
        artist.cake()
    if cover is not None:
        artist.cover(COVERS[cover])
    outline = artist.on_head(artist.outline)
    box = np.concatenate([outline.min(0), outline.max(0)]).astype(np.float32)
    return DrawnPerson(canvas.end_mask(), box, artist.landmarks())


class _Artist:
    """Draws parts in the head's coordinates: unit = half the face's width, origin = its center, y down."""

    def __init__(self, canvas: Canvas, person: Person, pose: Pose) -> None:
        self.canvas, self.person, self.pose = canvas, person, pose
        self.rotation = np.array(
            [[math.cos(pose.roll), -math.sin(pose.roll)], [math.sin(pose.roll), math.cos(pose.roll)]], np.float32
        )
        outline = ellipse(0, 0, 1, person.aspect)
        lower = outline[:, 1] > 0
        outline[lower, 0] *= 1 - (1 - person.jaw) * (outline[lower, 1] / person.aspect) ** 2
        self.outline = outline
        self.eye_y = person.eye_height * person.aspect
        self.mouth_y = person.mouth_height * person.aspect
        self.nose_y = self.eye_y + person.nose_length + 0.12
        self.brush = 1.0 * pose.radius

    def on_head(self, points: ArrayLike) -> Points:
        """Head coordinates to pixels, turned with the head."""
        turned = np.atleast_2d(np.asarray(points, np.float32)) @ self.rotation.T
        return turned * self.pose.radius + np.array([self.pose.x, self.pose.y], np.float32)

    def on_body(self, points: ArrayLike) -> Points:
        """Head coordinates to pixels, upright below the head."""
        neck = np.array([self.pose.x - 0.5 * math.sin(self.pose.roll) * self.pose.radius, self.pose.y], np.float32)
        return np.asarray(points, np.float32) * self.pose.radius + neck

    def shape(self, points: ArrayLike, color: ArrayLike, mask: bool = False) -> None:
        self.canvas.polygon(self.on_head(points), color, mask)

    def back_hair(self) -> None:
        person, tall, volume = self.person, self.person.aspect, self.person.hair_volume
        style, shade = person.hair_style, person.hair * 0.86
        crown = [(-volume * 0.9, -tall * 0.95), (0, -tall * 1.18), (volume * 0.9, -tall * 0.95)]
        if style == "bob":
            left = [(-0.7, 0.95 * tall), (-volume * 1.2, 0.72 * tall), (-volume * 1.12, -0.2 * tall)]
            right = [(volume * 1.12, -0.2 * tall), (volume * 1.2, 0.72 * tall), (0.7, 0.95 * tall)]
            self.shape([*left, *crown, *right], shade, True)
        elif style == "long":
            left = [(-volume * 1.28, 1.9), (-volume * 1.1, -0.2 * tall)]
            right = [(volume * 1.1, -0.2 * tall), (volume * 1.28, 1.9)]
            self.shape([*left, *crown, *right], shade, True)
        elif style == "bun":
            self.shape(ellipse(0, -tall - 0.22 * volume, 0.42 * volume, 0.38 * volume), shade, True)
        elif style == "curly":
            for angle in np.linspace(-math.pi * 1.12, math.pi * 0.12, 10):
                x, y = 1.02 * volume * math.cos(angle), tall * 0.92 * math.sin(angle) - 0.02
                self.shape(ellipse(x, y, 0.38 * volume, 0.38 * volume), shade, True)

    def body(self, yellow: bool) -> None:
        tall, width = self.person.aspect, 1.75 * self.person.shoulders
        shirt = (250, 214, 30) if yellow else self.pose.shirt
        slope = [(-width, tall + 0.95), (-width * 0.72, tall + 0.52), (-0.36, tall + 0.26)]
        mirrored = [(-x, y) for x, y in reversed(slope)]
        self.canvas.polygon(self.on_body([(-width, 4.5), *slope, *mirrored, (width, 4.5)]), shirt, True)
        neck = [(-0.36, 0.6), (0.36, 0.6), (0.38, tall + 0.3), (0, tall + 0.52), (-0.38, tall + 0.3)]
        self.canvas.polygon(self.on_body(neck), self.person.skin * 0.78, True)

    def face(self) -> None:
        person, tall = self.person, self.person.aspect
        for side in (-1, 1):
            self.shape(ellipse(side * 0.99, 0.02, person.ear, person.ear * 1.35), person.skin * 0.92, True)
        self.shape(self.outline, person.skin, True)
        opening = [(-0.62, 0.3 * tall), (-0.3, self.mouth_y - 0.2), (0.3, self.mouth_y - 0.2), (0.62, 0.3 * tall)]
        lower = self.outline[self.outline[:, 1] >= 0.1 * tall]
        if person.facial_hair == "beard":
            self.shape(np.concatenate([lower * (1.04, 1.07), opening]), person.hair * 0.92, True)
        elif person.facial_hair == "stubble":
            self.shape(np.concatenate([lower, opening]), person.skin * 0.7 + person.hair * 0.24)
        if person.freckles:
            for dx, dy in ((0.5, 0.2), (0.62, 0.28), (0.42, 0.3), (0.55, 0.36)):
                for side in (-1, 1):
                    x, y = self.on_head((side * dx + self.pose.yaw, self.eye_y + dy))[0]
                    self.canvas.disc(x, y, 0.045 * self.brush, person.skin * 0.68)

    def nose_and_mouth(self) -> None:
        person, tall, yaw = self.person, self.person.aspect, self.pose.yaw
        shade, width, x = person.skin * 0.78, person.nose_width, yaw * 1.3
        top, bottom = self.eye_y, self.nose_y
        if person.nose_shape == 0:
            bridge = [(x - 0.02, top + 0.08), (x - width * 0.7, bottom), (x + width * 0.5, bottom + 0.02)]
            self.canvas.line(self.on_head(bridge), shade, 0.08 * self.brush)
        elif person.nose_shape == 1:
            self.shape([(x, top + 0.1), (x - width, bottom + 0.04), (x + width, bottom + 0.04)], shade)
        else:
            self.shape(ellipse(x, bottom - 0.02, width * 1.15, width * 0.85), shade)
        mouth, lip, opened = person.mouth_width, person.lip_thickness, self.pose.mouth_open
        across = np.linspace(-1, 1, 9)
        arch = 1 - across**2
        middle = self.mouth_y + self.pose.smile * arch
        if person.facial_hair == "goatee":
            chin = tall - self.mouth_y
            self.shape(
                ellipse(yaw * 0.5, self.mouth_y + 0.2 + chin * 0.42, 0.34, chin * 0.55), person.hair * 0.92, True
            )
        upper = np.stack([across * mouth + yaw, middle - lip * 0.5 * arch], 1)
        below = np.stack([across * mouth + yaw, middle + (opened + lip) * arch], 1)
        self.shape(np.concatenate([upper, below[::-1]]), person.lip_color)
        if opened:
            inner_top = np.stack([across * mouth * 0.8 + yaw, middle + lip * 0.1], 1)
            inner_bottom = np.stack([across * mouth * 0.8 + yaw, middle + opened * arch], 1)
            self.shape(np.concatenate([inner_top, inner_bottom[::-1]]), (92, 24, 34))
            teeth = np.stack([across * mouth * 0.6 + yaw, middle + lip * 0.2], 1)
            self.canvas.line(self.on_head(teeth), (250, 248, 244), 0.05 * self.brush)
        if person.facial_hair in ("moustache", "goatee"):
            half = [
                (0.7 * mouth, self.mouth_y - 0.06),
                (1.05 * mouth, self.mouth_y + 0.06),
                (0.06, self.mouth_y - 0.03),
            ]
            mirrored = [(-dx, y) for dx, y in reversed(half)]
            points = [(0.0, bottom + 0.07), *half, *mirrored]
            self.shape([(yaw + dx, y) for dx, y in points], person.hair * 0.92)
        if person.mole:
            dx, dy = [(0.45, 0.5), (-0.48, 0.42), (0.2, 0.86)][person.mole - 1]
            x, y = self.on_head((dx + yaw * 0.7, dy * tall))[0]
            self.canvas.disc(x, y, 0.065 * self.brush, (60, 34, 28))

    def eyes(self) -> None:
        person, pose, size = self.person, self.pose, self.person.eye_size
        man = person.noun == "man"
        brow_color = np.minimum(person.hair * 0.75, person.skin * 0.82)
        lid = size * pose.eyes_open
        for side in (-1, 1):
            x, y = side * person.eye_spacing + pose.yaw, self.eye_y
            self.shape(ellipse(x, y, 0.19 * size, 0.135 * lid), (252, 252, 250))
            gx, gy = x + pose.gaze[0], y + pose.gaze[1]
            iris = 0.115 * size * min(pose.eyes_open, 1)
            self.shape(ellipse(gx, gy, 0.105 * size, iris), EYE_COLORS[person.eye_color])
            self.shape(ellipse(gx, gy, 0.05 * size, 0.055 * size), (16, 14, 18))
            lash_y = y - 0.135 * lid * np.array([0.15, 0.8, 1, 0.8, 0.15])
            lash = np.stack([x + np.linspace(-0.2, 0.2, 5) * size, lash_y], 1)
            color, width = (person.skin * 0.36, 0.035) if man else ((30, 22, 26), 0.07)
            self.canvas.line(self.on_head(lash), color, width * self.brush)
            span = np.array([-0.22, 0, 0.22])
            brow_y = y - (person.brow_height * size + 0.06) + span * person.brow_tilt * side - np.array([0, 0.05, 0])
            thick = np.array([0, person.brow_thickness * 0.6])
            brow = np.stack([x + span, brow_y], 1)
            self.shape(np.concatenate([brow - thick, (brow + thick)[::-1]]), brow_color)

    def front_hair(self) -> None:
        person, tall, volume = self.person, self.person.aspect, self.person.hair_volume
        style = person.hair_style
        if style == "bald":
            return
        count = 17
        angle = np.linspace(math.pi * 1.03, math.pi * 1.97, count)
        outer = np.stack([volume * np.cos(angle), tall * volume * 0.98 * np.sin(angle)], 1)
        x = np.linspace(1.0, -1.0, count)
        side = np.abs(x)
        line = -person.hairline * tall
        fringe = {
            "short": line + 0.28 * tall * side**3,
            "curly": line + 0.28 * tall * side**3,
            "parted": line - 0.1 * tall + 0.2 * tall * np.clip(x + 0.45, 0, 2) + 0.5 * tall * np.clip(-0.45 - x, 0, 1),
            "spiky": line + 0.2 * tall * np.abs((x * 2.5) % 1 - 0.5) + 0.2 * tall * side**3,
            "bob": line + 0.12 * tall + 0.25 * tall * side**4,
            "long": line - 0.22 * tall + 0.62 * tall * side**1.3,
            "bun": line - 0.12 * tall + 0.38 * tall * side**3,
        }[style]
        if style == "spiky":
            spikes = (np.arange(count) % 2) * (np.sin(angle) < -0.25)
            outer = outer * (1 + 0.24 * volume * spikes[:, None])
        inner = np.stack([x * 0.99, np.minimum(fringe, 0.1 * tall)], 1)
        self.shape(np.concatenate([outer, inner]), person.hair, True)
        if style == "curly":
            for turn in np.linspace(-math.pi * 0.95, -math.pi * 0.05, 8):
                center = (0.88 * volume * math.cos(turn), tall * 0.86 * math.sin(turn) - 0.02)
                shade = person.hair * (0.94 + 0.06 * (int(turn * 10) % 2))
                self.shape(ellipse(*center, 0.27 * volume, 0.25 * volume), shade, True)
        if style in ("long", "bob"):
            length = 1.7 if style == "long" else 0.7 * tall
            for sign in (-1, 1):
                strand = [(0.86, -0.35 * tall), (volume * 1.04, -0.4 * tall), (volume * 1.16, length), (0.92, length)]
                self.shape([(sign * sx, sy) for sx, sy in [*strand, (0.9, 0.2)]], person.hair, True)

    def hat(self) -> None:
        tall, brim = self.person.aspect, 0.95 * self.person.hair_volume
        crown = [(-brim, -0.62 * tall), (-0.85, -1.35 * tall), (-0.4, -1.52 * tall)]
        self.shape([*crown, *[(-x, y) for x, y in reversed(crown)]], _RED, True)
        self.shape(ellipse(0, -0.62 * tall, 1.5, 0.17), (182, 22, 30), True)

    def santa_hat(self) -> None:
        tall, edge = self.person.aspect, self.person.hair_volume
        cone = [(-1.02 * edge, -0.6), (-0.5, -1.35), (0.55, -1.62), (1.35, -0.95), (0.75, -1.15), (1.02 * edge, -0.6)]
        self.shape([(x, y * tall) for x, y in cone], (206, 28, 34), True)
        band = [(-1.1 * edge, -0.76), (1.1 * edge, -0.76), (1.1 * edge, -0.5), (-1.1 * edge, -0.5)]
        self.shape([(x, y * tall) for x, y in band], _WHITE, True)
        self.shape(ellipse(1.4, -0.9 * tall, 0.24, 0.24), _WHITE, True)

    def glasses(self) -> None:
        spacing, yaw = self.person.eye_spacing, self.pose.yaw
        for side in (-1, 1):
            rim = self.on_head(ellipse(side * spacing + yaw, self.eye_y + 0.02, 0.32, 0.27))
            self.canvas.line(rim, _PINK, 0.1 * self.brush, closed=True)
        bridge = [(-spacing + 0.32 + yaw, self.eye_y), (spacing - 0.32 + yaw, self.eye_y)]
        self.canvas.line(self.on_head(bridge), _PINK, 0.1 * self.brush)

    def scarf(self) -> None:
        chin = self.person.aspect
        for stripe, color in enumerate(_RAINBOW):
            y, half = chin + 0.02 + stripe * 0.085, 0.62 + 0.02 * stripe
            band = [(-half, y), (0, y + 0.16), (half, y), (half, y + 0.1), (0, y + 0.26), (-half, y + 0.1)]
            self.canvas.polygon(self.on_body(band), color, True)
        for stripe, color in enumerate(_RAINBOW):
            x0, x1 = 0.18 + 0.075 * stripe, 0.18 + 0.085 * stripe
            tail = [(x0, chin + 0.5), (x0 + 0.08, chin + 0.5), (x1 + 0.1, chin + 1.25), (x1, chin + 1.25)]
            self.canvas.polygon(self.on_body(tail), color, True)

    def cover(self, box: tuple[float, float, float, float]) -> None:
        left, top, right, bottom = np.array(box) * (1, self.person.aspect, 1, self.person.aspect)
        self.shape([(left, top), (right, top), (right, bottom), (left, bottom)], _CLOTH, True)

    def _held_at(self) -> float:
        """Height of a held object: below the chin, but inside the picture."""
        return min(self.person.aspect + 0.6, (122 - self.pose.y) / self.pose.radius - 0.5)

    def _hands(self, y: float) -> None:
        for side in (-1, 1):
            self.canvas.polygon(self.on_body(ellipse(side * 0.72, y + 0.5, 0.17, 0.17)), self.person.skin * 0.95, True)

    def book(self) -> None:
        y = self._held_at()
        cover = [(-0.72, y), (0, y + 0.1), (0.72, y), (0.72, y + 0.78), (0, y + 0.88), (-0.72, y + 0.78)]
        self.canvas.polygon(self.on_body(cover), (150, 44, 40), True)
        for side, color in ((-1, (252, 248, 232)), (1, (238, 232, 212))):
            page = [(side * 0.64, y - 0.06), (0, y + 0.06), (0, y + 0.74), (side * 0.64, y + 0.66)]
            self.canvas.polygon(self.on_body(page), color, True)
        self._hands(y)

    def cake(self) -> None:
        y = self._held_at()
        base = [(-0.6, y + 0.2), (0.6, y + 0.2), (0.6, y + 0.8), (-0.6, y + 0.8)]
        self.canvas.polygon(self.on_body(base), (244, 150, 186), True)
        icing = [(-0.6, 0.14), (0.6, 0.14), (0.6, 0.34), (0.3, 0.46), (0, 0.34), (-0.3, 0.46), (-0.6, 0.34)]
        self.canvas.polygon(self.on_body([(x, y + dy) for x, dy in icing]), (255, 250, 246), True)
        candle = [(-0.05, y - 0.16), (0.05, y - 0.16), (0.05, y + 0.16), (-0.05, y + 0.16)]
        self.canvas.polygon(self.on_body(candle), (90, 150, 230), True)
        self.canvas.polygon(self.on_body(ellipse(0, y - 0.24, 0.07, 0.1)), (255, 190, 50), True)
        self._hands(y)

    def landmarks(self) -> NDArray[np.float32]:
        """Left eye, right eye, nose tip, left and right mouth corner, [5, 2] pixels."""
        person, yaw = self.person, self.pose.yaw
        return self.on_head(
            [
                (-person.eye_spacing + yaw, self.eye_y),
                (person.eye_spacing + yaw, self.eye_y),
                (yaw * 1.3, self.nose_y),
                (yaw - person.mouth_width, self.mouth_y),
                (yaw + person.mouth_width, self.mouth_y),
            ]
        )
