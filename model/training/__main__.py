"""Train FastComposer: `python -m fc_bench.model.training CONFIG.yaml [--resume]`, also under torchrun."""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from fc_bench.model.command_line import as_command
from fc_bench.model.training.config import load_config


@partial(as_command, interrupted="interrupted; --resume continues from the last checkpoint.")
def main(command: list[str] | None = None) -> int:
    """Run the training from the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fc_bench.model.training", description="Train FastComposer.")
    parser.add_argument("config", type=Path, help="YAML file, see fc_bench.model.training.config")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint, if there is one")
    arguments = parser.parse_args(command)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    config = load_config(arguments.config)
    from transformers.utils import logging as transformers_logging

    from fc_bench.model.training.loop import train

    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    print(train(config, arguments.resume))
    return 0


if __name__ == "__main__":
    sys.exit(main())
