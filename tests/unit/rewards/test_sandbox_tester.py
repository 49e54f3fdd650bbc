"""Test code against a program: both run in this process, over real pipes."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rewards.sandbox import program, tester, wire


@contextmanager
def _served(source: str) -> Iterator[tester.Channel]:
    """A program whose functions are served by a thread, over real pipes."""
    requests, ask = os.pipe()
    answers, replies = os.pipe()

    def serve() -> None:
        try:
            program.serve(source.encode(), requests, replies)
        finally:
            os.close(replies)

    thread = threading.Thread(target=serve)
    thread.start()
    channel = tester.Channel(ask, answers)
    try:
        yield channel
    finally:
        os.close(ask)
        thread.join()
        channel.replies.close()


def reports(source: str, *tests: str, names: tuple[str, ...] = ("f",), setup: str = "") -> list[dict[str, Any]]:
    job = {"tests": list(tests), "setup": setup, "names": list(names), "modules": {"math": None}}
    found: list[dict[str, Any]] = []
    with _served(source) as channel:
        tester.run_tests(job, channel, found.append)
    return found


STACK = """
class Stack:
    limit = 9
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x); return self
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i]
    def __iter__(self): return iter(self.items)
    def __str__(self): return "a stack"
    def __repr__(self): return "Stack()"
"""


@pytest.mark.parametrize(
    ("source", "test", "names"),
    [
        ("def f(x): return x + 1", "assert f(1) == 2", ("f",)),
        ("def f(x): return (x, {x: [None]}, {x})", "assert f(1) == (1, {1: [None]}, {1})", ("f",)),
        ("def f(x): raise KeyError(x)", "try:\n    f(1)\n    raise RuntimeError\nexcept KeyError:\n    pass", ("f",)),
        (
            "class Mine(ValueError): pass\ndef f(x): raise Mine(x)",
            "try:\n    f(1)\nexcept ValueError:\n    x = 1\nassert x",
            ("f",),
        ),
        ("def f(n): yield from range(n)", "assert list(f(3)) == [0, 1, 2]", ("f",)),
        ("def f(x): return x / 3", "assert math.isclose(f(1), 1 / 3)", ("f",)),
        ("class Solution:\n    def f(self, x): return x", "assert f(4) == 4", ("f",)),
        (
            STACK,
            "s = Stack()\ns.push(1).push(2)\nassert len(s) == 2 and s[0] == 1 and list(s) == [1, 2] and s.pop() == 2",
            ("Stack",),
        ),
        (STACK, "s = Stack()\nassert str(s) == 'a stack' and repr(s) == 'Stack()' and s and s == s and s != 3", ("Stack",)),
        (STACK, "s = Stack()\ns.items = [7]\nassert s.pop() == 7 and Stack.limit == 9", ("Stack",)),
        ("def f(s): return s.x\nclass C:\n    x = 5", "assert f(C()) == 5", ("f", "C")),
        ("def f(x): return x", "def check(candidate):\n    assert candidate(3) == 3", ("f",)),
        ("def f(x): return x", "def test_it():\n    assert f(3) == 3", ("f",)),
        (
            "def f(x): return x",
            "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): self.assertEqual(f(3), 3)",
            ("f",),
        ),
        ("def f(x): return x", "assert f(3) == 3\nf.calls = 1\nassert f.calls == 1", ("f",)),
        ("def f(x): return x", "assert f(3) == 3 and not hasattr(f, '__wrapped__')", ("f",)),
        (  # an exception that cannot be made from a text comes as its nearest kin
            "def f(x): raise UnicodeDecodeError('utf-8', b'', 0, 1, x)",
            "try:\n    f('x')\nexcept ValueError as error:\n    found = type(error)\nassert found is UnicodeError",
            ("f",),
        ),
    ],
)
def test_a_right_program_passes_its_test_code(source: str, test: str, names: tuple[str, ...]) -> None:
    assert reports(source, test, names=names) == [{"passed": True}]


class_that_agrees = """
class Yes:
    def __getattr__(self, name): return self
    def __call__(self, *args): return self
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __le__(self, other): return True
    def __gt__(self, other): return True
    def __ge__(self, other): return True
    def __sub__(self, other): return 0.0
    def __rsub__(self, other): return 0.0
    def __abs__(self): return 0.0
    def __float__(self): return 0.0
    def __contains__(self, other): return True
    def __hash__(self): return 3
    def __iter__(self): return iter([])
