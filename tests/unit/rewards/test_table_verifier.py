"""Tables: reading HTML and Markdown, the published numbers, and what must not be paid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import check_reference, score
from rewards.api import score_answer
from rewards.registry import BadReference, Context, find
from rewards.table_html import read_html
from rewards.table_markdown import read_markdown
from rewards.table_tree import Table, TableError, plain
from rewards.verifiers.table import TableArgs, read_reference, table

ABC = "<html><body><table><tr><td>a</td><td>b</td><td>c</td></tr><tr><td>1</td><td>2</td><td>3</td></tr><tr><td>4</td><td>5</td><td>6</td></tr></table></body></html>"  # noqa: E501


def judge(answer: str, reference: str = ABC, **args: object):
    return score_answer(answer, reference, domain="table", args=args)


def outline(found: Table) -> list[str]:
    """The nodes in postorder, a cell with its text."""
    return [f"{tag}:{text}" if tag in ("td", "th") else tag for (tag, _, _), text in zip(found.kinds, found.texts, strict=True)]


def html_outline(text: str) -> list[str]:
    return outline(read_html(text, max_nodes=100))


@pytest.mark.parametrize(
    "rows,score",
    [
        ([["a", "b", "c"], ["1", "2", "3"], ["4", "5", "6"]], 1.0),
        ([["a", "b", "c"], ["1", "2", "3"]], 2 / 3),  # a row and its cells: 4 of 12 nodes
        ([["a", "b"], ["1", "2"], ["4", "5"]], 3 / 4),  # a column: 3 of 12
        ([["a", "1", "4"], ["b", "2", "5"], ["c", "3", "6"]], 1 / 2),  # transposed: 6 cells renamed
        ([["a", "b", "c"], ["1", "2", "3"], ["4", "5", "60"]], 1 - 0.5 / 12),  # half a cell's text
        ([["a", "b", "c"], ["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"]], 3 / 4),
    ],
)
def test_missing_and_extra_cells_cost_their_nodes(rows: list[list[str]], score: float) -> None:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    verdict = judge(f"<table>{body}</table>")
    assert verdict.score == pytest.approx(score, abs=1e-7)
    assert verdict.correct is (score == 1.0)


def test_sections_are_nodes_and_are_not_made_up() -> None:
    reference = "<table><thead><tr><td>a</td></tr></thead><tbody><tr><td>1</td></tr></tbody></table>"
    assert judge("<table><tr><td>a</td></tr><tr><td>1</td></tr></table>", reference).score == pytest.approx(2 / 3)


def test_what_stands_around_the_table_does_not_count() -> None:
    answer = f"Here it is:\n```html\n<!-- <table> --><style>table, td {{ x: <table> }}</style>{ABC}\n```"
    assert judge(answer).correct is True


def test_structure_mode_leaves_texts_aside() -> None:
    blank = ABC.replace("a", "zzz").replace("tzzzble", "table").replace("5", "")
    assert judge(blank, mode="structure").score == 1.0
    assert judge(blank).score < 1.0


def test_header_cells_are_other_nodes_unless_told() -> None:
    header = "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
    plain_cells = "<table><tr><td>a</td></tr><tr><td>1</td></tr></table>"
    assert judge(plain_cells, header).score == pytest.approx(3 / 4)
    assert judge(plain_cells, header, header_cells="same").correct is True


def test_text_of_header_cells_is_compared() -> None:
    # The published scorer reads text from td only, so any text in a th would do.
    assert judge("<table><tr><th>x</th></tr></table>", "<table><tr><th>a</th></tr></table>").score == pytest.approx(0.5)


def test_spans_are_compared_and_their_absence_means_one() -> None:
    reference = '<table><tr><td colspan="1">a</td><td colspan="2">b</td></tr></table>'
    assert judge("<table><tr><td>a</td><td colspan='2'>b</td></tr></table>", reference).correct is True
    assert judge("<table><tr><td>a</td><td>b</td></tr></table>", reference).score == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "span", ['colspan="x"', "rowspan=-1", "colspan", "colspan=1e9", "rowspan=99999", 'colspan="２"', "colspan=1.5"]
)
def test_malformed_span_makes_the_answer_worthless(span: str) -> None:
    verdict = judge(f"<table><tr><td {span}>1</td></tr></table>", "<table><tr><td>1</td></tr></table>")
    assert (verdict.score, verdict.reason) == (0.0, "bad-span")


def test_first_of_two_equal_attributes_counts_and_quoted_words_are_no_attributes() -> None:
    found = read_html('<table><tr><td title="colspan=9" colspan=2 COLSPAN="3" rowspan=\' 4 \'>x</td></tr></table>', max_nodes=9)
    assert found.kinds[0] == ("td", 2, 4)


@pytest.mark.parametrize(
    "text,nodes",
    [
        ("<table><tr><td>a<td>b<tr><td>c</table>", ["td:a", "td:b", "tr", "td:c", "tr", "table"]),
        ("<table><td>a</td></table>", ["td:a", "tr", "table"]),
        ("<TABLE><TR><TH>a</TH></TR>", ["th:a", "tr", "table"]),
        ("<table><thead><tr><td>a<tbody><tr><td>b", ["td:a", "tr", "thead", "td:b", "tr", "tbody", "table"]),
        ("<table><caption>x</caption><tr><td>a</td></tr></table>", ["caption", "td:a", "tr", "table"]),
        ("<table><caption>x<tr><td>a", ["caption", "td:a", "tr", "table"]),
        ("<table><colgroup><col><col/></colgroup><tr><td>a", ["col", "col", "colgroup", "td:a", "tr", "table"]),
        ("<table><tbody></thead><tr></td><td>a</tbody></table>", ["td:a", "tr", "tbody", "table"]),
        ("<table><tr><td> a \n b&amp;c &lt;d&gt; &#20013;</td></tr></table>", ["td:a b&c <d> 中", "tr", "table"]),
        ("<table><tr><td>1 < 2 <!-- no --></td><!-- open", ["td:1 < 2", "tr", "table"]),
        ("<table>x<tr>y<td>a</td>z</tr></table>", ["td:a", "tr", "table"]),
        ("<table><div><tr><center><td>a</td></center></tr></div></table>", ["td:a", "tr", "table"]),
    ],
)  # fmt: skip
def test_html_with_tags_left_out_is_read_as_browsers_do(text: str, nodes: list[str]) -> None:
    assert html_outline(text) == nodes


def test_inline_tags_are_tokens_of_the_text_closed_at_the_end_of_the_cell() -> None:
    closed = read_html("<table><tr><td><b>a<i>b</i></b></td></tr></table>", max_nodes=9)
    left_open = read_html("<table><tr><td><b>a<i>b</td></tr></table>", max_nodes=9)
    crossed = read_html("<table><tr><td><b>a<i>b</b></i></td></tr></table>", max_nodes=9)
    assert closed == left_open == crossed
    assert closed.inline == 2 and len(closed.texts[0]) == 6
    assert closed != read_html("<table><tr><td><b>ab</b></td></tr></table>", max_nodes=9)
    assert read_html("<table><tr><td>a<br/>b</td></tr></table>", max_nodes=9).inline == 1


def test_published_size_counts_all_inline_elements_of_the_answer() -> None:
    bold = ABC.replace("<td>a</td>", "<td><b>a</b></td>")  # two of three tokens to delete
    assert judge(bold).score == pytest.approx(1 - 2 / 3 / 12)
    assert judge(bold, inline="published").score == pytest.approx(1 - 2 / 3 / 13)


def test_nested_table_is_the_content_of_its_cell() -> None:
    found = read_html("<table><tr><td>a<table><tr><td>b</td></tr></table>c</td><td>d</td></tr></table>", max_nodes=9)
    assert [tag for tag, _, _ in found.kinds] == ["td", "td", "tr", "table"]
    assert found.inline == 3


def test_scripts_in_a_cell_hide_their_tags() -> None:
    found = read_html("<table><tr><td>a<script></td><td>b</script>c</td></tr></table>", max_nodes=9)
    assert [tag for tag, _, _ in found.kinds] == ["td", "tr", "table"]


@pytest.mark.parametrize(
    "answer,reason",
    [
        ("a b c\n1 2 3", "no-table"),
        ("a | b", "no-table"),
        ("a | b\n1 | 2", "no-table"),
        ("<table></table>", "empty-table"),
        ("<table><tr></tr></table>", "empty-table"),
        (ABC + ABC, "many-tables"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n\n| a | b |\n|---|---|\n| 1 | 2 |", "many-tables"),
        ("<table>" + "<tr><td>1</td></tr>" * 1000 + "</table>", "too-many-nodes"),
        ("<table>" + "<td>" * 5000, "too-many-nodes"),
        ("|a|\n|-|\n" + "|b|\n" * 2000, "too-many-nodes"),
    ],
)
def test_answers_without_one_table_score_zero_with_a_reason(answer: str, reason: str) -> None:
    verdict = judge(answer)
    assert (verdict.score, verdict.correct, verdict.reason) == (0.0, False, reason)


@pytest.mark.parametrize(
    "reference,reason",
    [
        (None, "not-text"),
        ("", "no-table"),
        ("<table></table>", "empty-table"),
        ("<table><tr><td colspan=no>", "bad-span"),
        ("<table>" + "<td>a" * 2000, "too-many-nodes"),
        ("x" * 200_000, "too-long"),
        (ABC * 20, "many-tables"),
    ],
)
def test_unusable_references_are_found(reference: object, reason: str) -> None:
    assert check_reference(reference, domain="table") == reason


def test_several_reference_tables_want_as_many() -> None:
    pages = ABC + "<p>and</p>" + ABC.replace("a", "q").replace("tqble", "table")
    assert judge(pages, pages).correct is True
    assert 0.4 < judge(ABC, pages).score < 0.6
    assert judge(pages + ABC, pages).reason == "many-tables"


MARKDOWN = "| a | b | c |\n|:--|---|--:|\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |"


@pytest.mark.parametrize(
    "answer",
    [
        MARKDOWN,
        "Table 1:\n\n" + MARKDOWN + "\n\nas shown.",
        "```markdown\n" + MARKDOWN + "\n```",
        "a | b | c\n--|--|--\n1 | 2 | 3\n4 | 5 | 6",
        "| **a** | b | c |\n|-|-|-|\n| 1 | 2<br> | 3 |\n| 4 | 5 | 6 | 7 |",
        ABC,
    ],
)
def test_markdown_is_compared_by_rows_and_plain_texts(answer: str) -> None:
    html_reference = ABC.replace("<td>a", "<td><b>a").replace("<tr><td><b>a</td>", "<tr><th><b>a</b></th>")
    assert judge(answer, MARKDOWN).correct is True
    assert judge(MARKDOWN, html_reference).correct is True


def test_several_markdown_tables_are_compared_when_the_reference_has_as_many() -> None:
    two = MARKDOWN + "\n\nand\n\n" + MARKDOWN.replace("a", "x")
    assert judge(two, two).correct is True
    assert judge(two, ABC + ABC.replace(">a<", ">x<")).correct is True


def test_markdown_can_be_refused() -> None:
    assert judge(MARKDOWN, format="html").reason == "no-table"
    assert judge(MARKDOWN, MARKDOWN, format="html").correct is True


def test_markdown_rows_are_filled_to_the_header_and_escaped_pipes_are_text() -> None:
    found = read_markdown("| a \\| b | c |\n|---|---|\n| 1 |", max_nodes=20)
    assert outline(found) == ["td:a | b", "td:c", "tr", "td:1", "td:", "tr", "table"]


def test_one_column_markdown_table_is_read() -> None:
    assert outline(read_markdown("| a |\n|---|\n| 1 |", max_nodes=20)) == ["td:a", "tr", "td:1", "tr", "table"]


def test_plain_form_keeps_rows_and_texts_of_every_table() -> None:
    two = read_html(
        "<table><thead><tr><th colspan=2>a<br>b</th></tr></thead></table>"
        "<table><colgroup><col></colgroup><tr><td><b>c</b></td></tr></table>",
        max_nodes=50,
        max_tables=2,
    )  # fmt: skip
    found = plain(two)
    assert outline(found) == ["td:a b", "tr", "table", "td:c", "tr", "table", "tables"]
    assert found.left == (0, 0, 0, 3, 3, 3, 0) and found.inline == 0


def test_white_space_in_cells_counts_only_when_told() -> None:
    spaced = ABC.replace("<td>1</td>", "<td> 1\n</td>")
    assert judge(spaced).correct is True
    assert judge(spaced, whitespace="exact").correct is False


def test_threshold_moves_what_is_correct_but_not_the_score() -> None:
    verdict = judge(ABC.replace(">6<", ">7<"), threshold=0.9)
    assert (verdict.correct, verdict.reason) == (True, "table-differs")
    assert verdict.score == pytest.approx(1 - 1 / 12)


def test_decision_is_explained() -> None:
    args = TableArgs()
    notes: list[tuple[str, str]] = []
    table(ABC, read_reference(ABC, args), Context(args, None, notes))
    assert dict(notes) == {
        "reference": "HTML table, 3 rows, 9 cells, 0 inline elements",
        "answer": "HTML table, 3 rows, 9 cells, 0 inline elements",
        "rule": "TEDS",
    }


PIECES = [
    *("<td>", "<a '", '<a "', "<a '\"", "<!--", "<table>", "<b>", "</b>", "<td colspan", "<script>", "<td a='", "</table>"),
    *("<tr><td>x", "<tbody>", "<col>", "<table><td><table>", "&", "&#", "&#9", "a\u0315\u0300", " ", "\n"),
    *("|", "|-", "-|", "\\|", "**a", "__"),
]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.timeout(60)  # what it guards against takes minutes
def test_repeated_pieces_are_read_in_linear_time(piece: str) -> None:
    reference = read_reference(ABC, TableArgs())
    for prefix in ("", "<table><tr><td>", "|a|\n|-|\n|"):
        table((prefix + piece * 65_536)[:65_536], reference, Context(TableArgs()))


def test_huge_character_reference_is_text() -> None:
    assert html_outline("<table><tr><td>&#" + "9" * 6000 + ";</td></tr></table>")[1:] == ["tr", "table"]


TAGS = [
    *("<table>", "</table>", "<tr>", "</tr>", "<td>", "</td>", "<th colspan='2'>", "<tbody>", "<thead>", "</thead>", "<b>"),
    *("</b>", "<caption>", "<colgroup>", "<col>", "<br>", "<style>", "<!--", "-->", "<", ">", "&lt;"),
    *("|", "---", "\n", "a", "\ud800", "\x00"),
]
markup = st.lists(st.sampled_from(TAGS) | st.text(max_size=3), max_size=40).map("".join)


@given(markup, markup)
def test_any_markup_is_scored_within_bounds_and_right_for_itself(answer: str, reference: str) -> None:
    args = TableArgs()
    try:
        expected = read_reference("<table><tr><td>" + reference, args)
    except BadReference:
        return
    outcome = table("<table>" + answer, expected, Context(args))
    assert 0.0 <= outcome.score <= 1.0
    itself = table("<table><tr><td>" + reference, expected, Context(args))
    assert (itself.score, itself.correct) == (1.0, True)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (read_html, read_markdown):
        try:
            found = read(text, max_nodes=50)
        except TableError:
            continue
        assert len(found.kinds) == len(found.texts) == len(found.left)
        assert all(first <= place for place, first in enumerate(found.left))


def test_the_domain_has_this_verifier() -> None:
    assert find("table").name == "table"


PRACTICE = Path(__file__).parents[4] / "shared" / "practice"


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for line in (PRACTICE / "table.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        verdict = score(row["response"], row["answer"], domain=row["domain"], args=row.get("verifier_args"))
        assert verdict.score == pytest.approx(row["expected"], abs=1e-6), row["id"]
    for line in (PRACTICE / "adversarial.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["domain"] == "table":
            answer = row["response"] if isinstance(row["response"], str) else json.dumps(row["response"])
            verdict = score_answer(answer, row["gold"], domain="table")
            assert verdict.score == pytest.approx(row["expected"]), row["id"]
