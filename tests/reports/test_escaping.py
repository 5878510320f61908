"""Each escaping leaves ordinary text readable and takes the meaning out of everything else."""

from __future__ import annotations

import html

import pytest

from fc_bench.reports.escaping import file_name, html_text, latex, markdown, plain, spreadsheet


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "\r-1"])
def test_no_cell_begins_a_formula(text):
    assert spreadsheet(text)[0] == "'"


@pytest.mark.parametrize("escape", [plain, markdown, latex, html_text, spreadsheet])
def test_ordinary_labels_are_as_they_are(escape):
    for text in ("fastcomposer", "text-only", "a photo of a man in the snow, at 5 o clock"):
        assert escape(text) == text


def test_brackets_of_a_label_stay_in_markdown_and_links_do_not():
    assert markdown("paste[seconds=0.1]") == "paste[seconds=0.1]"
    assert markdown("![x](http://y)") == "![x]\\(http://y)"
    assert markdown("a|b`c`<i>&lt;") == "a\\|b\\`c\\`&lt;i>&amp;lt;"


def test_text_is_one_line_of_printable_characters():
    assert plain("a\n b\x1b[0m\x00\u202ec\u2028d") == "a b [0m c d"


def test_html_reads_back_as_the_text():
    text = "<b a=\"1\" c='2'>&amp;"
    assert html.unescape(html_text(text)) == text
    assert not set(html_text(text)) & set("<>\"'")


def test_latex_has_no_bare_special_character_and_names_what_it_cannot_set():
    assert latex("100 % & $5 #1 a_b {x}") == r"100 \% \& \$5 \#1 a\_b \{x\}"
    assert latex("\\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"
    assert latex("é 人 ²") == r"é {[}U+4EBA{]} \textsuperscript{2}"


@pytest.mark.parametrize("text", ["../../etc", "/root", "..", ".hidden", "a/b", "C:\\x", "", "a\nb"])
def test_file_names_stay_in_their_folder(text):
    assert "/" not in file_name(text)
    assert "\\" not in file_name(text)
    assert file_name(text)[0] != "."
