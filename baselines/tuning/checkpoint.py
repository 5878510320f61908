"""What a customization leaves on the way, to go on from after an interruption."""

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


@dataclass(frozen=True)
class Reached:
    """How far a customization has come: steps, seconds spent on them, and the losses of the last steps."""

    steps: int
    seconds: float
    losses: list[Tensor]


class CheckpointFile:
    """The newest state of one customization: trained parameters, the optimizer's and the scaler's state.

    `identity` says what the customization is: another one's checkpoint is refused.
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
        """Whether a checkpoint is to be left after so many steps."""
        return self._checkpoints is not None and steps % self._checkpoints.every == 0

    def save(self, reached: Reached) -> None:
        """Leave a checkpoint in the place of the earlier one, by atomic rename."""
        state = {
            "identity": self._identity,
            "steps": reached.steps,
            "seconds": reached.seconds,
            "losses": reached.losses,
            "parameters": [parameter.detach() for parameter in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        partial = self._file().with_suffix(".part")
        torch.save(state, partial)
        os.replace(partial, self._file())

    def restore(self) -> Reached:
        """Go on from the checkpoint if there is one; raises UserError when it is damaged or another customization's."""
        if self._checkpoints is None or not self._file().exists():
            return Reached(0, 0.0, [])
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
        return Reached(int(state["steps"]), float(state["seconds"]), list(state["losses"]))

    def _read(self) -> dict[str, Any]:
        try:
            return torch.load(self._file(), map_location="cpu", weights_only=True)
        except Exception as error:  # whatever zip, pickle or the file system say of a damaged file
            raise UserError(
                f"The checkpoint {self._file()} cannot be read ({type(error).__name__}); delete it to tune from the "
                "beginning."
            ) from error

    def _file(self) -> Path:
        assert self._checkpoints is not None
        return self._checkpoints.folder / "checkpoint.pt"