def f(*args): return Yes()
"""


@pytest.mark.parametrize(
    "test",
    [
        "assert f(1) == 2",
        "assert 2 == f(1)",
        "assert not f(1) != 2",
        "assert abs(f(1) - 2.5) < 1e-6",
        "assert abs(2.5 - f(1)) < 1e-6",
        "assert math.isclose(f(1), 2.5)",
        "assert f(1) < 3",
        "assert 3 in f(1)",
        "assert f(1) in [2, 3]",
        "assert len(f(1)) == 2",
        "assert f(1) is True",
        "assert isinstance(f(1), list)",
        "assert f(1)['a'] == 2",
        "assert f(1) + 1 == 2",
        "assert list(f(1)) == [1]",
        "assert sorted(f(1)) == [1]",
        "assert {2: 1}[f(1)] == 1",
        "def test_it():\n    assert f(1) == 2",
        "def check(candidate):\n    assert candidate(1) == 2",
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): self.assertEqual(f(1), 2)",
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): self.assertAlmostEqual(f(1), 2)",
    ],
)
def test_an_object_that_agrees_with_everything_is_not_paid(test: str) -> None:
    assert reports(class_that_agrees, test) == [{"passed": False}]


@pytest.mark.parametrize("exception", ["StopIteration", "StopAsyncIteration"])
def test_an_exception_that_would_end_the_test_s_loop_early_fails_it(exception: str) -> None:
    program_ = f"def f(x): raise {exception}"
    assert reports(program_, "assert all(y == 2 for y in map(f, [1]))") == [{"passed": False}]


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("x = 3", "test-calls-nothing"),
        ("f(lambda x: x)", "test-sends-object"),
        ("try:\n    f(lambda x: x)\nexcept BaseException:\n    pass", "test-sends-object"),
        ("try:\n    f(lambda x: x)\nexcept BaseException:\n    f(1)", "test-sends-object"),
        ("assert f(1) == f(2)", "test-compares-objects"),
        ("assert f.x == 1 and f == g", "test-compares-objects"),
    ],
)
def test_a_test_whose_answer_would_be_the_program_s_own_word_says_nothing(test: str, reason: str) -> None:
    source = "class C: pass\ndef f(x): return C()\nf.x = 1\ndef g(): pass"
    assert reports(source, test, names=("f", "g")) == [{"cannot": reason}]


def test_setup_that_fails_is_no_fault_of_the_program() -> None:
    assert reports("def f(x): return x", "assert f(1) == 1", setup="1 / 0") == [{"cannot": "test-setup-fails"}]


def test_a_variable_of_the_program_is_not_read_as_if_it_were_a_test_s() -> None:
    assert reports("f = 3", "assert f.bit_length() == 2") == [{"cannot": "test-reads-variable"}]


def test_each_test_code_is_reported() -> None:
    tests = ("assert f(1) == 1", "assert f(1) == 2", "assert f(2) == 2")
    assert [report["passed"] for report in reports("def f(x): return x", *tests)] == [True, False, True]


@pytest.mark.parametrize("line", [b"", b"junk\n", b"[1]\n", b'{"value": {"set": [[]]}}\n', b'{"value": 1}'])
def test_a_program_that_answers_with_something_else_is_gone_even_if_the_test_catches_it(line: bytes) -> None:
    requests, ask = os.pipe()
    answers, replies = os.pipe()
    os.write(replies, b'{"value": null}\n' + line)
    os.close(replies)
    found: list[dict[str, Any]] = []
    test = "try:\n    f(1)\nexcept BaseException:\n    pass"
    channel = tester.Channel(ask, answers)
    tester.run_tests({"tests": [test], "setup": "", "names": ["f"], "modules": {}}, channel, found.append)
    for descriptor in (requests, ask):
        os.close(descriptor)
    channel.replies.close()
    assert found == [{"gone": True}]


@pytest.mark.parametrize("names", ["3", "null", '["junk", 3, "int", "StopIteration"]'])
def test_a_forged_exception_is_still_an_exception(names: str) -> None:
    requests, ask = os.pipe()
    answers, replies = os.pipe()
    os.write(replies, b'{"value": null}\n' + f'{{"raised": {names}}}\n'.encode())
    os.close(replies)
    found: list[dict[str, Any]] = []
    channel = tester.Channel(ask, answers)
    tester.run_tests({"tests": ["f(1)"], "setup": "", "names": ["f"], "modules": {}}, channel, found.append)
    for descriptor in (requests, ask):
        os.close(descriptor)
    channel.replies.close()
    assert found == [{"passed": False}]


def test_a_program_that_reads_no_more_requests_is_gone() -> None:
    requests, ask = os.pipe()
    answers, replies = os.pipe()
    os.write(replies, b'{"value": null}\n')
    os.close(requests)
    found: list[dict[str, Any]] = []
    channel = tester.Channel(ask, answers)
    tester.run_tests({"tests": ["f(1)"], "setup": "", "names": ["f"], "modules": {}}, channel, found.append)
    for descriptor in (ask, replies):
        os.close(descriptor)
    channel.replies.close()
    assert found == [{"gone": True}]


def test_the_tester_s_process_reads_its_job_and_writes_reports_a_line_each() -> None:
    job = {"tests": ["assert f(1) == 1"], "setup": "", "names": ["f"], "modules": {}}
    report, out = os.pipe()
    with _served("def f(x): return x") as channel:
        ask = os.dup(channel.requests)
        tester.main(wire.encode(job), ask, os.dup(channel.replies.fileno()), out)
        os.close(ask)
    os.close(out)
    with open(report, "rb") as lines:
        assert lines.read() == b'{"passed": true}\n'
