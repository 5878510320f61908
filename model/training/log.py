"""The log of a training, as JSON lines and optionally for TensorBoard."""

import json
import logging

import torch
from torch import Tensor

from fc_bench.model.errors import ModelInputError
from fc_bench.model.training.config import TrainingConfig

log = logging.getLogger(__name__)


class TrainingLog:
    """Writes the mean losses since the last line; only the main process writes.

    A resumed training first removes the lines after its checkpoint, so that no step occurs twice.
    """

    def __init__(self, config: TrainingConfig, active: bool, step: int):
        self.active = active
        self.sum: Tensor | float = 0.0
        self.count = 0
        self.tensorboard = None
        if not active:
            return
        file = config.output / "log.jsonl"
        written = file.read_text(encoding="utf-8") if file.is_file() else ""
        kept = [line for line in _lines(written) if line["step"] <= step]
        self.file = file.open("w", encoding="utf-8")
        for line in kept:
            self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        self.last = (step, kept[-1]["seconds"] if kept else 0.0)
        if config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ModelInputError("tensorboard: true needs the package tensorboard: install it") from error
            self.tensorboard = SummaryWriter(str(config.output / "tensorboard"))

    def add(self, values: Tensor) -> None:
        """Add the values of one update: total, denoising and localization loss, and gradient norm before clipping."""
        self.sum = self.sum + values
        self.count += 1

    def means(self) -> Tensor:
        """Means of the added values since the last call."""
        means, self.sum, self.count = torch.as_tensor(self.sum / self.count), 0.0, 0
        return means

    def write(self, step: int, seconds: float, samples: int, values: Tensor, rates: dict[str, float]) -> None:
        """Write one line; `values` are the means, `rates` the learning rates of the parts."""
        if not self.active:
            return
        names = ("loss", "denoising_loss", "localization_loss", "gradient_norm")
        means = dict(zip(names, values.tolist(), strict=True))
        pace = (step - self.last[0]) / max(seconds - self.last[1], 1e-9)
        line = {"step": step, "seconds": round(seconds, 3), "samples": samples, **means, "steps_per_second": pace}
        self.file.write(json.dumps({**line, "learning_rate": rates}) + "\n")
        self.file.flush()
        log.info(
            "step %d, %.0f s: denoising %.4f, localization %.4f, %.2f steps/s",
            step,
            seconds,
            means["denoising_loss"],
            means["localization_loss"],
            pace,
        )
        if self.tensorboard is not None:
            for name, value in means.items():
                self.tensorboard.add_scalar(name, value, step)
        self.last = (step, seconds)

    def close(self) -> None:
        """Close the files."""
        if self.active:
            self.file.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


def _lines(text: str) -> list[dict[str, float]]:
    """The complete lines of a log; an interrupted write may have cut the last one."""
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
