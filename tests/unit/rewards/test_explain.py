"""Explanations: the same verdict as `score`, with every step; shown so that no text can steer the reader's terminal."""

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rewards import Explanation, ScorePool, explain, score
from rewards.explanation import MAX_SHOWN_CHARS, print_explanation, visible
from rewards.registry import MAX_NOTE_CHARS, MAX_NOTES, Context, UnknownNameError

sys.path.insert(0, str(Path(__file__).parent))
PLUGIN = "hostile_verifiers"
BOX = "<|begin_of_box|>{}<|end_of_box|>"


def row(answer: str, domain: str = "test-hostile", reference: object = "right", **more: object) -> dict:
    return {"id": answer, "domain": domain, "answer": reference, "response": f"<think>t</think>{BOX.format(answer)}", **more}


def shown(explanation: Explanation, width: int = 100, color: bool = False) -> str:
    out = io.StringIO()
    print_explanation(
        explanation, Console(file=out, width=width, force_terminal=color, color_system="truecolor" if color else None)
    )
    return out.getvalue()


@pytest.mark.parametrize(
    "response,reference,domain",
    [
        (f"<think></think>{BOX.format('0.5')}", "1/2", "math"),
        (f"<think></think>{BOX.format('0.6')}", "1/2", "math"),
        (f"<think></think>{BOX.format('abcx')}", "abcd", "ocr"),
        ("no think", "1/2", "math"),
        (f"<think></think>{BOX.format('5')}", "", "math"),
    ],
)
def test_verdict_is_the_one_of_score(response: str, reference: str, domain: str) -> None:
    assert explain(response, reference, domain=domain).verdict == score(response, reference, domain=domain)


def test_steps_are_kept_apart() -> None:
    found = explain(f"<think>half</think>so {BOX.format(' 0.5 ')}", "1/2", domain="math", args={"rtol": 0.1})
    assert (found.candidate.parsed.think, found.candidate.answer, found.candidate.fault) == ("half", " 0.5 ", None)
    assert (found.verifier, found.changed_args) == ("math", {"rtol": 0.1})


def test_wrong_names_are_refused_as_by_score() -> None:
    with pytest.raises(ValueError, match="did you mean 'math'"):
        explain("x", "1", domain="mth")
    with pytest.raises(UnknownNameError, match="did you mean 'repetition'"):
        explain("x", "1", domain="math", checks=["repetitions"])


def test_pool_brings_notes_from_the_worker_and_they_equal_those_of_this_process() -> None:
    with ScorePool(1, plugins=(PLUGIN,)) as pool:
        found = pool.explain(row("right"))
    assert found.verdict.correct is True
    assert found.notes == (("answer", "right"),)
    assert explain(row("right")["response"], "right", domain="test-hostile").notes == found.notes


@pytest.mark.parametrize("answer,reason", [("hang", "timeout"), ("die", "worker-died"), ("raise", "verifier-error")])
def test_explanation_under_the_limits_of_the_pool(answer: str, reason: str) -> None:
    with ScorePool(1, timeout_s=0.5, plugins=(PLUGIN,)) as pool:
        found = pool.explain(row(answer))
    assert found.verdict.reason == reason
    assert reason in shown(found)


def test_rule_is_the_last_one_noted() -> None:
    verdict = explain("<think></think>", "x", domain="ocr").verdict
    base = explain("<think></think>", "x", domain="ocr")
    notes = (("rule", "first"), ("answer", "1"), ("rule", "last"))
    assert Explanation(verdict, base.row, "box", (), base.candidate, notes).rule == "last"
    assert base.rule is None


def test_page_shows_response_reference_arguments_and_verdict() -> None:
    found = explain(
        f"<think>half</think>so {BOX.format('1/3')}", "1/2", domain="math", question="What is a half?", args={"atol": 0.001}
    )
    page = shown(found)
    for part in (
        "What is a half?",
        "<think>half</think>",
        BOX.format("1/3"),
        "reference      1/2",
        "atol=0.001",
        "wrong, score 0",
        "reason",
    ):
        assert part in page
    assert "\x1b" in shown(found, color=True)


@pytest.mark.parametrize(
    "response,part",
    [
        ("<think></think>no box", "no-box"),
        (f"<think></think>{BOX.format('a') * 60}", "two-boxes"),
    ],
)
def test_page_shows_the_format_fault(response: str, part: str) -> None:
    assert part in shown(explain(response, "1", domain="math"))


def test_style_fault_is_the_verdict_and_keeps_the_answer() -> None:
    loop = "the answer is three because it is three and so " * 200
    response = f"<think>{loop}</think>{BOX.format('3')}"
    assert score(response, "3", domain="math").correct is True
    found = explain(response, "3", domain="math", checks=["repetition"])
    assert (found.verdict.status, found.verdict.reason, found.verdict.extracted) == ("format_error", "repetition", "3")
    assert found.verdict == score(response, "3", domain="math", checks=("repetition",))
    assert "repetition" in shown(found)


def test_policy_text_cannot_steer_the_terminal() -> None:
    attack = "\x1b]0;title\x07\x1b[2J\u202e\u2066\ud800\x00\x9b31m [red]x[/red]"
    page = shown(explain(f"<think>{attack}</think>{BOX.format(attack)}", attack, domain="ocr", question=attack), width=400)
    assert not set(page) & set("\x1b\x07\u202e\u2066\ud800\x00\x9b")
    assert "<U+202E>" in page and "[red]x[/red]" in page
    page.encode()


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_any_text_can_be_shown(text: str) -> None:
    found = explain(f"<think></think>{BOX.format(text)}", text, domain="ocr", question=text)
    page = shown(found)
    page.encode()
    assert "\x1b" not in page and "\r" not in page


def test_long_text_is_shown_by_its_ends() -> None:
    text = visible("a" * 100_000 + "z")
    assert len(text) < MAX_SHOWN_CHARS + 100
    assert text.startswith("aaa") and text.endswith("z") and "96001 more characters" in text


def test_notes_are_bounded_whatever_is_noted() -> None:
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    notes: list[tuple[str, str]] = []
    context = Context(None, None, notes)
    for value in ("a" * 10_000, 10**10_000, deep):
        context.note("answer", value)
    assert [len(value) for _, value in notes[:1]] == [MAX_NOTE_CHARS]
    assert "int too large" in notes[1][1] and "list too large" in notes[2][1]
    for _ in range(200):
        context.note("rule", "x")
    assert len(notes) == MAX_NOTES
    Context(None).note("answer", deep)
