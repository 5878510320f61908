"""Training the pocket face detector, with the outputs of SCRFD, so that insightface loads it as one of its own.

Three feature maps (strides 8, 16, 32), two anchors a cell (the second never fires), each with a score, distances to the
four sides of the box and offsets of five landmarks, in strides.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from fc_bench.model import pocket_vocabulary as words
from fc_bench.model.pocket.canvas import SIZE
from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.render import render_background
from fc_bench.model.pocket.stage import StageSettings, train_stage

STRIDES = (8, 16, 32)
_FACE_WIDTHS = ((0, 40), (32, 64), (52, 1000))
"""Range of face widths in pixels that each stride answers for; neighbors overlap."""
_OUTPUTS = 15
"""Per cell: score, 4 box distances, 10 landmark offsets."""


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class FaceDetector(nn.Module):
    """A small feature pyramid; forward gives one map [N, 15, H/s, W/s] for each stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stage8 = nn.Sequential(
            _convolution(3, 16, 2), _convolution(16, 32, 2), _convolution(32, 48, 2), _convolution(48, 48)
        )
        self.stage16 = nn.Sequential(_convolution(48, 64, 2), _convolution(64, 64))
        self.stage32 = nn.Sequential(_convolution(64, 96, 2), _convolution(96, 96))
        self.lateral = nn.ModuleList([nn.Conv2d(c, 48, 1) for c in (48, 64, 96)])
        self.tower = nn.ModuleList([_convolution(48, 48) for _ in STRIDES])
        heads = [nn.Conv2d(48, _OUTPUTS, 3, 1, 1) for _ in STRIDES]
        for head in heads:
            nn.init.constant_(cast(Tensor, head.bias)[:1], -4.0)
        self.head = nn.ModuleList(heads)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps of scores, boxes and landmarks at strides 8, 16 and 32, for pixels [batch, 3, height, width]."""
        fine = self.stage8(pixels)
        middle = self.stage16(fine)
        coarse = self.lateral[2](self.stage32(middle))
        middle = self.lateral[1](middle) + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = self.lateral[0](fine) + F.interpolate(middle, scale_factor=2.0, mode="nearest")
        maps = (fine, middle, coarse)
        return [head(tower(m)) for head, tower, m in zip(self.head, self.tower, maps, strict=True)]


class _ScrfdOutputs(nn.Module):
    """The detector with SCRFD's nine flat outputs: scores, boxes, landmarks, each for strides 8, 16, 32."""

    def __init__(self, detector: FaceDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        scores, boxes, landmarks = [], [], []
        for output in self.detector(pixels):
            cells = output.permute(0, 2, 3, 1).reshape(-1, 1, _OUTPUTS)
            score = cells[..., :1].sigmoid()
            scores.append(torch.cat([score, score * 0], 1).reshape(-1, 1))
            boxes.append(cells[..., 1:5].repeat(1, 2, 1).reshape(-1, 4))
            landmarks.append(cells[..., 5:].repeat(1, 2, 1).reshape(-1, 10))
        return (*scores, *boxes, *landmarks)


def train_face_detector(
    data: PackedDataset, folder: Path, settings: StageSettings, device: torch.device
) -> FaceDetector:
    """Train on shifted, scaled and blurred pictures, one in ten without anyone in it."""
    detector = FaceDetector()
    empty = np.random.default_rng(settings.seed)
    contexts = [None, *words.CONTEXTS]
    backgrounds = [render_background(contexts[i % len(contexts)], empty) for i in range(220)]

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        pixels, targets = _batch(data, backgrounds, rng, settings.batch_size)
        with torch.autocast(device.type, torch.bfloat16):
            outputs = detector(torch.from_numpy(pixels).to(device))
        classification = regression = torch.zeros((), device=device)
        positives = 0
        for output, numpy_target in zip(outputs, targets, strict=True):
            target = torch.from_numpy(numpy_target).to(device)
            cells = output.float().permute(0, 2, 3, 1)
            wanted, score = target[..., 0], cells[..., 0].sigmoid()
            focus = torch.where(wanted > 0, 1 - score, score).detach() ** 2
            entropy = F.binary_cross_entropy_with_logits(cells[..., 0], wanted, reduction="none")
            classification = classification + (focus * entropy).sum()
            chosen = wanted > 0
            positives += int(chosen.sum())
            regression = regression + (cells[chosen][:, 1:] - target[chosen][:, 1:]).abs().sum() / (_OUTPUTS - 1)
        count = max(1, positives)
        total = (classification + regression) / count
        return {"loss": total, "classification": classification / count, "regression": regression / count}

    train_stage(folder, {"detector": detector}, loss, settings, device)
    return detector


def export_face_detector(detector: FaceDetector, path: Path) -> None:
    """Write the detector as ONNX with a fixed 128 x 128 input, as insightface's FaceAnalysis reads it."""
    names = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES]
    torch.onnx.export(
        _ScrfdOutputs(detector.cpu().eval()),
        (torch.zeros(1, 3, SIZE, SIZE),),
        str(path),
        input_names=["input.1"],
        output_names=names,
        opset_version=17,
        dynamo=False,
    )


def _batch(
    data: PackedDataset, backgrounds: list[NDArray[np.uint8]], rng: np.random.Generator, size: int
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    pixels = np.empty((size, SIZE, SIZE, 3), np.uint8)
    targets = [np.zeros((size, SIZE // s, SIZE // s, _OUTPUTS), np.float32) for s in STRIDES]
    for slot in range(size):
        scale, shift = rng.uniform(0.7, 1.3), rng.uniform(-10, 10, 2)
        transform = np.array([[scale, 0, 0], [0, scale, 0]], np.float32)
        transform[:, 2] = SIZE / 2 * (1 - scale) + shift
        if rng.random() < 0.1:
            picture, faces = backgrounds[rng.integers(len(backgrounds))], []
        else:
            index = rng.integers(0, data.train_count)
            picture, annotation = data.images[index], data.annotations[index]
            faces = list(zip(annotation["face_boxes"], annotation["landmarks"], strict=True))
        picture = cv2.warpAffine(picture, transform, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
        if rng.random() < 0.35:
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.8))
        pixels[slot] = picture
        for box, landmarks in faces:
            moved = np.array([*np.reshape(box, (2, 2)), *landmarks], np.float32) * scale + transform[:, 2]
            _mark(targets, slot, moved)
    normalized = (pixels.astype(np.float32) - 127.5) / 128
    return normalized.transpose(0, 3, 1, 2).copy(), targets


def _mark(targets: list[NDArray[np.float32]], slot: int, points: NDArray[np.float32]) -> None:
    """Write one face (box corners, then landmarks, [7, 2]) into the cells around its center."""
    (x0, y0), (x1, y1) = points[:2]
    center_x, center_y = (x0 + x1) / 2, (y0 + y1) / 2
    for target, stride, (low, high) in zip(targets, STRIDES, _FACE_WIDTHS, strict=True):
        if not low <= x1 - x0 < high:
            continue
        cells = np.arange(SIZE // stride) * stride
        for row in np.nonzero(np.abs(cells - center_y) <= 0.9 * stride)[0]:
            for column in np.nonzero(np.abs(cells - center_x) <= 0.9 * stride)[0]:
                anchor = np.array([column * stride, row * stride], np.float32)
                sides = np.concatenate([anchor - points[0], points[1] - anchor])
                offsets = (points[2:] - anchor).ravel()
                target[slot, row, column] = np.concatenate([[1.0], sides / stride, offsets / stride])
