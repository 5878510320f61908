"""The samples of a page's gallery: all, or a reproducible selection of very many."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fc_bench.reports.page.gallery import PageRun

MOST = 20_000
"""Largest number of samples in a gallery, without those named by failures; a browser cannot open a million."""
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
"""Shifts and factors of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators")."""


def chosen_rows(runs: Sequence[PageRun], named: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The rows of each run's samples in the gallery, in order; all if they are at most `MOST`.

    Otherwise combinations of subjects, prompt and image are drawn by their hash, each with all its samples. The `named`
    ones (number of the run, row) are always included.
    """
    counts = [len(run.run.samples) for run in runs]
    if sum(counts) <= MOST:
        return [np.arange(count) for count in counts]
    hashes = [_hashes(run.run.samples) for run in runs]
    drawn, samples = np.unique(np.concatenate(hashes), return_counts=True)
    fitting = max(1, int(np.searchsorted(np.cumsum(samples), MOST, side="right")))
    chosen = [own <= drawn[fitting - 1] for own in hashes]
    for number, row in named:
        chosen[number][row] = True
    return [np.flatnonzero(own) for own in chosen]


def left_out(runs: Sequence[PageRun], chosen: Sequence[np.ndarray]) -> str:
    """What the gallery does not hold, in a sentence; empty if it holds everything."""
    planned, held = sum(len(run.run.samples) for run in runs), sum(map(len, chosen))
    if held == planned:
        return ""
    return (
        f"The gallery holds {held:,} of {planned:,} samples: questions (subjects, prompt, seed) drawn by their hash, "
        "the same in every report, each with the images of all methods, and the samples that failures are named by. "
        "All numbers, tables and figures are of all samples; fc-bench show RUN ID prints any of them."
    )


def _hashes(samples: pd.DataFrame) -> np.ndarray:
    """An evenly distributed number for the subjects, prompt and image of each sample; equal in all runs."""
    mixed = samples["index"].to_numpy().astype(np.uint64)
    for name in ("set", "template"):
        texts = [text.encode("utf-8", "surrogatepass") for text in samples[name].cat.categories]
        numbers = np.array(
            [int.from_bytes(hashlib.sha256(text).digest()[:8], "big") for text in texts], dtype=np.uint64
        )
        mixed = _spread(mixed ^ numbers[samples[name].cat.codes.to_numpy()])
    return mixed


def _spread(numbers: np.ndarray) -> np.ndarray:
    for shift, factor in _ROUNDS:
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers
