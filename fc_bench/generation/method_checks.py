"""What methods refuse of the requested subjects and prompts, known before anything is generated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from fc_bench.errors import Failure, UserError
from fc_bench.generation.plan import Job, MethodRow, Plan, PlannedSamples
from fc_bench.model.errors import ModelInputError
from fc_bench.protocols import AskedSet, Method, Setting, fill, mentions_subjects, used_conditions
from fc_bench.suites.suite import Prompt, SubjectSet


def requested_set(subject_set: SubjectSet, prompts: Iterable[Prompt]) -> AskedSet:
    """A suite's subject set as the protocol's `AskedSet`."""
    listed = list(prompts)
    return AskedSet(
        subject_set.subjects,
        lambda mentions: [fill(prompt.template, mentions) for prompt in listed],
        tuple(prompt.conditions for prompt in listed),
        tuple(prompt.template for prompt in listed if prompt.names_nobody),
    )


def refusal(method: type[Method], setting: Setting, options: BaseModel, requested: Sequence[AskedSet]) -> str:
    """The method's reason to refuse the request, in a sentence; empty if it accepts or cannot tell."""
    if message := _unsupported(method, requested):
        return message
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


def _unsupported(method: type[Method], requested: Sequence[AskedSet]) -> str:
    """What the method does not do at all and the prompts ask, in a sentence; empty if there is nothing."""
    for one in requested:
        if one.nameless and mentions_subjects(method):
            return (
                f'it mentions its subjects in the prompt, but "{one.nameless[0]}" names nobody; write {{1}} where the '
                "first subject belongs, and so on."
            )
        sizes = [asked.size for asked in one.conditions if asked.size is not None]
        if sizes and "size" not in used_conditions(method):
            return f"it makes images of one size alone, but a prompt asks for {sizes[0][0]} x {sizes[0][1]} pixels."
    return ""


def _requested_by(job: Job) -> AskedSet:
    assert isinstance(job.samples, PlannedSamples)
    return requested_set(job.subject_set, job.samples.prompts)


def check_methods(plan: Plan, setting: Setting, methods: Iterable[tuple[type[Method], BaseModel, MethodRow]]) -> None:
    """Raise UserError with what the methods of a plan refuse, and which methods accept everything."""
    refused: dict[str, list[str]] = {}
    names: dict[str, bool] = {}
    for method, options, row in methods:
        requested = [_requested_by(job) for job in plan.jobs if job.row is row]
        message = refusal(method, setting, options, requested)
        names[row.name] = names.get(row.name, False) or bool(message)
        if message:
            refused.setdefault(message, []).append(row.label)
    if refused:
        message = " ".join(f"{', '.join(labels)}: {sentence}" for sentence, labels in refused.items())
        others = " ".join(f"-m {name}" for name, refuses in names.items() if not refuses)
        raise UserError(f"{message} Or run the others alone: {others}." if others else message)
