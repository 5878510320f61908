"""Checkpoints of a customization, which continues from the newest one after an interruption."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fc_bench.errors import UserError
from fc_bench.protocols import Checkpoints

FORMAT = 2
"""Version of the written files, a part of a customization's identity."""


@dataclass(frozen=True)
class Progress:
    """Progress of a customization: steps taken, their seconds, and the losses of the last steps."""

    steps: int
    seconds: float
    losses: list[Tensor]


class CheckpointFile:
    """The newest checkpoint of one customization: trained parameters and the states of optimizer and scaler.

    `identity` identifies the customization. A checkpoint with another identity is refused.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        identity: str,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self._checkpoints = checkpoints
        self._identity = identity
        self._parameters = parameters
        self._optimizer = optimizer
        self._scaler = scaler

    def due(self, steps: int) -> bool:
        """Whether a checkpoint is due after this number of steps."""
        return self._checkpoints is not None and steps % self._checkpoints.every == 0

    def save(self, progress: Progress) -> None:
        """Replace the earlier checkpoint, by atomic rename."""
        state = {
            "identity": self._identity,
            "steps": progress.steps,
            "seconds": progress.seconds,
            "losses": progress.losses,
            "parameters": [parameter.detach() for parameter in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        partial = self._file().with_suffix(".part")
        torch.save(state, partial)
        os.replace(partial, self._file())

    def restore(self) -> Progress:
        """Load the checkpoint if there is one.

        Raises UserError when the checkpoint is damaged or belongs to another customization.
        """
        if self._checkpoints is None or not self._file().exists():
            return Progress(0, 0.0, [])
        state = self._read()
        if state.get("identity") != self._identity:
            raise UserError(
                f"The checkpoint {self._file()} belongs to another customization; delete it to tune from the beginning."
            )
        with torch.no_grad():
            for parameter, value in zip(self._parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        return Progress(int(state["steps"]), float(state["seconds"]), list(state["losses"]))

    def _read(self) -> dict[str, Any]:
        try:
            return torch.load(self._file(), map_location="cpu", weights_only=True)
        except Exception as error:  # zip, pickle and the file system raise many types for a damaged file
            raise UserError(
                f"The checkpoint {self._file()} cannot be read ({type(error).__name__}); delete it to tune from the "
                "beginning."
            ) from error

    def _file(self) -> Path:
        assert self._checkpoints is not None
        return self._checkpoints.folder / "checkpoint.pt"
