"""Records survive what happens to files."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain

import msgspec
import pytest

from fc_bench.errors import UserError
from fc_bench.run_folder.json_lines import LineWriter, line_at, read_lines, records_at, stream_blocks, stream_lines
from fc_bench.run_folder.record_shapes import Measured
from fc_bench.run_folder.records import RunFolder, opened_for_writing, remove_abandoned, write_atomically, write_lines


class Named(msgspec.Struct):
    """A record of which the id is needed."""

    id: str


WHOLE = [{"id": "a", "value": 1.5}, {"id": "ä\n<b>", "value": None}]


def written(path, records):
    writer = LineWriter(path)
    for record in records:
        writer.append(record)
    writer.close()


def test_what_is_written_is_read(tmp_path):
    written(tmp_path / "x.jsonl", WHOLE)
    assert read_lines(tmp_path / "x.jsonl") == WHOLE
    assert read_lines(tmp_path / "absent.jsonl") == []


def test_cut_anywhere_the_whole_records_survive_and_the_next_is_added(tmp_path):
    written(tmp_path / "x.jsonl", WHOLE)
    content = (tmp_path / "x.jsonl").read_bytes()
    ends = [number for number, byte in enumerate(content, 1) if byte == ord("\n")]
    for length in range(len(content) + 1):
        file = tmp_path / f"{length}.jsonl"
        file.write_bytes(content[:length])
        whole = WHOLE[: sum(length >= end - 1 for end in ends)]
        assert read_lines(file) == whole
        written(file, [{"id": "c"}])
        assert read_lines(file) == [*whole, {"id": "c"}]
        assert all(json.loads(line) for line in file.read_text().splitlines())


def test_end_of_a_file_of_any_length_is_mended_without_reading_the_rest(tmp_path):
    file, half = tmp_path / "x.jsonl", b'{"id": "' + b"x" * 200_000
    length = 1 << 34
    with file.open("wb") as sparse:
        # More than fits in memory, almost nothing on disk.
        sparse.truncate(length)
        sparse.seek(length)
        sparse.write(b"\n" + half)
    LineWriter(file).close()
    assert file.stat().st_size == length + 1
    with file.open("ab") as sparse:
        sparse.write(half + b'"}')
    LineWriter(file).close()
    assert file.stat().st_size == length + 1 + len(half) + 3


@pytest.mark.parametrize("value", ["\ud800", 2**70, [[1.5, None], {"ä": True}]])
def test_whatever_json_writes_is_read(tmp_path, value):
    written(tmp_path / "x.jsonl", [{"value": value}, {"value": 1}])
    assert read_lines(tmp_path / "x.jsonl") == [{"value": value}, {"value": 1}]


@pytest.mark.parametrize("line", [b"", b"[1]", b"nothing", b'{"id": }', b"\xff{}", b"null"])
def test_damaged_line_is_named_after_the_records_before_it(tmp_path, line):
    (tmp_path / "x.jsonl").write_bytes(b'{"id": 1}\n' + line + b'\n{"id": 2}\n')
    records = stream_lines(tmp_path / "x.jsonl")
    assert next(records) == {"id": 1}
    with pytest.raises(UserError, match=r"x\.jsonl:2: this line is not a record"):
        next(records)


@pytest.mark.parametrize("line", [b'{"x": NaN}', b'{"x": Infinity}', b'{"x": 1e999}', b'{"x": ' + b"[" * 100_000])
def test_what_is_no_number_and_what_nests_without_end_is_no_record(tmp_path, line):
    (tmp_path / "x.jsonl").write_bytes(line + b"\n")
    with pytest.raises(UserError, match=r"x\.jsonl:1: this line is not a record"):
        read_lines(tmp_path / "x.jsonl")


def test_records_are_found_again_by_their_places(tmp_path):
    file = tmp_path / "x.jsonl"
    written(file, [*WHOLE, {"id": "\ud800"}])
    places = {
        one.id: place for starts, found in stream_blocks(file, Named) for place, one in zip(starts, found, strict=True)
    }
    assert list(records_at(file, [places["\ud800"], places["a"]])) == [{"id": "\ud800"}, WHOLE[0]]
    assert [line_at(file, place) for place in places.values()] == [1, 2, 3]
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(UserError, match="was changed while it was read"):
        list(records_at(file, [0]))


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": "b"} {"id": "c"}',
        b'{"id": "b"',
        b"",
        b'{"id": "b", "x": "\xff"}',
        b'{"id": "b", "x": NaN}',
        b'{"id": "b", "x": ' + b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("further", [0, 1, 10_000])
def test_line_that_is_no_record_is_named_however_many_are_read_at_a_time(tmp_path, line, further, monkeypatch):
    monkeypatch.setattr("fc_bench.run_folder.json_lines.BLOCK", 1000)
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"id": "a"}\n' * further + line + b'\n{"id": "d"}\n\n')
    with pytest.raises(UserError, match=rf"x\.jsonl:{further + 1}: this line is not a record"):
        list(stream_blocks(file, Named))
    with pytest.raises(UserError, match=rf"x\.jsonl:{further + 1}: this line is not a record"):
        read_lines(file)


def test_damaged_details_are_named_by_their_line_where_they_are_read(tmp_path):
    score = {"sample": "a", "metric": "identity", "status": "ok", "values": {}}
    written(tmp_path / "scores.jsonl", [{**score, "details": {}}, {**score, "details": 5}])
    ((first, second),) = [places for places, _ in stream_blocks(tmp_path / "scores.jsonl", Measured)]
    assert list(records_at(tmp_path / "scores.jsonl", [first])) == [{**score, "details": {}}]
    with pytest.raises(UserError, match=r'scores\.jsonl:2: its "details" is not a mapping or null'):
        list(records_at(tmp_path / "scores.jsonl", [second]))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.png", "images/../../x.png", "a\0b"])
def test_file_that_a_record_names_outside_the_run_folder_is_none_of_the_run(tmp_path, name):
    folder = RunFolder(tmp_path / "run")
    assert folder.image({"image": "images/paste/ann/1.png"}) == tmp_path / "run" / "images/paste/ann/1.png"
    with pytest.raises(ValueError, match="not in the run folder"):
        folder.image({"image": name})
    with pytest.raises(ValueError, match="not in the run folder"):
        folder.attention({"attention": name})


def test_maps_that_unpack_to_far_more_are_refused_by_their_header(tmp_path):
    import numpy as np

    folder = RunFolder(tmp_path)
    np.savez_compressed(tmp_path / "bomb.npz", maps=np.zeros((1, 8192, 8200), dtype=np.uint8))
    np.savez_compressed(tmp_path / "maps.npz", maps=np.ones((2, 4, 4), dtype=np.float16))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="unpacks to 64 MiB"):
        folder.attention({"attention": "bomb.npz"})
    maps = folder.attention({"attention": "maps.npz"})
    assert maps is not None
    assert maps.shape == (2, 4, 4)
    assert maps.sum() == pytest.approx(2)


def test_what_a_killed_report_left_half_written_goes_and_what_is_being_written_stays(tmp_path):
    import os

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, held = tmp_path / f".table.md.{ended.pid}-00ff.part", tmp_path / f".table.md.{os.getpid()}-00ff.part"
    for file in (left, held, tmp_path / "table.md"):
        file.write_text("half")
    remove_abandoned(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [held.name, "table.md"]


def test_file_is_replaced_by_records_that_come_from_itself(tmp_path):
    written(tmp_path / "x.jsonl", WHOLE)
    write_lines(tmp_path / "x.jsonl", chain(stream_lines(tmp_path / "x.jsonl"), [{"id": "c"}]))
    assert read_lines(tmp_path / "x.jsonl") == [*WHOLE, {"id": "c"}]


def test_lines_that_cannot_be_written_to_the_end_leave_the_file_as_it_was(tmp_path):
    written(tmp_path / "x.jsonl", WHOLE)
    with pytest.raises(TypeError):
        write_lines(tmp_path / "x.jsonl", [{"id": "c"}, {"id": object()}])
    assert read_lines(tmp_path / "x.jsonl") == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_value_that_is_no_json_is_refused_and_writes_nothing(tmp_path):
    writer = LineWriter(tmp_path / "x.jsonl")
    with pytest.raises(ValueError, match="JSON compliant"):
        writer.append({"value": float("nan")})
    writer.close()
    assert (tmp_path / "x.jsonl").read_bytes() == b""


def test_second_writer_is_refused_until_the_first_is_done(tmp_path):
    folder = tmp_path / "run"
    with (
        opened_for_writing(folder),
        pytest.raises(UserError, match="Another process"),
        opened_for_writing(folder),
    ):
        pass
    with opened_for_writing(tmp_path / "run"):
        pass


def test_folder_left_by_a_process_killed_at_its_first_write_is_no_stranger(tmp_path):
    (tmp_path / ".run.json.part").write_bytes(b'{"for')
    (tmp_path / ".lock").write_bytes(b"12 on host")
    with opened_for_writing(tmp_path):
        pass


def test_failed_replacement_leaves_the_old_content(tmp_path, monkeypatch):
    import os

    file = tmp_path / "x.json"
    write_atomically(file, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_two_that_write_the_same_file_at_once_do_not_meet(tmp_path, monkeypatch):
    import os

    file, replace = tmp_path / "x.json", os.replace

    def meanwhile(source: object, target: object) -> None:
        monkeypatch.setattr(os, "replace", replace)
        write_atomically(file, b"of the other")
        replace(source, target)

    monkeypatch.setattr(os, "replace", meanwhile)
    write_atomically(file, b"of the first")
    assert file.read_bytes() == b"of the first"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_written_file_can_be_read_by_whom_the_umask_lets(tmp_path):
    import os

    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "x.json", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o644


def test_half_written_files_of_a_killed_process_go_when_the_folder_is_opened(tmp_path):
    with opened_for_writing(tmp_path):
        pass
    (tmp_path / "run.json").write_text("{}")
    left = [tmp_path / ".run.json.12-ab.part", tmp_path / "images" / "m" / "ann" / ".1.png.12-ab.part"]
    own = tmp_path / "checkpoints" / "m" / "ann" / "state.part"
    for file in (*left, own):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with opened_for_writing(tmp_path):
        assert not any(file.exists() for file in left)
    assert own.exists()
