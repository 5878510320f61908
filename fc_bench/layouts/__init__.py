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
