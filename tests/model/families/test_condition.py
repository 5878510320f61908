"""A condition keeps the rows of its tensors together."""

from __future__ import annotations

import torch

from fc_bench.model.families.condition import Condition


def condition(first: int, rows: int) -> Condition:
    """Rows that are told apart by their numbers, in every tensor."""
    numbers = torch.arange(first, first + rows, dtype=torch.float32)
    return Condition(numbers[:, None, None].expand(rows, 3, 4), numbers[:, None].expand(rows, 5), numbers[:, None] * 2)


def numbers(found: Condition) -> list[tuple[float, float, float]]:
    assert found.pooled is not None
    assert found.time_ids is not None
    columns = found.text[:, 0, 0], found.pooled[:, 0], found.time_ids[:, 0]
    return [(float(a), float(b), float(c)) for a, b, c in zip(*columns, strict=True)]


def test_every_operation_moves_all_tensors_of_a_row():
    both = Condition.cat([condition(0, 2), condition(7, 1)])
    assert numbers(both) == [(0, 0, 0), (1, 1, 2), (7, 7, 14)]
    assert len(both) == 3
    assert numbers(both.rows([2, 0, 2])) == [(7, 7, 14), (0, 0, 0), (7, 7, 14)]
    assert numbers(both.rows([1]).repeat_interleave(2)) == [(1, 1, 2)] * 2
    assert both.to(torch.float64).time_ids.dtype is torch.float64  # pyright: ignore[reportOptionalMemberAccess]
    changed = both.with_text(both.text + 1)
    assert [one[0] for one in numbers(changed)] == [1, 2, 8]
    assert changed.pooled is both.pooled


def test_a_condition_of_text_alone_stays_one():
    text = Condition(torch.zeros(2, 3, 4))
    for found in (text.rows([0]), Condition.cat([text, text]), text.to(torch.float16), text.repeat_interleave(2)):
        assert found.pooled is None
        assert found.time_ids is None
