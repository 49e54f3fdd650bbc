"""Verifiers are found by name or domain; wrong names and arguments are refused with the nearest right one."""

import dataclasses
import inspect
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from rewards import check_reference, known_domains, known_verifiers, registry, score
from rewards.api import read_response, response_with
from rewards.registry import Abstain, BadReference, Context, Outcome, UnknownNameError
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
        ({"rtol": float("nan")}, "'rtol' is nan"),
        ({"rtol": float("inf")}, "'rtol' is inf"),
        ({"rtol": 10**400}, "'rtol' is 1000"),
        ({"integers": ["n", 3]}, "'integers' is"),
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


@dataclass(frozen=True)
class ShapeArgs:
    """Arguments of every shape."""

    size: tuple[int, int] = (1, 1)
    boxes: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.size[0] < 1:
            raise ValueError(f"size is {self.size}; expected positive numbers")


SHAPES = registry.Verifier("shapes", (), ShapeArgs, lambda raw, args: raw, lambda *a: Outcome(1.0, True), lambda *a: True)


def test_nested_lists_become_tuples_that_can_be_a_cache_key() -> None:
    args = registry.build_args(SHAPES, {"size": [2, 3], "boxes": [[1, 2.5], [3, 4]]})
    assert args == ShapeArgs((2, 3), ((1, 2.5), (3, 4)))
    assert registry.read_reference(SHAPES, {"a": 1}, args) == {"a": 1}


@pytest.mark.parametrize("given", [{"size": [1]}, {"size": [1, 2, 3]}, {"boxes": [[1, "2"]]}, {"boxes": 3}, {"size": [0, 1]}])
def test_arguments_of_the_wrong_shape_or_sense_are_refused_by_name(given: dict) -> None:
    with pytest.raises(ValueError, match=r"verifier 'shapes': .*(size|boxes)"):
        registry.build_args(SHAPES, given)


@pytest.mark.parametrize("settings", [{"box": "maybe"}, {"timeout_s": 0}, {"timeout_s": float("nan")}, {"timeout_s": 1e9}])
def test_senseless_registration_is_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="verifier 'test-senseless'"):
        registry.verifier("test-senseless", reference=lambda raw, args: raw, **settings)


def test_every_argument_of_every_verifier_has_a_default_and_a_description() -> None:
    for name in known_verifiers():
        args = registry.find("", name).args
        fields = dataclasses.fields(args)
        assert args() == args()
        source = "".join(inspect.getsource(cls) for cls in args.__mro__ if dataclasses.is_dataclass(cls))
        described = re.findall(r'^    (\w+): [^\n]*?(?:= .*?)?\n    """', source, re.MULTILINE | re.DOTALL)
        assert {field.name for field in fields} <= set(described), name


def test_every_verifier_is_listed_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text(encoding="utf-8")
    ours = [name for name in known_verifiers() if not name.startswith("test-")]  # those are plug-ins of other tests
    assert [name for name in ours if f"| [{name}](verifiers/{name}.md) |" not in page] == []


def test_answer_is_given_in_the_form_its_verifier_wants() -> None:
    boxed = registry.find("math")
    unboxed = dataclasses.replace(boxed, box="forbidden")
    for entry, style in itertools.product((boxed, unboxed), ("box", "answer")):
        found = read_response(response_with("4", entry, style), entry, style)
        assert (found.answer, found.fault) == ("4", None)


def test_reference_check_tells_an_abstention_from_a_mismatch() -> None:
    def compare(answer: str, reference: str, context: Context) -> Outcome:
        if answer == "down":
            raise Abstain("server-down")
        return Outcome(0.0, False, "text-differs")

    registry.known_verifiers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._VERIFIERS, "test-check", dataclasses.replace(SHAPES, name="test-check", compare=compare))
        assert check_reference("down", domain="", verifier="test-check") == "server-down"
        assert check_reference("x", domain="", verifier="test-check") == "self-mismatch"
        assert check_reference(["x"], domain="", verifier="test-check") is None


def test_style_checks_must_be_known_and_a_list() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mixed-language'"):
        score(BOXED, "4", domain="math", checks=["mixed-languages"])
    with pytest.raises(ValueError, match="expected a list of names"):
        score(BOXED, "4", domain="math", checks="repetition")


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
        ("gui", {"action_type": "click", "box_2d": {1, 2}}, "not-json"),
        ("math", object(), "not-json"),
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
        ({"id": "a", "domain": "math", "answer": "4", "response": "x", "args": {}}, "rename it to 'verifier_args'"),
        ({"id": "a", "domain": "math", "answer": "4", "response": "x", "checks": []}, "option of the call"),
        ({"id": "a", "domain": "mth", "answer": "4", "response": "x"}, "did you mean 'math'"),
        ({"id": "a", "domain": "math", "answer": "4", "response": "x", "verifier_args": {"x": 1}}, "'verifier_args'"),
        ({"id": "a", "domain": "math", "answer": "4", "response": "x", "question": 3}, "'question' is a number"),
    ],
)
def test_unusable_rows_are_refused_with_their_place(row: object, message: str) -> None:
    with pytest.raises(RowError, match=message) as caught:
        read_row(row, "line 7 of x.jsonl")
    assert str(caught.value).startswith("line 7 of x.jsonl")
