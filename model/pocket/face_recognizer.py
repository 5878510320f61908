"""Training the pocket face recognizer: 112 x 112 aligned crops to 128 numbers, loaded by insightface as ArcFace is.

Two losses: identities of the training people are told apart (normalized softmax with a cosine margin, arXiv
1801.09414), and the cosine between two faces follows how alike the two people's traits are, so that similarity falls
gradually, as it does for photographs of real people, instead of collapsing to zero at the first difference.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from insightface.utils import face_align
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from fc_bench.model.pocket.dataset import PackedDataset
from fc_bench.model.pocket.people import make_person, trait_vector
from fc_bench.model.pocket.stage import StageSettings, train_stage

CROP = 112
EMBEDDING = 128
_SCALE, _MARGIN = 20.0, 0.15
_GRADED_WEIGHT = 20.0
_TRAIT_DISTANCE = 1.7
"""Distance of traits at which the wanted similarity has fallen to exp(-1)."""


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.skip = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )
        self.activation = nn.PReLU(outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(self.branch(features) + self.skip(features))


class FaceRecognizer(nn.Module):
    """Aligned faces [N, 3, 112, 112] in [-1, 1] to embeddings [N, 128] (not normalized)."""

    def __init__(self, channels: tuple[int, int, int] = (48, 80, 128)) -> None:
        super().__init__()
        low, middle, high = channels
        self.stem = nn.Sequential(nn.Conv2d(3, low, 7, 4, 3, bias=False), nn.BatchNorm2d(low), nn.PReLU(low))
        self.body = nn.Sequential(
            _Residual(low, low, 1), _Residual(low, middle, 2), _Residual(middle, high, 2), _Residual(high, high, 1)
        )
        self.pool = nn.Sequential(nn.Conv2d(high, high, 7, groups=high, bias=False), nn.BatchNorm2d(high))
        self.project = nn.Sequential(nn.Linear(high, EMBEDDING), nn.BatchNorm1d(EMBEDDING))

    def forward(self, faces: Tensor) -> Tensor:
        """Embeddings [batch, features] of aligned faces [batch, 3, height, width]."""
        return self.project(self.pool(self.body(self.stem(faces))).flatten(1))


def train_face_recognizer(
    data: PackedDataset, folder: Path, settings: StageSettings, device: torch.device
) -> FaceRecognizer:
    """Train on aligned crops with jittered landmarks, blur, lower resolution and color shifts."""
    faces = [
        (index, which, seed)
        for index, annotation in enumerate(data.annotations[: data.train_count])
        for which, seed in enumerate(annotation["people"])
    ]
    seeds = sorted({seed for _, _, seed in faces})
    label_of = {seed: label for label, seed in enumerate(seeds)}
    wanted = _wanted_similarity(np.stack([trait_vector(make_person(seed)) for seed in seeds])).to(device)
    network = FaceRecognizer()
    classes = nn.Linear(EMBEDDING, len(seeds), bias=False)

    batch = settings.batch_size

    def loss(rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        chosen = [faces[i] for i in rng.integers(0, len(faces), batch)]
        crops = np.stack(
            [
                _augment(data.images[index], np.array(data.annotations[index]["landmarks"][which], np.float32), rng)
                for index, which, _ in chosen
            ]
        )
        labels = torch.tensor([label_of[seed] for _, _, seed in chosen], device=device)
        with torch.autocast(device.type, torch.bfloat16):
            embeddings = network(faces_to_tensor(crops).to(device))
        unit = F.normalize(embeddings.float())
        cosine = unit @ F.normalize(classes.weight).T
        margin = _MARGIN * min(1.0, max(0.0, 2 * progress - 0.2))
        logits = _SCALE * (cosine - margin * F.one_hot(labels, len(seeds)))
        identity = F.cross_entropy(logits, labels)
        graded = (unit @ unit.T - wanted[labels][:, labels]).pow(2).mean()
        return {"loss": identity + _GRADED_WEIGHT * graded, "identity": identity, "graded": graded}

    train_stage(folder, {"network": network, "classes": classes}, loss, settings, device)
    return network


def align_face(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """insightface's aligned crop of a face, [112, 112, 3]."""
    return face_align.norm_crop(image, landmarks, CROP).astype(np.uint8)


def faces_to_tensor(crops: NDArray[np.uint8]) -> Tensor:
    """uint8 [N, 112, 112, 3] to the network's input."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1


def export_face_recognizer(network: FaceRecognizer, path: Path) -> None:
    """Write the recognizer as ONNX, as insightface's FaceAnalysis reads it."""
    torch.onnx.export(
        network.cpu().eval(),
        (torch.zeros(1, 3, CROP, CROP),),
        str(path),
        input_names=["input"],
        output_names=["embedding"],
        dynamic_axes={"input": {0: "batch"}, "embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def _wanted_similarity(traits: NDArray[np.float32]) -> Tensor:
    """Similarity the traits suggest, [people, people]: 1 on the diagonal, 0 for an average pair, negative beyond."""
    vectors = torch.from_numpy(traits)
    kernel = torch.exp(-((torch.cdist(vectors, vectors) / _TRAIT_DISTANCE) ** 2))
    average = (kernel.sum() - len(kernel)) / (len(kernel) * (len(kernel) - 1))
    return (kernel - average) / (1 - average)


def _augment(image: NDArray[np.uint8], landmarks: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    crop = align_face(image, landmarks + rng.normal(0, 0.8, landmarks.shape).astype(np.float32))
    draw = rng.random()
    if draw < 0.35:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.6, 2.6))
    elif draw < 0.5:
        small = cv2.resize(crop, (40, 40), interpolation=cv2.INTER_AREA)
        crop = cv2.resize(small, (CROP, CROP), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.3:
        shifted = crop.astype(np.float32) * rng.uniform(0.85, 1.15) + rng.normal(0, 6, 3)
        crop = np.clip(shifted, 0, 255).astype(np.uint8)
    return crop.astype(np.uint8)
