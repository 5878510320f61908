"""Layouts: the folders of images and metadata that published benchmarks expect, one module a benchmark."""

from enum import Enum


class LayoutName(str, Enum):
    """Names of the layouts, for the command line; `catalog` has the layouts themselves."""

    fastcomposer = "fastcomposer"
    multiid = "multiid"
    xverse = "xverse"
    umo = "umo"
    omnicontext = "omnicontext"
    multihuman = "multihuman"
    uno = "uno"
    dreambench_plus = "dreambench-plus"
    customconcept101 = "customconcept101"
    psrbench = "psrbench"


class BenchmarkName(str, Enum):
    """Names of the benchmarks whose own copy makes a suite; `catalog` has their readers."""

    multiid = "multiid"
    xverse = "xverse"
    omnicontext = "omnicontext"
    multihuman = "multihuman"
    dreambooth = "dreambooth"
    uno = "uno"
    dreambench_plus = "dreambench-plus"
    customconcept101 = "customconcept101"
    psrbench = "psrbench"
