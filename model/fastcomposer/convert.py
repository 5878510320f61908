"""Conversion of a checkpoint to a pipeline folder.

A checkpoint is the file that FastComposer's authors published, for Stable Diffusion v1.5, or a folder of trained parts
as training writes it, for any family. The authors published none for Stable Diffusion XL, so no file is one of it.

python -m fc_bench.model.fastcomposer.convert CHECKPOINT BASE OUTPUT
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import torch

from fc_bench.model.command_line import as_command
from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.overlay import PARTS


def convert_checkpoint(
    checkpoint: Path,
    base: Path | str,
    output: Path,
    image_encoder: Path | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the checkpoint as the folder of a FastComposer pipeline, which `pipeline.load_fastcomposer` reads.

    The output folder appears only when it is complete. Raises ModelInputError if it already exists or cannot be
    written, or if the checkpoint does not fit.
    """
    if output.exists():
        raise ModelInputError(f"{output} already exists: choose another output folder")
    if checkpoint.is_dir() and not all((checkpoint / part).is_dir() for part in PARTS):
        raise ModelInputError(
            f"the checkpoint {checkpoint} is a folder without {', '.join(PARTS)}: name the .bin or .safetensors file "
            "in it, or the folder weights/ of a training"
        )
    if not checkpoint.exists():
        raise ModelInputError(f"the checkpoint {checkpoint} does not exist: check the path")
    partial = output.with_name(f"{output.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelInputError(f"{output} cannot be written ({error.strerror}): choose another output folder") from error
    from fc_bench.model.fastcomposer.pipeline import load_fastcomposer

    try:
        load_fastcomposer(base, checkpoint, dtype, image_encoder=image_encoder).save_pretrained(partial)
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


@as_command
def main(command: list[str] | None = None) -> int:
    """Run the conversion from the command line and return the exit code."""
    for library in ("TRANSFORMERS", "DIFFUSERS"):  # must be set before these libraries are imported
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    parser = argparse.ArgumentParser(prog="python -m fc_bench.model.fastcomposer.convert", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="file in the published layout, or folder weights/ of a training")
    parser.add_argument("base", help="Stable Diffusion v1.5 or XL, as the checkpoint is for: folder or hub id")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--image-encoder", help="CLIP model other than ViT-L/14: folder or hub id")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    arguments = parser.parse_args(command)
    print(
        convert_checkpoint(
            arguments.checkpoint,
            arguments.base,
            arguments.output,
            arguments.image_encoder,
            getattr(torch, arguments.dtype),
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
