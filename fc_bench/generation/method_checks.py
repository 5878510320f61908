"""What methods refuse of the requested subjects and prompts, known before anything is generated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from fc_bench.errors import Failure, UserError
from fc_bench.generation.plan import MethodRow, Plan
from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import AskedSet, Method, Setting, fill
from fc_bench.suites.suite import Prompt, SubjectSet


def requested_set(subject_set: SubjectSet, prompts: Iterable[Prompt]) -> AskedSet:
    """A suite's subject set as the protocol's `AskedSet`."""
    templates = [prompt.template for prompt in prompts]
    return AskedSet(subject_set.subjects, lambda mentions: [fill(template, mentions) for template in templates])


def refusal(method: type[Method], setting: Setting, options: BaseModel, requested: Sequence[AskedSet]) -> str:
    """The method's reason to refuse the request, in a sentence; empty if it accepts or cannot tell."""
    check: Any = getattr(method, "check", None)
    if check is None:
        return ""
    try:
        check(setting, options, requested)
    except (UserError, ModelInputError) as error:
        return str(error)
    except Exception as error:
        return (
            f"its check of the requested subjects and prompts failed ({Failure.of(error).message}); correct the method."
        )
    return ""


def check_methods(plan: Plan, setting: Setting, methods: Iterable[tuple[type[Method], BaseModel, MethodRow]]) -> None:
    """Raise UserError with what the methods of a plan refuse, and which methods accept everything."""
    refused: dict[str, list[str]] = {}
    names: dict[str, bool] = {}
    for method, options, row in methods:
        requested = [AskedSet(job.subject_set.subjects, job.filled) for job in plan.jobs if job.row is row]
        message = refusal(method, setting, options, requested)
        names[row.name] = names.get(row.name, False) or bool(message)
        if message:
            refused.setdefault(message, []).append(row.label)
    if refused:
        message = " ".join(f"{', '.join(labels)}: {sentence}" for sentence, labels in refused.items())
        others = " ".join(f"-m {name}" for name, refuses in names.items() if not refuses)
        raise UserError(f"{message} Or run the others alone: {others}." if others else message)
