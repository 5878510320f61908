"""fc-bench: a benchmark of quality and cost of personalized image generation."""

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "model").is_dir() and (_CHECKOUT / "model" / "__init__.py").is_file():
    # In a checkout's root, Python finds this folder before the installed package; the other packages are next to it.
    __path__.append(str(_CHECKOUT))

from fc_bench.moved import MovedModules  # noqa: E402  (after the path is complete)

sys.meta_path.append(MovedModules())
