"""All layouts by name."""

from __future__ import annotations

from fc_bench.layouts import LayoutName
from fc_bench.layouts.customconcept101 import CustomConcept101
from fc_bench.layouts.dreambench_plus import DreamBenchPlus
from fc_bench.layouts.fastcomposer import FastComposer
from fc_bench.layouts.layout import Layout
from fc_bench.layouts.multihuman import MultiHuman
from fc_bench.layouts.multiid import MultiID
from fc_bench.layouts.omnicontext import OmniContext
from fc_bench.layouts.psrbench import PSRBench
from fc_bench.layouts.uno import Uno
from fc_bench.layouts.xverse import Umo, XVerse

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        FastComposer(),
        MultiID(),
        XVerse(),
        Umo(),
        OmniContext(),
        MultiHuman(),
        Uno(),
        DreamBenchPlus(),
        CustomConcept101(),
        PSRBench(),
    )
}
assert list(LAYOUTS) == [name.value for name in LayoutName]
