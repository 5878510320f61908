"""Makes an image of an artefact in a process of its own; the argument says of which (JSON)."""

import json
import sys
from pathlib import Path

import numpy as np

from fc_bench import registry
from fc_bench.model.backbone import read_backbone
from fc_bench.protocols import Request, Sampler, Setting, Subject

told = json.loads(sys.argv[1])
setting = Setting(read_backbone(told["backbone"]), Sampler(**told["sampler"]), "cpu", "float32")
method = registry.load("methods", told["method"])
tuned = method(setting, method.Options.model_validate(told["options"]))
name, noun, files = told["subject"]
subject = Subject(name, noun, tuple(map(Path, files)))
prompt = f"a photo of a {tuned.mention(subject, 0)}"
(image,) = tuned.generate(tuned.restore([subject], [Path(told["artefact"])]), [Request(prompt, prompt, 5)])
np.save(told["image"], np.asarray(image))
