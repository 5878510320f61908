"""`python -m fc_bench.cli`."""

from fc_bench.cli import main

main()
