"""Verifiers are found by name or domain; wrong names and arguments are refused with the nearest right one."""

import pytest

from rewards import check_reference, known_domains, known_verifiers, registry, score
from rewards.registry import BadReference, Context, Outcome, UnknownNameError
from rewards.rows import RowError, read_row

BOXED = "<think></think><|begin_of_box|>4<|end_of_box|>"


def test_each_domain_has_a_known_default_verifier() -> None:
    domains = known_domains()
    assert {"math", "ocr", "gui"} <= set(domains)
    assert set(domains.values()) <= set(known_verifiers())


def test_unknown_domain_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'math'"):
        score(BOXED, "4", domain="maths")


def test_unknown_verifier_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ocr'"):
        score(BOXED, "4", domain="math", verifier="orc")


def test_verifier_can_be_named_apart_from_the_domain() -> None:
    assert score(BOXED.replace("4", "4.0"), "4", domain="math").correct is True
    assert score(BOXED.replace("4", "4.0"), "4", domain="math", verifier="ocr").correct is False


@pytest.mark.parametrize(
    "args,message",
    [
        ({"rtoll": 0.1}, "did you mean 'rtol'"),
        ({"rtol": "0.1"}, "'rtol' is '0.1'"),
        ({"rounding": 1}, "'rounding' is 1"),
        ({"percent": "maybe"}, "'percent' is 'maybe'"),
        ({"integers": "n"}, "'integers' is 'n'"),
    ],
)
def test_bad_arguments_are_refused(args: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(BOXED, "4", domain="math", args=args)


def test_name_of_another_module_is_not_taken_over() -> None:
    def other(answer: str, reference: object, context: Context) -> Outcome:
        return Outcome(1.0, True)

    known_verifiers()
    with pytest.raises(ValueError, match="already defined"):
        registry.verifier("math", reference=lambda raw, args: raw)(other)
    with pytest.raises(ValueError, match="belongs to 'math'"):
        registry.verifier("test-other", domains=("math",), reference=lambda raw, args: raw)(other)
    assert "test-other" not in known_verifiers()


def test_reference_is_parsed_once() -> None:
    calls = []

    def reference(raw: object, args: object) -> object:
        calls.append(raw)
        if raw == "bad":
            raise BadReference("bad-word")
        return raw

    entry = registry.Verifier("test-once", (), registry.NoArgs, reference, lambda *a: Outcome(1.0, True), lambda *a: True)
    args = registry.build_args(entry, None)
    for _ in range(3):
        registry.read_reference(entry, "good", args)
        with pytest.raises(BadReference, match="bad-word"):
            registry.read_reference(entry, "bad", args)
    assert calls == ["good", "bad"]


@pytest.mark.parametrize(
    "domain,reference,reason",
    [
        ("math", "", "empty-reference"),
        ("math", ["4"], "not-text"),
        ("math", "9^{9^{9^9}}", "too-complex"),
        ("math", r"\frac{1}{0}", "undefined"),
        ("math", "4", None),
        ("ocr", "  ", "empty-reference"),
        ("ocr", 4, "not-text"),
        ("ocr", "abc", None),
        ("gui", "click me", "unparsed-literal"),
        ("gui", {"action_type": "click", "box_2d": [[5, 5, 5, 9]]}, "empty-box"),
        ("gui", {"action_type": "click", "box_2d": [[5, 5, 8, 9]]}, None),
        ("gui", "DONE()", None),
    ],
)
def test_references_are_checked(domain: str, reference: object, reason: str | None) -> None:
    assert check_reference(reference, domain=domain) == reason


def test_bad_reference_has_no_score_whatever_the_response() -> None:
    for response in (BOXED, "no format at all"):
        verdict = score(response, "", domain="math")
        assert (verdict.status, verdict.score, verdict.reason) == ("bad_reference", None, "empty-reference")


@pytest.mark.parametrize(
    "row,message",
    [
        ([], "found a list"),
        ({"id": "a", "domain": "math", "answer": "4"}, "'response' is missing"),
        ({"id": "a", "domain": "math", "answer": "4", "respnse": "x"}, "rename 'respnse' to 'response'"),
        ({"id": "a", "domain": "math", "answer": "4", "response": 4}, "'response' is a number"),
        ({"id": "a", "domain": "math", "answer": "4", "response": "x", "verifer_args": {}}, "expected 'verifier_args'"),
        ({"id": "a", "domain": "mth", "answer": "4", "response": "x"}, "did you mean 'math'"),
        ({"id": "a", "domain": "math", "answer": "4", "response": "x", "verifier_args": {"x": 1}}, "'verifier_args'"),
        ({"id": "a", "domain": "math", "answer": "4", "response": "x", "question": 3}, "'question' is a number"),
    ],
)
def test_unusable_rows_are_refused_with_their_place(row: object, message: str) -> None:
    with pytest.raises(RowError, match=message) as caught:
        read_row(row, "line 7 of x.jsonl")
    assert str(caught.value).startswith("line 7 of x.jsonl")
