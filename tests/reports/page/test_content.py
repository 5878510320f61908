"""What stands in a page is what stands in the records, whatever the records hold."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.reports.page import pictures
from fc_bench.reports.trust import published_trust

SNOW, SKETCH = "a photo of a {subject} in the snow", "a sketch of a {subject}"
HOSTILE = (
    "</script><script>window.hacked=1</script><!-- \" ' & \u2028 \u202e\x1b[2J \ud83d <img src=x onerror=hacked=1>"
)


def data_of(page: Path) -> dict:
    """The data the page's script reads."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(data)


class _Tables(HTMLParser):
    """Tables as title -> rows of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self._into: list[str] | None = None
        self._caption = ""

    def handle_starttag(self, tag, attrs):
        if tag == "caption":
            self._into = []
        elif tag == "tr" and self._caption:
            self.tables[self._caption].append([])
        elif tag in ("td", "th") and self._caption:
            self._into = []

    def handle_endtag(self, tag):
        if tag not in ("caption", "td", "th") or self._into is None:
            return
        text = " ".join("".join(self._into).split())
        self._into = None
        if tag == "caption":
            self._caption = text
            self.tables[text] = []
        else:
            self.tables[self._caption][-1].append(text)

    def handle_data(self, data):
        if self._into is not None:
            self._into.append(data)


def tables_of(page: Path) -> dict[str, list[list[str]]]:
    """All tables of the page as text."""
    parser = _Tables()
    parser.feed(page.read_text())
    return parser.tables


def test_table_has_the_means_of_the_records(make_run, page_of):
    run = make_run()
    table = tables_of(page_of(run.path))["One subject"]
    assert [cell.split(" ↑")[0] for cell in table[0]] == [
        "method",
        "n",
        "identity preservation",
        "faces detected",
        "prompt consistency",
    ]
    rows = {row[0]: row[1:] for row in table[1:]}
    assert list(rows) == [
        "text-only",
        "fastcomposer",
        "dreambooth",
        "ceiling (own photographs)",
        "floor (other person)",
    ]
    for method in ("text-only", "fastcomposer", "dreambooth"):
        own = [
            run.scores[name]
            for name, record in run.samples.items()
            if record["method"] == method and len(record["subjects"]) == 1
        ]
        for place, column in ((1, "identity"), (3, "prompt_consistency")):
            mean = sum(values[column] for values in own) / len(own)
            assert f"{mean:.3f} [" in rows[method][place]
    assert rows["fastcomposer"][0] == "8 / 8"
    assert rows["ceiling (own photographs)"][1].startswith("0.900")


def test_data_has_every_sample_as_recorded(make_run, page_of):
    failed, missing = ("dreambooth", "p2", SNOW), ("fastcomposer", "p1", SKETCH)
    run = make_run(failed={failed: "no room"}, missing=[missing])
    data = data_of(page_of(run.path))
    columns = [column["name"] for column in data["columns"]]
    assert len(data["samples"]) == len(run.samples)
    for sample in data["samples"]:
        record = run.samples[sample["id"]]
        assert sample["status"] == record["status"]
        assert data["methods"][sample["method"]] == record["method"]
        assert [data["people"][number]["id"] for number in sample["people"]] == record["subjects"]
        assert data["texts"][sample["prompt"]] == record["prompt"]
        assert sample["seed"] == record["seed"]
        if sample["status"] == "ok":
            assert data["texts"][sample["generated"]] == record["generated_prompt"]
            assert dict(zip(columns, sample["values"], strict=True)) == run.scores[sample["id"]]
            assert data["pictures"][sample["picture"]] == [f"../{record['image'].replace('+', '%2B')}", 32, 32]
        else:
            assert set(sample["values"]) == {None}
            assert "picture" not in sample
    (broken,) = [sample for sample in data["samples"] if sample["status"] == "error"]
    assert [data["texts"][number] for number in broken["failure"]] == [
        run.of(*failed)["error"]["message"],
        run.of(*failed)["error"]["traceback"],
    ]


def test_samples_of_one_prompt_and_seed_stand_together_whatever_method_or_run_made_them(make_run, page_of):
    one, other = make_run("one"), make_run("other")
    data = data_of(page_of(one.path, other.path, out=one.path.parent / "both"))
    groups: dict[int, set[str]] = {}
    for sample in data["samples"]:
        people = "+".join(data["people"][number]["id"] for number in sample["people"])
        groups.setdefault(sample["group"], set()).add(f"{people}: {data['texts'][sample['prompt']]}")
    assert all(len(prompts) == 1 for prompts in groups.values())
    assert len(groups) == 4 * 2 + 2
    assert len(data["samples"]) == 2 * len(one.samples)
    assert len(data["people"]) == 4
    assert len({sample["key"] for sample in data["samples"]}) == len(data["samples"])


@pytest.mark.parametrize("where", ["prompt", "method", "noun", "description", "failure"])
def test_hostile_text_reaches_the_page_as_text_alone(make_run, where, page_of):
    harmless = {SNOW: "context"}
    run = {
        "prompt": lambda: make_run(single={f"a {{subject}} {HOSTILE}": "context"}),
        "method": lambda: make_run(methods=("text-only", HOSTILE), single=harmless),
        "noun": lambda: make_run(nouns={"p1": HOSTILE, "p2": "man", "p3": "man", "p4": "man"}),
        "description": lambda: make_run(description=HOSTILE),
        "failure": lambda: make_run(failed={("dreambooth", "p2", SNOW): HOSTILE}),
    }[where]()
    content = page_of(run.path).read_bytes()
    text = content.decode("utf-8")
    assert b"<script>window.hacked" not in content
    assert b"<img src=x" not in content
    for steering in ("\u202e", "\x1b", "\u2028"):
        assert steering not in text
    (raw,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert not set(raw) & set("<>&\u2028\u2029")
    if where in ("prompt", "failure"):
        texts = data_of(run.path / "report" / "index.html")["texts"]
        assert any(
            "</script><script>window.hacked=1</script>" in text and "\\u202e\\u001b[2J" in text for text in texts
        )


def test_picture_outside_the_run_folder_is_not_shown(make_run, tmp_path, page_of):
    run = make_run()
    Image.new("RGB", (32, 32)).save(tmp_path / "private.png")
    file = run.path / "samples.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line, image in zip(
        lines, ("../private.png", str(tmp_path / "private.png"), "images/../../private.png"), strict=False
    ):
        line["image"] = image
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for images in ("link", "embed"):
        data = data_of(page_of(run.path, images=images))
        assert ["picture" in sample for sample in data["samples"][:4]] == [False, False, False, True]
        assert not any("private" in str(address) for address, *_ in data["pictures"])


def test_embedded_pictures_are_inside_and_each_once(make_run, page_of):
    run = make_run(one_image=True)
    data = data_of(page_of(run.path, images="embed"))
    assert len(data["pictures"]) == 1 + 4
    assert all(address.startswith("data:image/webp;base64,") for address, *_ in data["pictures"])
    assert "../" not in json.dumps([address for address, *_ in data["pictures"]])


def test_embedded_pictures_become_smaller_until_they_fit(tmp_path):
    files = []
    for number in range(6):
        files.append(tmp_path / f"{number}.png")
        Image.effect_noise((600, 300), 90).convert("RGB").save(files[-1])
    large = pictures.embedded(files, budget=10**9)
    small = pictures.embedded([*files, None, tmp_path / "absent.png"], budget=60_000)
    assert small.side in pictures.SIDES[1:]
    assert large.side == 1024
    assert sum(len(picture.address or "") for picture in small.pictures) <= 60_000
    assert [picture.address is None for picture in small.pictures] == [False] * 6 + [True] * 2
    assert {(picture.width, picture.height) for picture in small.pictures[:6]} == {(600, 300)}
    with pytest.raises(UserError, match=r"6 images do not fit .* use --images link"):
        pictures.embedded(files, budget=1000)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damaged_picture_is_left_out_and_the_others_stay(tmp_path, damage):
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.effect_noise((64, 64), 90).convert("RGB").save(file)
    content = files[1].read_bytes()
    half = len(content) // 2
    files[1].write_bytes(content[:half] if damage == "cut" else content[:half] + bytes(200) + content[half + 200 :])
    made = pictures.embedded(files)
    assert [picture.address is None for picture in made.pictures] == [False, True, False]


def test_records_without_images_say_so(make_run, page_of):
    run = make_run(images=False)
    page = page_of(run.path)
    assert "The images of this run are missing" in page.read_text()
    assert data_of(page)["pictures"] == []


def test_best_value_is_marked_and_what_is_not_told_apart_from_it(make_run, page_of):
    text = page_of(make_run().path).read_text()
    table = text[text.index("<caption>One subject") : text.index("<caption>2 subjects")]
    rows = {
        name: cells for name, cells in re.findall(r"<tr><th scope=\"row\"><bdi>(.*?)</bdi>(.*?)</tr>", table, re.DOTALL)
    }
    cells = {name: re.findall(r"<td.*?</td>", row, re.DOTALL) for name, row in rows.items()}
    assert ["best" in cells[name][1] for name in ("text-only", "fastcomposer", "dreambooth")] == [False, False, True]
    assert 'class="level"' not in cells["fastcomposer"][1]
    pairs = text[text.index("<caption>2 subjects") :]
    assert 'class="level"' not in pairs[: pairs.index("</table>")]  # two sets give no interval, so nothing is said


def test_repetition_of_a_run_and_its_provenance_are_there(make_run, page_of):
    run = make_run()
    settings = json.loads((run.path / "run.json").read_text())
    text = page_of(run.path).read_text()
    assert "<code>fc-bench run --workers 1 --out runs/again</code>" in text
    assert settings["commands"][-1]["code"]["commit"] in text
    assert settings["commands"][-1]["versions"]["torch"] in text
    for digest in settings["scorers"].values():
        assert digest in text


def test_each_measure_with_a_published_card_says_how_far_to_trust_it_and_leads_there(make_run, page_of):
    page = page_of(make_run().path)
    text = page.read_text(encoding="utf-8")
    (card,) = set(re.findall(r'href="([^"]*)#identity">How far to trust it</a>', text))
    cards = (page.parent / card).read_text(encoding="utf-8")
    assert '<section id="identity"' in cards
    for trust in published_trust().values():
        assert f'<section id="{trust.metric}"' in cards
    assert str(escape(published_trust()["identity"].in_short)) in text


def test_a_table_by_prompt_category_says_what_requests_leave_of_the_scale(make_run, page_of):
    text = page_of(make_run().path).read_text(encoding="utf-8")
    found = published_trust()
    assert not found["prompt_consistency"].requests
    assert text.count("requests leave: ") == text.count(f"requests leave: {found['identity'].requests}") > 0
    assert "prompt consistency by category" in text


def test_page_is_one_file_without_addresses_of_the_network(make_run, page_of):
    text = page_of(make_run().path, images="embed").read_text()
    assert not re.findall(r"""(?:src|href|url|@import)\s*[=(]\s*["']?\s*(?:https?:)?//""", text)
    assert "default-src 'none'" in text
