"""One set of records read under all published protocols: what each takes into its mean, and where they disagree."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from fc_bench.errors import UserError
from fc_bench.model.matching import greedy_matching
from fc_bench.published.multiid import trimmed_mean
from fc_bench.reports.frame import read_runs, rows
from fc_bench.reports.quality.side_by_side import ProtocolRun, disagreements, reading, side_by_side
from fc_bench.run_folder.records import RUN, SAMPLES, SCORES

BLEND, STRANGER, NOBODY = [[0.5], [0.5]], [[0.9, 0.0], [0.0, 0.0]], [[], []]


@pytest.fixture
def planted(copied):
    """A run in which every image of two subjects of these methods has these similarities."""

    def plant(**matrices):
        methods = {name.replace("_", "-"): found for name, found in matrices.items()}
        owner = {}

        def sample(record):
            owner[record["id"]] = record["method"], len(record["subjects"])
            return record

        def score(record):
            method, size = owner.get(record["sample"], ("", 0))
            if record["metric"] == "identity" and size == 2:
                found = np.array(methods[method]).reshape(2, -1)
                record["details"]["similarities"] = methods[method]
                own = [found[pair] for pair in greedy_matching(found).items()]
                record["values"]["identity"] = min(own) if len(own) == 2 else 0.0
            return record

        return read_runs([copied("planted", methods=tuple(methods), sample=sample, score=score)])

    return plant


def values(runs, size=2):
    """(score, method) -> its cell."""
    table = next(table for table in side_by_side(runs) if table.name == f"protocols-{size}")
    names = [heading.text for heading in table.header]
    cells = {row[0].text.rstrip(" ↑↓"): dict(zip(names[1:], row[1:], strict=True)) for row in table.rows}
    return {(score, name): cell for score, own in cells.items() for name, cell in own.items()}


def test_each_protocol_says_of_a_blend_a_stranger_and_nobody_what_its_code_says(planted):
    found = values(planted(text_only=NOBODY, fastcomposer=BLEND, dreambooth=STRANGER))
    texts = {
        score: [found[score, name].text for name in ("text-only", "fastcomposer", "dreambooth")] for score, _ in found
    }
    assert texts["identity preservation"] == ["0.000", "0.000", "0.000"]
    assert texts["XVerse ID-Sim"] == ["0.0", "50.0", "45.0"]
    assert texts["UMO ID-Conf"] == ["–", "–", "50.0"]
    assert texts["UMO matching reward"] == ["0.000", "0.000", "0.225"]
    assert texts["MultiHuman face similarity"] == ["0.000", "0.250", "0.450"]
    assert texts["MultiHuman count accuracy"] == ["0.00", "0.00", "1.00"]
    assert texts["MultiID Sim(Ref)"] == ["–", "0.500", "0.450"]


def test_what_a_protocol_leaves_out_of_its_mean_is_counted_beside_it(copied):
    seen = []

    def score(record):
        if record["metric"] == "identity" and not record["sample"].startswith("anchor") and not seen:
            seen.append(record["sample"])
            record["details"]["similarities"] = [[] for _ in record["details"]["similarities"]]
        return record

    cells = values(read_runs([copied("run", score=score)]), size=1)
    assert cells["MultiID Sim(Ref)", "text-only"].count == 14
    assert cells["XVerse ID-Sim", "text-only"].count is None


def test_derived_columns_belong_to_the_right_images(pocket):
    run = ProtocolRun(pocket.folder, pocket.name)
    recorded = {
        (row["label"], row["subjects"], row["category"]): row for row in rows([pocket]) if row["column"] == "face_count"
    }
    derived = [row for row in rows([run]) if row["column"] == "multihuman_count"]
    assert len(derived) > 12
    for row in derived:
        other = recorded[row["label"], row["subjects"], row["category"]]
        assert [row[name] for name in ("mean", "low", "high", "n_ok", "n_total")] == [
            other[name] for name in ("mean", "low", "high", "n_ok", "n_total")
        ]


def test_as_published_takes_the_means_of_the_benchmarks_own_code(pocket):
    run = ProtocolRun(pocket.folder, pocket.name)
    own = run.samples[(run.samples["method"] == "dreambooth") & (run.samples["subjects"] == 1)]
    expected = trimmed_mean(own["multiid_similarity"].tolist())
    assert expected is not None
    table = side_by_side([pocket], as_published=True)[0]
    (line,) = (row for row in table.rows if row[0].text == "MultiID Sim(Ref) ↑, as published")
    (place,) = (place for place, heading in enumerate(table.header) if heading.text == "dreambooth")
    assert line[place].text == f"{expected.mean:.3f}"
    assert line[place].count == (expected.used if expected.left_out else None)


def test_pairs_that_a_protocol_orders_otherwise_are_named(planted):
    lines = disagreements(planted(fastcomposer=BLEND, dreambooth=[[0.4, 0.0], [0.0, 0.4]]))
    (line,) = (line for line in lines if line.startswith("XVerse ID-Sim"))
    assert line == (
        "XVerse ID-Sim, 2 subjects: 1 of 1 pairs of methods stand otherwise than under identity preservation "
        "(fastcomposer before dreambooth)."
    )


def test_a_run_without_similarities_is_refused_in_a_sentence(copied):
    folder = copied(
        "run", settings=lambda run: {**run, "columns": {"prompt-consistency": run["columns"]["prompt-consistency"]}}
    )
    with pytest.raises(UserError, match='no scores of the metric "identity"'):
        side_by_side(read_runs([folder]))


@pytest.mark.parametrize("damage", [{}, {"similarities": []}, {"similarities": 3}, {"similarities": [["a"]]}])
def test_damaged_details_of_a_score_are_named_in_a_sentence(damage, copied):
    def score(record):
        return {**record, "details": damage} if record["metric"] == "identity" else record

    with pytest.raises(UserError, match=r"scores\.jsonl: the details of the score identity of .* are damaged"):
        side_by_side(read_runs([copied("damaged", score=score)]))


def test_the_command_prints_and_writes_the_protocols(fc_bench, copied, tmp_path):
    folder = copied("run")
    done = fc_bench("report", folder, "--protocols")
    assert done.code == 0, done.err
    assert "The same images under published protocols" in done.out
    text = (folder / "report" / "protocols.md").read_text()
    assert "| XVerse ID-Sim ↑ |" in text
    assert "arithmetic of its benchmark's code with the embedder pocket-faces" in text
    refused = fc_bench("report", folder, "--as-published")
    assert refused.code == 2
    assert "add --protocols" in refused.err


def test_scores_measured_as_metrics_equal_those_derived_from_records(fc_bench, tiny_backbone, plugin, suite, tmp_path):
    copy = suite.with_name("with-protocols.yaml")
    copy.write_text(suite.read_text() + "\nmetrics: [identity, xverse, umo-reward, multihuman, multiid]\n")
    folder = tmp_path / "run"
    done = fc_bench("run", copy, "--backbone", tiny_backbone, "--out", folder, "-m", "paste", "-m", "text-only")
    assert done.code == 0, done.err
    measured = {}
    for line in (folder / SCORES).read_text().splitlines():
        record = json.loads(line)
        measured.update({(record["sample"], name): value for name, value in record["values"].items()})
    (run,) = read_runs([folder])
    derived = ProtocolRun(run.folder, run.name).measured.rows()
    names = [column.name for column in ProtocolRun(run.folder, run.name).columns]
    for row in derived:
        for name in names:
            value = measured[row["sample"], name]
            tolerance = 2e-4 if name in ("xverse_id", "umo_id_confidence") else 2e-6  # percent
            assert row[name] == (None if value is None else pytest.approx(value, abs=tolerance))


def test_a_protocol_added_to_a_finished_run_needs_no_image(fc_bench, tiny_backbone, plugin, suite, tmp_path, records):
    folder = tmp_path / "run"
    command = ("--backbone", tiny_backbone, "--out", folder, "-m", "paste")
    assert fc_bench("run", suite, *command).code == 0
    before = records(folder / SCORES)
    for image in (folder / "images").rglob("*.png"):
        image.unlink()
    suite.write_text(suite.read_text() + "\nmetrics: [identity, prompt-consistency, xverse]\n")
    done = fc_bench("run", suite, *command)
    assert done.code == 0, done.err
    added = records(folder / SCORES)[len(before) :]
    assert {score["status"] for score in added} == {"ok"}
    named = {score["sample"] for score in added if score["metric"] == "xverse"}
    assert named >= {score["sample"] for score in before if score["metric"] == "identity"}


@pytest.fixture
def judged(copied):
    """A run in which gpt-4.1 answered OmniContext's questions: PF 4 and SC 9, in `style` 1 and 1; one is unreadable."""
    from fc_bench.metrics.judged import OmniContext, Rating

    folder = copied("judged")
    settings = json.loads((folder / RUN).read_text())
    columns = OmniContext.columns("gpt-4.1", "answers of gpt-4.1, read from a file")
    settings["columns"]["omnicontext@gpt-4.1"] = [asdict(column) for column in columns]
    entry = {"protocol": "omnicontext", "judge": "gpt-4.1", "arithmetic": "theirs", "made_by": None}
    settings["judged"] = {"omnicontext@gpt-4.1": {**entry, "answers": 2, "unreadable": 1, "commands": []}}
    (folder / RUN).write_text(json.dumps(settings))
    lines = []
    for number, line in enumerate(map(json.loads, (folder / SAMPLES).read_text().splitlines())):
        pf, sc = (1.0, 1.0) if line["category"] == "style" else (4.0, 9.0)
        ratings = [Rating("PF", 1, (pf,)), Rating("SC", 1, None if number == 0 else (sc,))]
        score = OmniContext.score("gpt-4.1", ratings)
        head = {"sample": line["id"], "metric": "omnicontext@gpt-4.1", "status": "ok"}
        lines.append({**head, "values": score.values, "details": score.details})
    with (folder / SCORES).open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return folder


