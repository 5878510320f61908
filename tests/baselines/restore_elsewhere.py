"""Makes images of artefacts in a process of its own; the argument says of which (JSON)."""

import json
import sys
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Request, Sampler, Setting, Subject

told = json.loads(sys.argv[1])
setting = Setting(read_backbone(told["backbone"]), Sampler(**told["sampler"]), "cpu", "float32")
name, noun, files = told["subject"]
subject = Subject(name, noun, tuple(map(Path, files)))
for kept in told["artefacts"]:
    method = resolve_name(kept["method"])
    tuned = method(setting, method.Options.model_validate(kept["options"]))
    prompt = f"a photo of a {tuned.mention(subject, 0)}"
    (image,) = tuned.generate(tuned.restore([subject], [Path(kept["folder"])]), [Request(prompt, prompt, 5)])
    np.save(kept["image"], np.asarray(image))
