"""All layouts, and all readers of benchmarks, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fc_bench.layouts import (
    BenchmarkName,
    LayoutName,
    customconcept101,
    dreambench_plus,
    dreambooth,
    fastcomposer,
    multihuman,
    multiid,
    omnicontext,
    psrbench,
    uno,
    xverse,
)
from fc_bench.layouts.benchmark import Benchmark
from fc_bench.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        fastcomposer.FastComposer(),
        multiid.MultiID(),
        xverse.XVerse(),
        xverse.Umo(),
        omnicontext.OmniContext(),
        multihuman.MultiHuman(),
        uno.Uno(),
        dreambench_plus.DreamBenchPlus(),
        customconcept101.CustomConcept101(),
        psrbench.PSRBench(),
    )
}
assert list(LAYOUTS) == [name.value for name in LayoutName]

READERS: dict[str, Callable[[Path, str | None], Benchmark]] = {
    "multiid": multiid.read_benchmark,
    "xverse": xverse.read_benchmark,
    "omnicontext": omnicontext.read_benchmark,
    "multihuman": multihuman.read_benchmark,
    "dreambooth": dreambooth.read_benchmark,
    "uno": uno.read_benchmark,
    "dreambench-plus": dreambench_plus.read_benchmark,
    "customconcept101": customconcept101.read_benchmark,
    "psrbench": psrbench.read_benchmark,
}
assert list(READERS) == [name.value for name in BenchmarkName]
