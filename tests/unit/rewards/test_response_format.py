"""The response format: what is well-formed, and one reason for each way not to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import parse_response
from rewards.format import BOX_CLOSE, BOX_OPEN, MAX_ANSWER_CHARS, MAX_RESPONSE_CHARS

B, E = BOX_OPEN, BOX_CLOSE


@pytest.mark.parametrize("think", ["", "so 2 + 2 = 4", "line\nline", r"\boxed{3}"])
@pytest.mark.parametrize("before,after", [("", ""), ("\nThe answer is ", "."), ("\n", "\n")])
def test_well_formed_response_splits_into_its_parts(think: str, before: str, after: str) -> None:
    parsed = parse_response(f"<think>{think}</think>{before}{B}4{E}{after}")
    assert (parsed.think, parsed.boxed, parsed.reason) == (think, "4", None)
    assert parsed.answer_text == f"{before}{B}4{E}{after}"


def test_box_keeps_its_white_space() -> None:
    assert parse_response(f"<think></think>{B}\n a \n{E}").boxed == "\n a \n"


@pytest.mark.parametrize(
    "text,reason",
    [
        ("", "empty-response"),
        (" \n", "empty-response"),
        (f"{B}4{E}", "no-think"),
        (f"hm</think>{B}4{E}", "unopened-think"),
        (f"<think>hm {B}4{E}", "unclosed-think"),
        (f"</think><think>{B}4{E}", "unclosed-think"),
        (f"<think>a</think><think>b</think>{B}4{E}", "two-thinks"),
        (f"<think>a<think>b</think>{B}4{E}", "two-thinks"),
        (f"<think>a</think>b</think>{B}4{E}", "two-thinks"),
        (f"Sure! <think>a</think>{B}4{E}", "text-before-think"),
        ("<think>a</think>4", "no-box"),
        (r"<think>a</think>\boxed{4}", "no-box"),
        (f"<think>a</think>{B}4", "unclosed-box"),
        (f"<think>a</think>4{E}", "unopened-box"),
        (f"<think>a</think>{E}4{B}", "unopened-box"),
        (f"<think>a</think>{B}4{E}{B}5{E}", "two-boxes"),
        (f"<think>a</think>{B}4{E} or {B}4{E}", "two-boxes"),
        (f"<think>a</think>{B}{B}4{E}{E}", "nested-box"),
        (f"<think>a</think>{B}4{E}{B}5", "unclosed-box"),
        (f"<think>a</think>{B}{E}", "empty-box"),
        (f"<think>a</think>{B} \n{E}", "empty-box"),
        (f"<think>{B}4{E}</think>{B}4{E}", "box-in-think"),
        (f"<think>the box is {B}</think>{B}4{E}", "box-in-think"),
        (f"<think>{B}4{E}</think>4", "box-only-in-think"),
        (f"<think></think>{B}4{E}<|user|>", "role-token"),
        (f"<think></think>{B}{'4' * (MAX_ANSWER_CHARS + 1)}{E}", "answer-too-long"),
        ("x" * (MAX_RESPONSE_CHARS + 1), "too-long"),
    ],
)
def test_each_fault_has_its_own_reason(text: str, reason: str) -> None:
    parsed = parse_response(text)
    assert parsed.reason == reason
    assert parsed.boxed is None


@pytest.mark.parametrize(
    "inner,boxed,reason",
    [
        ("<answer>4</answer>", "4", None),
        ("\n<answer>4</answer>\n", "4", None),
        (f"<answer>It is {B}4{E}.</answer>", "4", None),
        (f"<answer>{B}4{E}{B}5{E}</answer>", None, "two-boxes"),
        (f"<answer>{B}4</answer>", None, "unclosed-box"),
        ("4", None, "no-answer"),
        (f"{B}4{E}", None, "no-answer"),
        ("<answer>6</answer><answer>5</answer>", None, "two-answers"),
        ("<answer><answer>5</answer></answer>", None, "nested-answer"),
        ("<answer>5", None, "unclosed-answer"),
        ("5</answer>", None, "unopened-answer"),
        ("<answer> </answer>", None, "empty-answer"),
        ("<answer>5</answer> or 6", None, "text-outside-answer"),
    ],
)
def test_answer_style_reads_the_answer_element(inner: str, boxed: str | None, reason: str | None) -> None:
    parsed = parse_response(f"<think>a</think>{inner}", style="answer")
    assert (parsed.boxed, parsed.reason) == (boxed, reason)


def test_style_is_never_guessed() -> None:
    assert parse_response("<think></think><answer>4</answer>").reason == "no-box"
    with pytest.raises(ValueError, match="box"):
        parse_response("x", style="guess")  # type: ignore[arg-type]


_PIECES = st.sampled_from(["<think>", "</think>", B, E, "<answer>", "</answer>", "4", " ", "\n", "<|user|>", "\\boxed{4}"])


@given(st.lists(_PIECES, max_size=12).map("".join) | st.text(), st.sampled_from(["box", "answer"]))
def test_any_text_gives_either_a_box_or_a_reason(text: str, style: str) -> None:
    parsed = parse_response(text, style)  # type: ignore[arg-type]
    assert (parsed.boxed is None) != (parsed.reason is None)
    if parsed.boxed is not None:
        assert parsed.boxed.strip() and parsed.boxed in text
        assert text.count("<think>") == text.count("</think>") == 1
        assert B not in parsed.boxed and E not in parsed.boxed


@given(st.text(), st.text(), st.text(min_size=1))
def test_rendered_responses_read_back(think: str, words: str, answer: str) -> None:
    markup = ("<think>", "</think>", "<|")
    if any(mark in part for mark in markup for part in (think, words, answer)) or not answer.strip():
        return
    parsed = parse_response(f"<think>{think}</think>{words}{B}{answer}{E}")
    assert (parsed.think, parsed.boxed, parsed.reason) == (think, answer, None)
