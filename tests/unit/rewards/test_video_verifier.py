"""Video answers: times and spans as they are written, temporal IoU, and what another verifier compares."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import check_reference, score
from rewards.api import score_answer
from rewards.registry import Context
from rewards.time_spans import MAX_SPANS, TimeError, merged, read_times, union_iou
from rewards.verifiers.video import VideoArgs, read_reference, video


def judge(answer: object, reference: object, question: str | None = None, **args: object):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return score_answer(text, reference, domain="video", args=args, question=question)


@pytest.mark.parametrize(
    "answer",
    [
        "10 to 20",
        "10.0 to 20.0",
        "10 and 20",
        "from 10 to 20 seconds",
        "between 10 and 20",
        "10 s to 20 s",
        "10s - 20s",
        "10 – 20 s",
        "10s ~ 20s",
        "00:10 to 00:20",
        "00:10-00:20",
        "[00:10, 00:20]",
        "0:00:10 to 0:00:20.0",
        "[10, 20]",
        "(10, 20)",
        "[[10, 20]]",
        '{"start": 10, "end": 20}',
        '[{"start_time": "00:10", "end_time": "20s"}]',
        '["00:10", "00:20"]',
        "starts at 10 and ends at 20",
        "start: 10, end: 20",
        "start:10,end:20",
        "The dog jumps from 10 seconds to 20 seconds.",
        "<answer>10 to 20</answer>",
        "10到20秒",
        "从10秒到20秒",
        "第10秒至第20秒",
        "开始：10秒，结束：20秒",
        "１０ 至 ２０ 秒",
    ],
)
def test_one_span_in_any_notation_is_right(answer: str) -> None:
    verdict = judge(answer, [10, 20])
    assert (verdict.score, verdict.correct, verdict.reason) == (1.0, True, None)


@pytest.mark.parametrize(
    "answer,span",
    [
        ("1 to 2 minutes", (60, 120)),
        ("1m20s to 1m30s", (80, 90)),
        ("1 min 20 sec to 1 min 30 sec", (80, 90)),
        ("1分20秒到1分30秒", (80, 90)),
        ("1:02:03 to 1:02:04.5", (3723, 3724.5)),
        ("1h to 2h", (3600, 7200)),
        ("0.0 to 5.25s", (0, 5.25)),
        ("1小时2分到2小时", (3720, 7200)),
    ],
)
def test_units_and_clocks_are_seconds(answer: str, span: tuple[float, float]) -> None:
    assert read_times(answer) == (span,)


@pytest.mark.parametrize(
    "answer,score",
    [
        ("20 to 30", 0.0),
        ("15 to 25", 1 / 3),
        ("12 to 18", 0.6),
        ("0 to 40", 0.25),
        ("0 to 100000", 1e-4),
        ("10 to 15, 15 to 20", 1.0),
        ("10 to 16 and 14 to 20", 1.0),
    ],
)
def test_score_is_the_temporal_iou(answer: str, score: float) -> None:
    verdict = judge(answer, [10, 20])
    assert verdict.score == pytest.approx(score)
    assert verdict.correct is (score >= 0.5)


@pytest.mark.parametrize(
    "answer,reason",
    [
        ("10-20", "ambiguous-dash"),
        ("10 - 20", "ambiguous-dash"),
        ("20 to 10", "inverted-span"),
        ("10 to 10", "empty-span"),
        ("-10 to 20", "negative-time"),
        ("0 to 1e309", "not-a-time"),
        ("0 to inf", "not-a-span"),
        ("nan to nan", "no-time"),
        ("10% to 20%", "not-a-time"),
        ("10 to 20 or 30 to 40", "hedged"),
        ("not 10 to 20", "hedged"),
        ("10到20秒或30到40秒", "hedged"),
        ("10 to 20, 30 to 40", "many-spans"),
        ("[[10, 20], [30, 40]]", "many-spans"),
        ("10 to 20 to 30", "unpaired-time"),
        ("10 20", "unpaired-time"),
        ("10, 20", "unpaired-time"),
        ("10 to 20, 30", "unpaired-time"),
        ("10 to 20 - 30 s to 40", "unpaired-time"),
        ("15", "not-a-span"),
        ("[15]", "not-a-span"),
        ("[10, 20, 30]", "not-a-span"),
        ("[10, true]", "not-a-time"),
        ("[10, null]", "not-a-time"),
        ("[10, 1e300]", "out-of-range"),
        ("0 to 999999999", "out-of-range"),
        ('{"from": 10, "to": 20}', "not-a-span"),
        ("the whole video", "no-time"),
        ("1.5.6 to 3", "not-a-time"),
        ("x" * 3000, "answer-too-long"),
        (json.dumps([[n, n + 1] for n in range(0, 2 * MAX_SPANS + 2, 2)]), "many-spans"),
    ],
)
def test_anything_else_scores_zero_with_a_reason(answer: str, reason: str) -> None:
    verdict = judge(answer, [10, 20])
    assert (verdict.score, verdict.correct, verdict.reason) == (0.0, False, reason)


def test_a_bare_dash_is_a_span_when_told_or_when_the_reference_has_one() -> None:
    assert judge("10-20", [10, 20], bare_dash=True).correct is True
    assert judge("10-20", "10 - 20").correct is True
    assert judge("10 to 20", "10-20").correct is True


def test_several_spans_are_compared_by_the_time_they_cover() -> None:
    reference = [[0, 10], [20, 30]]
    assert judge("20 to 30, 0 to 10", reference).correct is True
    assert judge("0 to 10", reference).score == 0.5
    assert judge("0 to 30", reference).score == pytest.approx(2 / 3)


def test_several_spans_can_be_matched_one_to_one() -> None:
    reference = [[0, 10], [20, 30]]
    assert judge("0 to 30", reference, sets="matching").score == pytest.approx(1 / 6)
    assert judge("20 to 30, 0 to 5", reference, sets="matching").score == pytest.approx(0.75)


@pytest.mark.parametrize(
    "reference,answer,tolerance,right",
    [
        (12, "12", 0.0, True),
        (12.0, "12 s", 0.0, True),
        ("00:12", "12 seconds", 0.0, True),
        ("12秒", "0:12", 0.0, True),
        (12, "12.1", 0.0, False),
        (12, "12.1", 0.1, True),
        (72, "1:12", 0.0, True),
        (12, "at 12 s", 0.0, True),
        (12, "10 to 14", 5.0, False),
        (12, "12 or 13", 0.0, False),
        (12, "11, 12, 13", 0.0, False),
        (12, "around", 5.0, False),
        (3, "13", 0.0, False),
    ],
)
def test_a_time_is_right_within_the_tolerance(reference: object, answer: str, tolerance: float, right: bool) -> None:
    assert judge(answer, reference, tolerance=tolerance).correct is right


@pytest.mark.parametrize(
    "reference,answer,right",
    [
        ("B", "B", True),
        ("B", "(b)", True),
        ("B", "C", False),
        ("B", "A B C D", False),
        ("A, C", "C, A", True),
        ("A, C", "A", False),
        ("a red car", "A red car.", True),
        ("a red car", "a blue car", False),
        ("a red car", "a red car or a blue car", False),
    ],
)
def test_letters_and_short_texts_go_to_the_verifiers_of_these(reference: str, answer: str, right: bool) -> None:
    assert check_reference(reference, domain="video") is None
    assert judge(answer, reference).correct is right


def test_text_with_a_number_that_is_no_time_is_a_short_text() -> None:
    assert judge("he picks up 2 apples", "he picks up 2 apples").correct is True
    assert judge("2", "he picks up 2 apples").correct is False


@pytest.mark.parametrize(
    "reference,reason",
    [
        ([20, 10], "inverted-span"),
        ([10, 10], "empty-span"),
        ([], "not-a-span"),
        ([1, 2, 3], "not-a-span"),
        ({"start": 1}, "not-a-span"),
        (-5, "out-of-range"),
        (None, "not-a-time"),
        (True, "not-a-time"),
        ("20 to 10", "inverted-span"),
        (["10-20", 5], "ambiguous-dash"),
    ],
)
def test_unusable_references_are_found(reference: object, reason: str) -> None:
    assert check_reference(reference, domain="video") == reason


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)).map(lambda n: (float(n[0]), float(n[0] + n[1]))), max_size=5)


@given(spans, spans)
def test_union_iou_is_that_of_counted_seconds(a: list, b: list) -> None:
    seconds = [{second for start, end in side for second in range(int(start), int(end))} for side in (a, b)]
    either = seconds[0] | seconds[1]
    assert union_iou(a, b) == pytest.approx(len(seconds[0] & seconds[1]) / len(either) if either else 0.0)
    assert union_iou(a, b) == union_iou(b, a)


@given(spans)
def test_merged_spans_are_disjoint_and_in_order(a: list) -> None:
    out = merged(a)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(out))


@given(st.floats(0, 9999, allow_nan=False), st.floats(0.01, 9999))
def test_written_spans_are_read_back(start: float, length: float) -> None:
    start, end = round(start, 3), round(start + length, 3)
    if start < end:
        for text in (f"{start} to {end}", f"from {start} s to {end} s", f"[{start}, {end}]", f"{start}秒到{end}秒"):
            assert read_times(text) == ((start, end),)


WORDS = [
    "10",
    "20",
    "1.5",
    ":",
    "00:10",
    "s",
    "min",
    "to",
    "and",
    "-",
    "[",
    "]",
    ",",
    " ",
    "or",
    "秒",
    "到",
    "第",
    "end",
    "{",
    "'",
]


@given(st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=14).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_times(text)
    except TimeError:
        found = 0.0
    if isinstance(found, tuple):
        assert all(0 <= start < end <= 1e6 for start, end in found)
    args = VideoArgs()
    assert 0.0 <= video(text, read_reference([10, 20], args), Context(args)).score <= 1.0


def test_decision_is_explained() -> None:
    for reference, answer, rule in (
        ([10, 20], "10 to 20", "IoU of all time covered"),
        (12, "12", "within 0.0 s"),
        ("B", "B", "compared by choice"),
    ):
        notes: list[tuple[str, str]] = []
        video(answer, read_reference(reference, VideoArgs()), Context(VideoArgs(), None, notes))
        assert ("rule", rule) in notes and {"reference", "answer"} <= {name for name, _ in notes}


PRACTICE = Path(__file__).parents[4] / "shared" / "practice"


@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows lie beside the checkout")
def test_practice_rows_are_scored_as_labelled() -> None:
    for line in (PRACTICE / "video.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        verdict = score(row["response"], row["answer"], domain=row["domain"], args=row.get("verifier_args"))
        assert verdict.score == pytest.approx(row["expected"], abs=1e-6), row["id"]
    for line in (PRACTICE / "adversarial.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["domain"] == "video":
            answer = row["response"] if isinstance(row["response"], str) else json.dumps(row["response"])
            verdict = score_answer(answer, row["gold"], domain="video")
            assert verdict.score == pytest.approx(row["expected"]), row["id"]
