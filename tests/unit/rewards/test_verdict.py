"""Verdicts refuse fields that contradict each other."""

import dataclasses

import pytest

from rewards import Verdict


def test_abstained_and_bad_reference_have_no_score() -> None:
    for verdict in (Verdict.abstained("timeout", "5"), Verdict.bad_reference("empty-reference")):
        assert verdict.score is None and verdict.correct is None


def test_format_error_scores_zero() -> None:
    assert Verdict.format_error("no-box") == Verdict(0.0, False, "format_error", None, "no-box")


@pytest.mark.parametrize(
    "fields",
    [
        (1.0, True, "abstained", None, "timeout"),
        (None, False, "bad_reference", None, "too-long"),
        (None, None, "ok", None, None),
        (1.0, None, "ok", None, None),
        (0.5, False, "format_error", None, "no-box"),
        (0.0, True, "format_error", None, "no-box"),
        (1.5, True, "ok", None, None),
        (float("nan"), True, "ok", None, None),
        (0.0, False, "format_error", None, None),
        (0.0, False, "fine", None, None),
    ],
)
def test_contradictory_fields_are_refused(fields: tuple) -> None:
    with pytest.raises(ValueError):
        Verdict(*fields)


def test_verdict_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Verdict.format_error("no-box").score = 1.0  # type: ignore[misc]
