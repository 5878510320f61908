"""Answers of judges: read strictly, stored as they were, and scores like any other of the run."""

from __future__ import annotations

import csv
import json
import math
import shutil

import pytest

from fc_bench.analysis.aggregate import columns_of, result_rows
from fc_bench.metrics.judged import PROTOCOLS
from fc_bench.run_folder.records import ANSWERS, RUN, SCORES, RunFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, made once; `run_of` copies it."""
    return tmp_path_factory.mktemp("judged") / "made"


@pytest.fixture
def again(fc_bench, suite, tiny_backbone, plugin):
    """`fc-bench run` of the suite with the pasting method into a folder."""

    def invoke(folder, *arguments):
        methods = ("-m", "paste", *arguments)
        return fc_bench("run", suite, "--backbone", tiny_backbone, "--out", folder, *methods)

    return invoke


@pytest.fixture
def run(made, again, tmp_path):
    """A run folder with one method, three people with three prompts each, and two pairs with one."""
    if not made.exists():
        assert again(made).code == 0
    return RunFolder(shutil.copytree(made, tmp_path / "run", ignore=shutil.ignore_patterns("report")))


@pytest.fixture
def answers(tmp_path):
    """Writes rows as JSON lines."""

    def write(rows, name="gpt-4.1.jsonl"):
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    return write


def to_all(run, pf="7", sc='{"score": 5, "reasoning": "close"}'):
    """A row for each question of OmniContext about each image."""
    return [
        {"image": name, "question": question, "answer": text}
        for name in run.samples()
        for question, text in (("PF", pf), ("SC", sc))
    ]


def results(run, column):
    return next(row for row in result_rows(run) if (row["column"], row["category"]) == (column, "all"))


def content(run):
    """Everything in a run folder but derived files."""
    return {
        file.relative_to(run.path): file.read_bytes()
        for file in run.path.rglob("*")
        if file.is_file() and file.relative_to(run.path).parts[0] not in ("report", "finished.json", ".lock")
    }


def test_answers_become_columns_with_intervals_and_counts(fc_bench, run, answers):
    done = fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(to_all(run)))
    assert done.code == 0, done.err
    planned = len(run.planned())
    assert f"{planned} of {planned} images have answers; 0 of {2 * planned} answers could not be read" in done.out
    row = results(run, "omnicontext_overall@gpt-4.1")
    assert row["mean"] == pytest.approx(math.sqrt(35))
    assert row["n_ok"] == row["n_total"]
    assert row["low"] is not None
    report = fc_bench("report", run.path)
    assert report.code == 0, report.err
    assert "OmniContext overall (gpt-4.1)" in report.out
    table = (run.path / "report" / "table.csv").read_text()
    assert "OmniContext SC (gpt-4.1)" in table
    assert "OmniContext unreadable answers (gpt-4.1)" in table


def test_an_unreadable_answer_is_missing_and_counted_never_a_number(fc_bench, run, answers):
    rows = to_all(run)
    for row in rows[:4]:
        row["answer"] = "I would say 7 or 8."
    done = fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(rows))
    assert f"4 of {len(rows)} answers could not be read" in done.out
    row, pf = results(run, "omnicontext_overall@gpt-4.1"), results(run, "omnicontext_pf@gpt-4.1")
    assert (row["n_ok"], pf["n_ok"]) == (row["n_total"] - 2, pf["n_total"] - 2)
    assert pf["mean"] == 7
    assert results(run, "omnicontext_unreadable@gpt-4.1")["n_ok"] == row["n_total"]
    assert run.settings()["judged"]["omnicontext@gpt-4.1"]["unreadable"] == 4
    assert f"4 of {len(rows)} answers of gpt-4.1 to omnicontext could not be read" in fc_bench("report", run.path).out


def test_raw_text_is_stored_and_the_same_file_adds_nothing(fc_bench, run, answers, records):
    text = 'Well,\n{"score": 9, "reasoning": "„naïve“ \U0001f600 \x00 \ud800"} '
    file = answers(to_all(run, pf=text))
    for _ in range(2):
        assert fc_bench("judge", run.path, "--as", "omnicontext", "--answers", file).code == 0
    stored = records(run.path / ANSWERS)
    assert len(stored) == 2 * len(run.samples())
    assert {one["answer"] for one in stored if one["question"] == "PF"} == {text}
    assert {one["judge"] for one in stored} == {"gpt-4.1"}
    assert sum(one["metric"] == "omnicontext@gpt-4.1" for one in records(run.path / SCORES)) == len(run.samples())


def test_more_answers_join_those_that_are_stored(fc_bench, run, answers):
    rows = to_all(run)
    fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(rows[:6]))
    assert results(run, "omnicontext_overall@gpt-4.1")["n_ok"] == 3
    repeated = [{**row, "repetition": 2, "answer": "9"} for row in rows[:1]]
    done = fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers([*rows, *repeated]))
    assert done.code == 0, done.err
    assert results(run, "omnicontext_overall@gpt-4.1")["n_ok"] > 3
    first = run.scores()[rows[0]["image"], "omnicontext@gpt-4.1"]
    assert first["values"]["omnicontext_pf@gpt-4.1"] == 8  # the mean of 7 and 9


def test_a_table_names_images_by_path_or_by_their_request(fc_bench, run, tmp_path):
    file = tmp_path / "gemini.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out, delimiter=";")
        writer.writerow(["method", "subjects", "prompt", "index", "image", "question", "answer"])
        for number, one in enumerate(run.samples().values()):
            whole = [
                one["method"],
                "+".join(one["subjects"]),
                one["template" if number % 2 else "prompt"],
                one["index"],
            ]
            path = one["image"] if number % 3 else str(run.path / one["image"])
            writer.writerow([*whole, "", "complex", '[Thought]: good;\n"fine" [Score]: 6'])
            writer.writerow(["", "", "", "", path, "action", "[Score]: 8"])
    done = fc_bench("judge", run.path, "--as", "psrbench", "--answers", file)
    assert done.code == 0, done.err
    for column, value in (("complex", 6), ("action", 8)):
        row = results(run, f"psrbench_{column}@gemini")
        assert (row["mean"], row["n_ok"]) == (value, row["n_total"])


def test_each_judge_has_columns_of_its_own(fc_bench, run, answers):
    for judge, pf in (("gpt-4.1", "7"), ("qwen", "3")):
        file = answers(to_all(run, pf=pf))
        assert fc_bench("judge", run.path, "--as", "omnicontext", "--answers", file, "--judge", judge).code == 0
    assert [results(run, f"omnicontext_pf@{judge}")["mean"] for judge in ("gpt-4.1", "qwen")] == [7, 3]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"image": "nowhere.png"}, [":2: ", 'no finished image "nowhere.png"']),
        ({"question": "XX"}, [":2: ", 'no question "XX"', "PF, SC"]),
        ({"question": None}, [":2: ", "no question"]),
        ({"answer": 7}, [":2: ", "is not text"]),
        ({"repetition": "x"}, [":2: ", "not a whole number from 1"]),
        ({"image": None}, [":2: ", 'the column "image" (or one of method, subjects, prompt) is missing']),
        ({"image": "", "method": "paste", "subjects": "ann", "prompt": "a wall"}, [":2: ", "no finished image 0 of"]),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_nothing_is_written(fc_bench, run, answers, change, parts):
    before = content(run)
    rows = to_all(run)
    rows[1] |= change
    refused(fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(rows)), *parts)
    assert content(run) == before


def test_two_answers_to_one_question_are_refused_with_both_lines(fc_bench, run, answers):
    before, rows = content(run), to_all(run)
    file = answers([*rows, rows[2]])
    done = fc_bench("judge", run.path, "--as", "omnicontext", "--answers", file)
    refused(done, f"{file}:{len(rows) + 1}: ", f"already answered in {file}:3")
    assert content(run) == before


def test_another_answer_of_the_same_judge_is_refused(fc_bench, run, answers):
    fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(to_all(run)))
    before = content(run)
    done = fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(to_all(run, pf="1")))
    refused(done, ":1: ", "has another answer of gpt-4.1", "--judge")
    assert content(run) == before


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.jsonl", "{]\n", ["a.jsonl:1: ", "not JSON"]),
        ("a.jsonl", "7\n", ["a.jsonl:1: ", "not a JSON object"]),
        ("a.jsonl", "\n", ["holds no answer"]),
        ("a.jsonl", '{"image": "x", "answer": "7"}\n', ["a.jsonl:1: ", 'the column "question" is missing']),
        ("a.csv", "image,question\nx,PF\n", ["a.csv:2: ", 'the column "answer" is missing']),
        ("a.csv", "image,question,answer,answer\nx,PF,7,7\n", ["a.csv:1: ", "occurs 2 times"]),
        ("a.csv", "image,question,answer\nx,PF,7,8\n", ["a.csv:2: ", "4 fields"]),
        ("a.csv", 'image,question,answer\n"x"y,PF,7\n', ["a.csv:2: ", "not a row"]),
        ("a.csv", f"image,question,answer{'x' * 200_000}\n", ["a.csv:1: ", "not a row"]),
        ("a.txt", "x", ["neither JSON lines"]),
        ("a.csv", b"image,question,answer\nx,PF,\xff\n", ["not UTF-8"]),
    ],
)
def test_a_file_that_is_none_of_answers_is_refused(fc_bench, run, tmp_path, name, text, parts):
    before = content(run)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(fc_bench("judge", run.path, "--as", "omnicontext", "--answers", tmp_path / name), *parts)
    assert content(run) == before


def test_options_that_cannot_be_used_are_refused(fc_bench, run, answers, tmp_path):
    file = answers(to_all(run))
    start = ("judge", run.path, "--as")
    before = content(run)
    refused(fc_bench(*start, "omnicontex", "--answers", file), 'did you mean "omnicontext"?')
    refused(fc_bench(*start, "omnicontext"), "give either --answers FILE or --model FOLDER")
    refused(fc_bench(*start, "omnicontext", "--answers", file, "--model", tmp_path), "give either")
    refused(fc_bench(*start, "omnicontext", "--answers", file, "--judge", "a b"), "not usable", '"a-b"')
    refused(fc_bench(*start, "omnicontext", "--answers", file, "--prompts", file), "add --model")
    refused(fc_bench(*start, "omnicontext", "--answers", tmp_path / "no.jsonl"), "cannot be read")
    refused(fc_bench("judge", tmp_path, "--as", "omnicontext", "--answers", file), "not a run folder")
    assert content(run) == before
    (run.path / "samples.jsonl").write_text("")
    refused(fc_bench(*start, "omnicontext", "--answers", file), "has no finished image")


def test_a_shared_image_stands_for_its_samples_only_without_references(fc_bench, run, answers):
    lines = [json.loads(line) for line in (run.path / "samples.jsonl").read_text().splitlines()]
    lines[1] |= {"image": lines[0]["image"], "same_image_as": lines[0]["id"]}
    (run.path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = {"image": lines[0]["image"], "question": "PF", "answer": "Score: 4"}
    done = fc_bench("judge", run.path, "--as", "dreambench-plus", "--answers", answers([row]))
    assert "2 of" in done.out
    row["question"] = "CP"
    done = fc_bench("judge", run.path, "--as", "dreambench-plus", "--answers", answers([row]))
    refused(done, "2 samples share the image", "CP is about their references")


def test_run_score_report_and_compare_go_on_and_lose_nothing(
    fc_bench, run, again, answers, suite, tiny_backbone, tmp_path
):
    fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(to_all(run)))
    before = {name: own for name, own in run.scores().items() if name[1].startswith("omnicontext")}
    other = shutil.copytree(run.path, tmp_path / "other")
    done = again(run.path, "-m", "text-only")
    assert done.code == 0, done.err
    assert "OmniContext overall (gpt-4.1)" in done.out
    assert {name: own for name, own in run.scores().items() if name in before} == before
    settings = run.settings()
    assert list(settings["judged"]) == ["omnicontext@gpt-4.1"]
    assert [column.name for column in columns_of(run)][-1] == "omnicontext_unreadable@gpt-4.1"
    rows = {row["method"]: row for row in result_rows(run) if row["column"] == "omnicontext_pf@gpt-4.1"}
    assert rows["paste"]["n_ok"] == rows["paste"]["n_total"]
    assert rows["text-only"]["n_ok"] == 0
    done = fc_bench("compare", other, run.path, "--method", "paste=paste")
    assert done.code == 0, done.out + done.err
    assert "OmniContext overall (gpt-4.1)" in done.out
    done = fc_bench("report", run.path, "--protocols", "--as-published")
    assert done.code == 0, done.err


def test_images_made_elsewhere_are_judged_and_scored_again(fc_bench, run, answers, suite, tiny_backbone, tmp_path):
    command = ("score", run.path, "--suite", suite, "--backbone", tiny_backbone, "--out", tmp_path / "scored")
    assert fc_bench(*command).code == 0
    scored = RunFolder(tmp_path / "scored")
    assert fc_bench("judge", scored.path, "--as", "omnicontext", "--answers", answers(to_all(scored))).code == 0
    before = results(scored, "omnicontext_sc@gpt-4.1")
    done = fc_bench(*command)
    assert done.code == 0, done.err
    assert results(scored, "omnicontext_sc@gpt-4.1") == before
    assert before["n_ok"] == before["n_total"]


def test_an_answer_whose_line_was_cut_off_is_stored_again(fc_bench, run, answers, records):
    file = answers(to_all(run))
    fc_bench("judge", run.path, "--as", "omnicontext", "--answers", file)
    stored = (run.path / ANSWERS).read_bytes()
    (run.path / ANSWERS).write_bytes(stored[:-20])
    done = fc_bench("judge", run.path, "--as", "omnicontext", "--answers", file)
    assert "1 are new" in done.out
    assert len(records(run.path / ANSWERS)) == stored.count(b"\n")
    (run.path / ANSWERS).write_bytes(stored.replace(b'"repetition": 1', b'"repetition": 0', 1))
    refused(fc_bench("judge", run.path, "--as", "omnicontext", "--answers", file), "answers.jsonl:1", "repetition")


def test_damage_to_what_run_json_says_of_a_judge_is_named(fc_bench, run, answers):
    fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(to_all(run)))
    whole = (run.path / RUN).read_text()
    settings = json.loads(whole)
    del settings["columns"]["omnicontext@gpt-4.1"]
    (run.path / RUN).write_text(json.dumps(settings))
    refused(fc_bench("report", run.path), "run.json is damaged", '"omnicontext@gpt-4.1" has no columns')
    settings = json.loads(whole)
    del settings["judged"]["omnicontext@gpt-4.1"]["judge"]
    (run.path / RUN).write_text(json.dumps(settings))
    refused(fc_bench("report", run.path), "run.json is damaged", "judge")


def test_the_gate_judges_a_judge_s_column_like_any_other(fc_bench, run, answers, tmp_path):
    worse = shutil.copytree(run.path, tmp_path / "worse")
    fc_bench("judge", run.path, "--as", "omnicontext", "--answers", answers(to_all(run)))
    rows = [{**row, "answer": "2"} for row in to_all(run)]
    fc_bench("judge", worse, "--as", "omnicontext", "--answers", answers(rows))
    gate = tmp_path / "gate.yaml"
    gate.write_text('methods: [paste]\nquality: {"omnicontext_overall@gpt-4.1": {tolerance: 1}}\ncost: {}\n')
    assert fc_bench("compare", run.path, run.path, "--gate", gate).code == 0
    done = fc_bench("compare", run.path, worse, "--gate", gate)
    assert done.code == 1, done.out + done.err


def test_the_help_names_every_protocol(fc_bench):
    out = " ".join(fc_bench("judge", "--help").out.split())
    for name in PROTOCOLS:
        assert name in out


def refused(finished, *parts):
    """One line on standard error with all the parts, exit code 2."""
    assert finished.code == 2, finished
    assert finished.err.count("\n") == 1, finished.err
    for part in parts:
        assert part in finished.err, f"{part!r} is not in {finished.err!r}"
