"""Antialiased drawing on a supersampled image, with optional masks of the drawn shapes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZE = 128
"""Side of a finished picture in pixels."""

_SUPERSAMPLING = 2
_SHIFT = 4
_FIXED_POINT = _SUPERSAMPLING * (1 << _SHIFT)
_ANGLES = np.linspace(0, 2 * np.pi, 33)[:-1]

Points = NDArray[np.float32]


def ellipse(cx: float, cy: float, rx: float, ry: float) -> Points:
    """Outline of an axis-aligned ellipse, [32, 2]."""
    return np.stack([cx + rx * np.cos(_ANGLES), cy + ry * np.sin(_ANGLES)], 1).astype(np.float32)


def _fixed(points: ArrayLike) -> NDArray[np.int32]:
    return np.round(np.asarray(points, np.float32) * _FIXED_POINT).astype(np.int32)


def _color(color: ArrayLike) -> tuple[float, ...]:
    return tuple(float(c) for c in np.asarray(color))


class Canvas:
    """A 128 x 128 RGB picture that is drawn at twice its size; coordinates are in picture pixels."""

    def __init__(self) -> None:
        self.pixels = np.zeros((SIZE * _SUPERSAMPLING, SIZE * _SUPERSAMPLING, 3), np.uint8)
        self._mask: NDArray[np.uint8] | None = None

    def begin_mask(self) -> None:
        """Start a new mask, to which every following shape with `mask=True` is added."""
        self._mask = np.zeros(self.pixels.shape[:2], np.uint8)

    def end_mask(self) -> NDArray[np.uint8]:
        """The mask since `begin_mask`, supersampled, 0 or 255."""
        if self._mask is None:
            raise RuntimeError("end_mask without begin_mask")
        mask, self._mask = self._mask, None
        return mask

    def polygon(self, points: ArrayLike, color: ArrayLike, mask: bool = False) -> None:
        """Fill a polygon."""
        fixed = _fixed(points)
        cv2.fillPoly(self.pixels, [fixed], _color(color), cv2.LINE_AA, _SHIFT)
        if mask and self._mask is not None:
            cv2.fillPoly(self._mask, [fixed], (255,), cv2.LINE_8, _SHIFT)

    def line(self, points: ArrayLike, color: ArrayLike, width: float, closed: bool = False) -> None:
        """Draw a polyline, `width` in picture pixels."""
        thickness = max(1, round(width * _SUPERSAMPLING))
        cv2.polylines(self.pixels, [_fixed(points)], closed, _color(color), thickness, cv2.LINE_AA, _SHIFT)

    def disc(self, x: float, y: float, radius: float, color: ArrayLike) -> None:
        """Fill a circle."""
        center = (round(x * _FIXED_POINT), round(y * _FIXED_POINT))
        cv2.circle(self.pixels, center, round(max(0.3, radius) * _FIXED_POINT), _color(color), -1, cv2.LINE_AA, _SHIFT)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, color: ArrayLike) -> None:
        """Fill an axis-aligned rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], color)

    def gradient(self, top: ArrayLike, bottom: ArrayLike) -> None:
        """Fill everything with a vertical gradient."""
        blend = np.linspace(0, 1, len(self.pixels), dtype=np.float32)[:, None, None]
        rows = np.asarray(top, np.float32) * (1 - blend) + np.asarray(bottom, np.float32) * blend
        self.pixels[:] = np.clip(rows, 0, 255).astype(np.uint8)

    def finish(self) -> NDArray[np.uint8]:
        """The finished RGB picture, uint8 [128, 128, 3]."""
        return shrink(self.pixels)


def shrink(supersampled: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average a supersampled picture or mask down to 128 x 128."""
    return cv2.resize(supersampled, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.uint8)


def hsv(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    """RGB (0-255) of a color given as hue 0-180, saturation and value 0-255 (OpenCV's scale)."""
    pixel = np.array([[[hue, saturation, value]]]).astype(np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
