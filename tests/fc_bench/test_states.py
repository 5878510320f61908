"""States that results come from: named each, compared, unknown where nothing is recorded."""

import copy

from fc_bench.states import UNKNOWN, State, differences, states_of

COMMAND = {
    "code": {"commit": "a" * 40, "dirty": False},
    "versions": {"fc-bench": "1.0", "torch": "2.4.0", "onnxruntime": "1.18.0", "pandas": "2.2"},
    "hardware": {"processor": "P", "cores": 2, "accelerators": ["G"], "memory_bytes": 1, "system": "S"},
}


def changed(**parts):
    command = copy.deepcopy(COMMAND)
    for part, values in parts.items():
        command[part] |= values
    return command


def test_commands_of_one_state_are_one():
    again = changed(versions={"pandas": "3.0"}, hardware={"memory_bytes": 2})
    assert states_of([COMMAND, again]) == {State.of(COMMAND): [0, 1]}


def test_each_part_of_a_state_that_differs_is_named():
    other = changed(
        code={"commit": "b" * 40, "dirty": True}, versions={"torch": "2.13.0"}, hardware={"accelerators": []}
    )
    told = differences(list(states_of([COMMAND, other])))
    assert told == [
        "commit aaaaaaaaaaaa and commit bbbbbbbbbbbb with uncommitted changes",
        "torch 2.4.0 and 2.13.0",
        "machines P, 2 cores, G and P, 2 cores",
    ]


def test_what_is_not_recorded_is_unknown_and_differs_from_what_is():
    bare = State.of({"code": {"commit": None, "dirty": None}, "versions": {"torch": None}})
    assert "an unknown commit" in str(bare)
    assert "an unknown machine" in str(bare)
    assert f"torch {UNKNOWN}" in str(bare)
    assert len(differences([bare, State.of(COMMAND)])) == 5
    assert "changes unknown" in State.of(changed(code={"dirty": None})).code


def test_workers_of_a_cluster_are_the_machines():
    workers = [{"processor": "P", "cores": 4, "accelerators": []}, {"processor": "Q", "cores": 8, "accelerators": []}]
    assert State.of({**COMMAND, "workers": workers}).machines == ("P, 4 cores", "Q, 8 cores")
