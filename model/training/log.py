"""What a training says about itself: JSON lines, and TensorBoard on request."""

import json
import logging

import torch
from fc_bench.model.errors import ModelInputError
from fc_bench.model.training.config import TrainingConfig
from torch import Tensor

log = logging.getLogger(__name__)


class TrainingLog:
    """Means of the losses since the last line, written by the main process only.

    A resumed training first drops the lines after its checkpoint, so that no step is there twice.
    """

    def __init__(self, config: TrainingConfig, active: bool, step: int):
        self.active = active
        self.sums = torch.zeros(4)
        self.count = 0
        self.tensorboard = None
        if not active:
            return
        file = config.output / "log.jsonl"
        kept = [line for line in _lines(file.read_text()) if line["step"] <= step] if file.is_file() else []
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

    def add(self, losses: Tensor, gradient_norm: Tensor) -> None:
        """Count one update: total, denoising and localization loss, norm of the gradient before clipping."""
        if self.active:
            self.sums = self.sums.to(losses.device) + torch.cat([losses, gradient_norm.detach().reshape(1).to(losses)])
            self.count += 1

    def write(self, step: int, seconds: float, samples: int, rates: dict[str, float]) -> None:
        """One line."""
        if not self.active:
            return
        names = ("loss", "denoising_loss", "localization_loss", "gradient_norm")
        means = dict(zip(names, (self.sums / self.count).tolist(), strict=True))
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
        self.sums, self.count, self.last = torch.zeros_like(self.sums), 0, (step, seconds)

    def close(self) -> None:
        """Finish the files."""
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