def test_judges_scores_stand_beside_the_protocols_with_the_means_of_their_code(judged):
    runs = read_runs([judged])
    table = side_by_side(runs, as_published=True)[0]
    lines = {row[0].text: row[1:] for row in table.rows}
    categories = runs[0].samples.loc[runs[0].samples["subjects"] == 1, "category"].unique()
    assert "style" in categories
    for cell in lines["OmniContext overall (gpt-4.1) ↑, as published"][:3]:
        assert cell.text == f"{(6 * (len(categories) - 1) + 1) / len(categories):.2f}"
    assert lines["OmniContext overall (gpt-4.1) ↑"][0].count is not None
    assert not any("unreadable" in name for name in lines)
    ranks = side_by_side(runs)[1]
    assert "OmniContext overall (gpt-4.1)" in [row[0].text for row in ranks.rows]
    assert any("answers of gpt-4.1" in line for line in reading(runs))


def test_runs_of_which_one_is_judged_stand_in_one_table(judged, copied):
    other = copied("other", methods=("textual-inversion",), relabel={"textual-inversion": "plain"})
    table = side_by_side(read_runs([other, judged]))[0]
    (line,) = (row for row in table.rows if row[0].text == "OmniContext SC (gpt-4.1) ↑")
    shown = dict(zip([heading.text for heading in table.header], line, strict=True))
    assert shown["plain"].text == "–"
    assert shown["dreambooth"].text != "–"
