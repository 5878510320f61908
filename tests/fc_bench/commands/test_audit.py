"""`fc-bench audit`: the files of an audit, and what it refuses."""

from __future__ import annotations

import csv
import gzip

import pytest

SMALL = ("--people", 3, "--seeds", 1, "--processes", 1)


def test_an_audit_writes_a_card_of_each_metric_and_one_page(fc_bench, tmp_path) -> None:
    folder = tmp_path / "audit"
    done = fc_bench("audit", "--metrics", "xverse", *SMALL, "--out", folder)
    assert done.code == 0, done.err
    assert str(folder / "index.html") in done.out
    names = {path.name for path in folder.iterdir()}
    assert {"xverse.md", "xverse.csv", "xverse.tex", "xverse.svg", "summary.md", "scenes.md", "in-short.md"} <= names
    assert "identity.md" not in names
    assert "XVerse ID-Sim" in (folder / "index.html").read_text(encoding="utf-8")
    with gzip.open(folder / "scores.csv.gz", "rt", encoding="utf-8") as lines:
        assert {row["people"].count("+") for row in csv.DictReader(lines)} == {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--metrics", "identiy"], 'Unknown metric "identiy", did you mean "identity"'),
        (["--people", "2"], "--people 2 gives no intervals; examine at least 3."),
        (["--embedder", "pocket-faces"], "--embedder chooses what --photographs calibrates"),
        (["--backbone", "nothing"], "nothing"),
        (["--metrics", "identity", "--photographs", "."], "--metrics chooses what is examined on drawn pictures"),
    ],
)
def test_bad_input_is_one_sentence(fc_bench, arguments, sentence, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = fc_bench("audit", *arguments)
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
