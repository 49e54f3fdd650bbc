"""The code verifier: reading answers and references, and what it pays for. Attacks: integration/test_sandbox.py."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import check_reference, explain, score
from rewards.registry import BadReference, find
from rewards.sandbox.cases import AssertCode, FunctionCall, Script, read_suite
from rewards.sandbox.process import NoVerdict, capabilities
from rewards.verifiers.code import CodeArgs, read_program

PRACTICE = Path(__file__).parents[4] / "shared/practice"


def _has_sandbox() -> bool:
    try:
        return capabilities().full
    except NoVerdict:
        return False


runs_programs = pytest.mark.skipif(not _has_sandbox(), reason="this machine offers no full isolation")


def verdict(answer: str, reference: Any, **args: Any) -> Any:
    return score(f"<think></think><|begin_of_box|>{answer}<|end_of_box|>", reference, domain="code", args=args)


# What an answer is


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("print(1)", "print(1)"),
        ("\n  print(1)\n", "print(1)"),
        ("  a = 1\n  print(a)", "a = 1\nprint(a)"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("```py\r\nprint(1)\r\n```", "print(1)"),
        ("```\nif 1:\n    print(1)\n```\n", "if 1:\n    print(1)"),
        ("  ```Python3\n  print(1)\n  ```", "print(1)"),
        ("s = '''\n```\n'''", "s = '''\n```\n'''"),
    ],
)
def test_a_program_is_read_bare_or_from_one_fence(answer: str, source: str) -> None:
    assert read_program(answer) == (source, None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty-answer"),
        (" \n", "empty-answer"),
        ("```python\n\n```", "empty-answer"),
        ("```", "unclosed-fence"),
        ("```python\nprint(1)", "unclosed-fence"),
        ("```python\nprint(1)\n```\nThat is it.", "many-answers"),
        ("```python\nprint(1)\n```\n```python\nprint(2)\n```", "many-answers"),
        ("```cpp\nint main() {}\n```", "not-python"),
        ("#" * 70_000, "answer-too-long"),
    ],
)
def test_an_answer_that_is_no_single_program_is_refused_without_running(answer: str, reason: str) -> None:
    assert read_program(answer)[1] == reason


@given(st.text(alphabet=st.sampled_from("`pyt \n\r\tx\x00\ud800\u202e"), max_size=60))
def test_reading_an_answer_never_raises(answer: str) -> None:
    source, reason = read_program(answer)
    assert (reason is None) == bool(source)


# What a reference is


@pytest.mark.parametrize(
    ("raw", "cases"),
    [
        ({"tests": [{"stdin": "1", "stdout": "2"}]}, (Script("1", "2"),)),
        ({"tests": [{"input": "1", "output": "2"}]}, (Script("1", "2"),)),
        ([{"stdout": "2"}], (Script("", "2"),)),
        ({"inputs": ["1", "3"], "outputs": ["2", "4"]}, (Script("1", "2"), Script("3", "4"))),
        ({"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}, (FunctionCall("add", (1, 2), {}, 3),)),
        (
            {"tests": [{"args": [1], "kwargs": {"b": 2}, "returns": None}], "entry": "f"},
            (FunctionCall("f", (1,), {"b": 2}, None),),
        ),
        ({"tests": [{"call": "f(1, [2, -3], key='x')", "returns": 3}]}, (FunctionCall("f", (1, [2, -3]), {"key": "x"}, 3),)),
        ({"tests": [{"call": "Solution.f({1: (2,)})", "returns": 3}]}, (FunctionCall("Solution.f", ({1: (2,)},), {}, 3),)),
        ({"tests": ["assert add(1, 2) == 3"]}, (AssertCode("assert add(1, 2) == 3"),)),
        ({"test_list": ["assert add(1, 2) == 3"]}, (AssertCode("assert add(1, 2) == 3"),)),
        ({"tests": "assert add(1, 2) == 3"}, (AssertCode("assert add(1, 2) == 3"),)),
    ],
)
def test_the_forms_of_public_data_sets_are_read(raw: Any, cases: tuple[Any, ...]) -> None:
    assert read_suite(raw).cases == cases


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("assert f(1) == 2", "not-an-object"),
        (None, "not-an-object"),
        ({}, "no-tests"),
        ({"tests": []}, "no-tests"),
        ({"tests": {"a": 1}}, "no-tests"),
        ({"tests": [{"stdout": "1"}] * 1001}, "too-many-tests"),
        ({"tests": [{"stdin": "1", "stdout": " \n"}]}, "no-expected-output"),
        ({"tests": [1]}, "bad-test"),
        ({"tests": [{"stdin": 1, "stdout": "1"}]}, "bad-test"),
        ({"tests": [{"stdin": "1"}]}, "bad-test"),
        ({"tests": [{"args": [1], "returns": 1}]}, "no-entry"),
        ({"tests": [{"args": 1, "returns": 1}], "entry": "f"}, "bad-test"),
        ({"tests": [{"args": [json.loads("[" * 150 + "]" * 150)], "returns": 1}], "entry": "f"}, "bad-test"),
        ({"tests": [{"args": [1], "returns": 1}], "entry": "f()"}, "bad-entry"),
        ({"tests": [{"call": "f(open('x'))", "returns": 1}]}, "bad-call"),
        ({"tests": [{"call": "f(*[1])", "returns": 1}]}, "bad-call"),
        ({"tests": [{"call": "f(**{'a': 1})", "returns": 1}]}, "bad-call"),
        ({"tests": [{"call": "f(1)(2)", "returns": 1}]}, "bad-call"),
        ({"tests": [{"call": "1 + 1", "returns": 1}]}, "bad-call"),
        ({"tests": [{"call": "f(", "returns": 1}]}, "test-syntax-error"),
        ({"tests": [{"call": 1, "returns": 1}]}, "bad-test"),
        ({"inputs": ["1"], "outputs": []}, "inputs-and-outputs-differ"),
        ({"tests": ["assert f(1 =="]}, "test-syntax-error"),
        ({"tests": ["assert True"]}, "test-calls-nothing"),
        ({"tests": ["assert f(1) == 2"], "setup": 3}, "setup-not-text"),
        ({"tests": ["import numpy as np\nassert f(1) == 2"]}, "test-imports-package"),
        ({"tests": ["from pytest import approx\nassert f(1) == approx(2)"]}, "test-imports-package"),
        ({"tests": ["assert np.allclose(f(1), 2)"]}, "unknown-name"),
        ({"tests": ["assert close(f(1), 2)"], "entry": "f"}, "unknown-name"),
        ({"tests": ["assert isclose(f(1), 2)"]}, "ambiguous-entry"),
    ],
)
def test_an_unusable_reference_is_refused_with_its_reason(raw: Any, reason: str) -> None:
    with pytest.raises(BadReference, match=f"^{reason}$"):
        read_suite(raw)


@pytest.mark.parametrize(
    ("raw", "names", "modules"),
    [
        ({"tests": ["assert f(1) == 2"]}, ("f",), {}),
        ({"tests": ["s = Stack()\ns.push(1)\nassert s.pop() == 1"]}, ("Stack",), {}),
        ({"tests": ["assert decode(encode('x')) == 'x'"]}, ("decode", "encode"), {}),
        ({"tests": ["assert math.isclose(f(1), 2)"]}, ("f",), {"math": None}),
        ({"tests": ["assert isclose(f(1), 2)"], "entry": "f"}, ("f",), {"math": ["isclose"]}),
        ({"tests": ["assert gcd(4, 6) == 2"]}, ("gcd",), {}),
        ({"tests": ["import math\nx = [math.pi]\nassert all(f(y) > 0 for y in x)"]}, ("f",), {}),
        ({"tests": ["assert sum([1]) == 1"], "entry": "sum"}, ("sum",), {}),
        ({"test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "f"}, ("f",), {}),
        ({"tests": ["assert g(f(1)) == 2"], "setup": "def g(x): return x"}, ("f",), {}),
        ({"tests": ["try:\n    f(1)\nexcept ValueError as fault:\n    assert str(fault) == 'x'"]}, ("f",), {}),
    ],
)
def test_only_names_that_can_mean_nothing_else_are_the_program_s(
    raw: Any, names: tuple[str, ...], modules: dict[str, Any]
) -> None:
    suite = read_suite(raw)
    assert (suite.names, suite.modules) == (names, modules)


def test_a_reference_is_checked_without_running_anything() -> None:
    assert check_reference({"tests": ["assert f(1) == 2"]}, domain="code") is None
    assert check_reference({"tests": [3]}, domain="code") == "bad-test"


@pytest.mark.parametrize("name", ["time_limit_s", "total_limit_s", "memory_mb", "output_mb", "float_tolerance"])
def test_a_limit_outside_its_range_is_the_caller_s_mistake(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        CodeArgs(**{name: -1})


def test_the_pool_gives_the_verifier_the_time_its_limits_allow() -> None:
    assert (find("code").timeout_s or 0) > 3 * 60 + 4 * (2 * 5.0 + 5)


# The whole verifier

ADD = {"tests": [{"args": [1, 2], "returns": 3}, {"args": [5, 5], "returns": 10}], "entry": "add"}
DOUBLE = {"tests": [{"stdin": "2\n", "stdout": "4\n"}, {"stdin": "5\n", "stdout": "10\n"}]}
ASSERTS = {"tests": ["assert add(1, 2) == 3", "assert add(5, 5) == 10"]}


@runs_programs
@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("print(2 * int(input()))", DOUBLE),
        ("```python\nimport sys\nprint(2 * int(sys.stdin.read()))\n```", DOUBLE),
        ("print(2 * int(open(0).read()))\nraise SystemExit", DOUBLE),
        (
            "def add(a, b):\n    print('noise')\n    return a + b\nif __name__ == '__main__':\n    print(input())",
            ADD,
        ),
        ("class Solution:\n    def add(self, a, b):\n        return a + b", ADD),
        ("def add(a, b): return a + b", ASSERTS),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef add(a, b): return P(a + b).x", ASSERTS),
    ],
)
def test_a_right_program_is_paid(answer: str, reference: Any) -> None:
    found = verdict(answer, reference)
    assert (found.score, found.correct, found.reason) == (1.0, True, None)


@runs_programs
@pytest.mark.parametrize(
    ("answer", "reference", "reason"),
    [
        ("print(4)", DOUBLE, "wrong-output"),
        ("print('4\\n10')", DOUBLE, "wrong-output"),
        ("print(2 * int(input())); 1 / 0", DOUBLE, "crashed"),
        ("print(2 * int(input())", DOUBLE, "syntax-error"),
        ("4", DOUBLE, "wrong-output"),
        ("def add(a, b): return 3", ADD, "wrong-output"),
        ("def add(a, b): return [3, 10]", ADD, "wrong-output"),
        ("def add(a, b): return iter([3])", ADD, "wrong-output"),
        ("def sub(a, b): return a + b", ADD, "crashed"),
        ("def add(a, b): return bytearray(10**12)", ADD, "memory-limit"),
        ("def add(a, b): return 3", ASSERTS, "test-failed"),
        ("def add(a, b): return 3 or 10", ASSERTS, "test-failed"),
        ("import os\ndef add(a, b): os._exit(0)", ASSERTS, "crashed"),
        ("import os\nos.close(0)\nos.close(1)", DOUBLE, "wrong-output"),
        ("print('x' * 17_000_000)", DOUBLE, "output-limit"),
        ("def add(a, b): return 'x' * 5_000_000", ADD, "output-limit"),
        ("import os\nfor n in range(3, 64):\n    try: os.write(n, b'junk\\n')\n    except OSError: pass", ADD, "crashed"),
        ("assert add(1, 2) == 3\nassert add(5, 5) == 10", ASSERTS, "crashed"),
    ],
)
def test_a_wrong_program_is_not_paid(answer: str, reference: Any, reason: str) -> None:
    found = verdict(answer, reference)
    assert (found.score, found.correct, found.reason) == (0.0, False, reason)


@runs_programs
@pytest.mark.parametrize("reference", [DOUBLE, ADD, ASSERTS])
def test_fraction_counts_the_tests_that_pass_and_a_fresh_program_meets_the_others(reference: Any) -> None:
    program_ = "def add(a, b):\n    if a == 1: import os; os._exit(0)\n    return a + b\n"
    program_ += "if __name__ == '__main__':\n    n = int(input())\n    print(add(n - 1, n + 1))"
    found = verdict(program_, reference, score="fraction")
    assert (found.score, found.correct) == (0.5, False)


@runs_programs
def test_tests_after_the_time_of_all_is_used_up_have_failed() -> None:
    reference = {"tests": [{"args": [n], "returns": n} for n in range(20)], "entry": "f"}
    slow = "import time\ndef f(n):\n    t = time.process_time()\n    while time.process_time() < t + 0.1: pass\n    return n"
    found = verdict(slow, reference, score="fraction", total_limit_s=0.5)
    assert 0 < found.score < 0.5 and found.reason == "time-limit"
    script = "import time\nwhile time.process_time() < 0.4: pass\nprint(4)"
    for tests in ([{"stdin": "", "stdout": "4"}] * 9, ["assert f(4) == 4"] * 9):
        found = verdict(script + "\n" + slow, {"tests": tests}, score="fraction", total_limit_s=0.6)
        assert found.score < 0.9 and found.reason == "time-limit"


@runs_programs
def test_float_tolerance_is_an_argument() -> None:
    reference = {"tests": [{"stdin": "", "stdout": "0.3333"}, {"args": [], "returns": 0.3333}], "entry": "f"}
    program_ = "def f(): return 1 / 3\nif __name__ == '__main__': print(f())"
    assert verdict(program_, reference).reason == "wrong-output"
    assert verdict(program_, reference, float_tolerance=1e-3).score == 1.0


@runs_programs
def test_explain_tells_which_test_failed_and_what_the_program_said() -> None:
    response = "<think></think><|begin_of_box|>print(2 * int(input()))\nx = {}['key']<|end_of_box|>"
    notes = dict(explain(response, DOUBLE, domain="code").notes)
    assert notes["rule"] == "test 1: crashed" and "KeyError: 'key'" in notes["stderr"] and notes["reference"] == "2 tests"


@runs_programs
def test_the_same_program_gives_the_same_output_each_time() -> None:
    program_ = "print(list({'a', 'b', 'c', 'd'}), hash('x'))"
    first = verdict(program_, {"tests": [{"stdin": "", "stdout": "x"}] * 2}, score="fraction")
    order = "import os\nprint(os.environ['PYTHONHASHSEED'])"
    assert first.score == 0.0 and verdict(order, {"tests": [{"stdin": "", "stdout": "0"}]}).score == 1.0


@runs_programs
@pytest.mark.skipif(not PRACTICE.exists(), reason="the practice rows are not beside this checkout")
def test_practice_attacks_score_as_labelled() -> None:
    rows = [json.loads(line) for line in (PRACTICE / "adversarial.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["domain"] == "code"]
    found = [verdict(row["response"], row["gold"], time_limit_s=1.0).score for row in rows]
    assert rows and found == [row["expected"] for row in rows]


def test_the_verifier_abstains_where_there_is_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.sandbox.process._interpreter", lambda: "/bin/false")
    found = verdict("print(4)", DOUBLE)
    assert (found.status, found.score, found.reason) == ("abstained", None, "sandbox-start")
    monkeypatch.setattr("rewards.sandbox.process._interpreter", lambda: "/does/not/exist")
    assert verdict("print(4)", DOUBLE).reason == "sandbox-start"


def test_importing_the_verifier_does_not_import_the_sandbox() -> None:
    code = "import sys, rewards.verifiers.code; print([m for m in sys.modules if m.startswith('rewards.sandbox')])"
    import subprocess
    import sys

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    assert importlib.util.find_spec("rewards.sandbox") is not None
