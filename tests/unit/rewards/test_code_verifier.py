"""The code verifier: reading answers and references, comparing, what it pays for. Attacks: integration/test_sandbox.py."""

import importlib.util
import json
import math
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import check_reference, explain, score
from rewards.registry import BadReference, find
from rewards.sandbox import program, seccomp, tester, wire
from rewards.sandbox.agreement import same_output, same_value
from rewards.sandbox.cases import AssertCode, FunctionCall, Script, read_suite
from rewards.sandbox.filesystem import library_paths, without
from rewards.sandbox.process import Clock, Limits, NoVerdict, capabilities
from rewards.sandbox.runs import _fate
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


# Comparing


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "same"),
    [
        ("4", "4\n", None, True),
        ("4  \r\n\n\n", "4", None, True),
        ("1\n2", "1 2", None, False),
        (" 4", "4", None, False),
        ("1\n\n2", "1\n2", None, False),
        ("4 4", "4", None, False),
        ("0.30000001", "0.3", None, False),
        ("0.30000001", "0.3", 1e-6, True),
        ("a 0.30000001 7", "a 0.3 7", 1e-6, True),
        ("0.31", "0.3", 1e-6, False),
        ("nan", "0.3", 1e-6, False),
        ("inf", "1e400", 1e-6, False),
        ("0.3_0", "0.3", 1e-6, False),
        ("8", "7", 0.5, False),
        ("0.3 0.3", "0.3", 1e-6, False),
        ("x", "0.3", 1e-6, False),
        ("0" * 500 + "0.3", "0.3", 1e-6, False),
    ],
)
def test_outputs_agree_but_for_white_space_at_ends(found: str, expected: str, tolerance: float | None, same: bool) -> None:
    assert same_output(found, expected, tolerance) is same


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (3, 3, True),
        (3.0, 3, True),
        (0.1 + 0.2, 0.3, True),
        (0.31, 0.3, False),
        (True, 1, False),
        (1, True, False),
        (True, True, True),
        (None, None, True),
        (0, None, False),
        (None, 0, False),
        ("3", 3, False),
        (3, "3", False),
        (math.nan, 3, False),
        (math.inf, 1e308, False),
        (10**5000, 10**5000, True),
        (10**5000, 1.5, False),
        (10**5000 + 1, 10**5000, False),
        ((1, (2,)), [1, [2]], True),
        ([1, 2], [1], False),
        ({1, 2}, [1, 2], False),
        ({"a": 1, 2: [3]}, {"a": 1, "2": [3]}, True),
        ({1: 1, "1": 1}, {"1": 1}, False),
        ({True: 1}, {"True": 1}, False),
        ({(1, 2): 1}, {"(1, 2)": 1}, False),
        ([], {}, False),
        (b"x", "x", False),
        (Fraction(1, 2), 0.5, False),
    ],
    ids=lambda value: type(value).__name__,  # pytest would print the long integers, which Python refuses
)
def test_a_returned_value_agrees_with_a_json_value(found: Any, expected: Any, same: bool) -> None:
    assert same_value(wire.pack(found), expected, 1e-9) is same


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_every_json_value_agrees_with_itself(value: Any) -> None:
    assert same_value(wire.decode(wire.encode({"value": wire.pack(value)}))["value"], value, 0.0)


@given(JSON, JSON)
def test_comparing_any_message_never_raises(form: Any, expected: Any) -> None:
    assert same_value(form, expected, 1e-9) in (True, False)


# Values between processes

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**1100, max_value=2**1101)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.fractions()
    | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(), max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    found = wire.unpack(wire.decode(wire.encode({"value": wire.pack(value)}))["value"])
    assert found == value and type(found) is type(value)


@given(JSON)
def test_unpacking_anything_gives_a_value_or_a_wire_error(form: Any) -> None:
    with suppress(wire.WireError):
        wire.unpack(form, lambda number: number)


@pytest.mark.parametrize(
    "kind", ["int", "float", "bytes", "complex", "fraction", "decimal", "set", "frozenset", "tuple", "dict", "object", "x"]
)
@given(content=JSON)
def test_unpacking_a_forged_form_gives_a_value_or_a_wire_error(kind: str, content: Any) -> None:
    with suppress(wire.WireError):
        wire.unpack({kind: content})


@given(
    st.binary(max_size=40)
    | st.sampled_from([b"[" * 10**5, b"1" * 5000, b'{"value": NaN}', b"[1]", b'"\\ud800"', b'{"a":' * 10**5])
)
def test_decoding_any_line_gives_an_object_or_a_wire_error(line: bytes) -> None:
    with suppress(wire.WireError):
        assert isinstance(wire.decode(line), dict)


def test_objects_and_deep_nesting_are_not_sent() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    for value in (object(), deep, iter([]), lambda: 1):
        with pytest.raises(wire.WireError):
            wire.pack(value)
    with pytest.raises(wire.WireError):
        wire.unpack(deep)


def test_subclasses_are_sent_as_the_plain_value_they_extend() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert wire.pack([Liar(3)]) == [3] and type(wire.pack(Liar(3))) is int


# The system call filter, run by a small interpreter of its own


def _filtered(code: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = 0xC000003E) -> int:
    """What the filter answers to a call: the classic BPF machine of the kernel, as far as the filter uses it."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("=HBBI", code))
    place = accumulator = 0
    while True:
        kind, then, otherwise, value = instructions[place]
        place += 1
        if kind == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif kind == 0x54:
            accumulator &= value
        elif kind == 0x15:
            place += then if accumulator == value else otherwise
        elif kind == 0x35:
            place += then if accumulator >= value else otherwise
        else:
            assert kind == 0x06
            return int(value)


ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
THREAD = 0x3D0F00  # the flags glibc starts a thread with


@pytest.mark.parametrize(
    ("call", "arguments", "answer"),
    [
        ("read", (0,), ALLOW),
        ("socket", (1, 1), EPERM),
        ("execve", (), EPERM),
        ("ptrace", (), EPERM),
        ("clone3", (), ENOSYS),
        ("clone", (THREAD,), ALLOW),
        ("clone", (17,), EPERM),
        ("clone", (THREAD | 0x10000000,), EPERM),
        ("clone", (THREAD | 0x40000000,), EPERM),
        ("kill", (7, 15), ALLOW),
        ("kill", (7, 9), EPERM),
        ("kill", (8, 15), EPERM),
        ("kill", (0xFFFFFFFF, 15), EPERM),
        ("kill", (0, 15), EPERM),
        ("tgkill", (7, 9, 6), ALLOW),
        ("tgkill", (7, 7, 9), EPERM),
        ("tgkill", (8, 8, 6), EPERM),
        ("fcntl", (0, 3), ALLOW),
        ("fcntl", (0, 8, 1), EPERM),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), EPERM),
        ("ioctl", (0, 0x8901), EPERM),
        ("prlimit64", (0, 3), ALLOW),
        ("prlimit64", (7, 3), ALLOW),
        ("prlimit64", (0, 0), EPERM),
        ("prlimit64", (8, 3), EPERM),
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), EPERM),
        ("socketpair", (1, 1 | 0x80800), ALLOW),
        ("socketpair", (1, 2), EPERM),
        ("socketpair", (2, 1), EPERM),
        ("sendto", (3, 1 << 40, 5, 0, 0, 0), ALLOW),
        ("sendto", (3, 0, 0, 0, 1 << 33, 0), EPERM),
        ("sendto", (3, 0, 0, 0, 64, 0), EPERM),
    ],
)
@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_filter_answers_each_call(
    call: str, arguments: tuple[int, ...], answer: int, machine: str, architecture: int
) -> None:
    column = ["x86_64", "aarch64"].index(machine)
    extra = {"socket": (41, 198), "execve": (59, 221), "ptrace": (101, 117)}
    numbers = {**seccomp.ALLOWED, **seccomp.MISSING, **seccomp.CONDITIONAL, **extra}
    assert _filtered(seccomp.build_filter(7, machine), numbers[call][column], arguments, architecture) == answer


def test_calls_of_another_architecture_end_the_program() -> None:
    code = seccomp.build_filter(7, "x86_64")
    assert _filtered(code, 1, architecture=0x40000003) == KILL  # 32-bit x86, where 1 is exit
    assert _filtered(code, 0x40000000 | 1) == KILL  # x32
    with pytest.raises(OSError, match="riscv64"):
        seccomp.build_filter(7, "riscv64")


@pytest.mark.parametrize(
    ("column", "header"), [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")]
)
def test_call_numbers_are_those_of_the_kernel_headers(column: int, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    text = Path(header).read_text()
    found = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", text, re.MULTILINE)}
    found.setdefault("newfstatat", found.get("fstatat", -1))
    ours = {**seccomp.ALLOWED, **seccomp.MISSING, **seccomp.CONDITIONAL}
    assert {name: pair[column] for name, pair in ours.items()} == {name: found.get(name, -1) for name in ours}


# The file tree


def test_hidden_folders_are_left_out_and_nothing_else(tmp_path: Path) -> None:
    for name in ("lib/python/os.py", "lib/python/site-packages/secret.py", "lib/libz.so", "lib/python/json/decoder.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = without([str(tmp_path / "lib")], [str(tmp_path / "lib/python/site-packages")])
    assert sorted(found) == [str(tmp_path / name) for name in ("lib/libz.so", "lib/python/json", "lib/python/os.py")]
    assert without([str(tmp_path / "lib")], []) == [str(tmp_path / "lib")]
    assert without([str(tmp_path / "lib")], [str(tmp_path / "lib")]) == []


def test_the_interpreter_s_library_is_readable_and_packages_are_not() -> None:
    readable, hidden = library_paths()
    assert any(os.__file__.startswith(path + "/") for path in readable)
    packages = os.path.dirname(os.path.dirname(pytest.__file__))
    assert os.path.realpath(packages) in hidden


# Test code against a program, both in this process


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


# Why a program ended


@dataclass
class Ended:
    """As much of a sandboxed process as its fate is read from."""

    ended: tuple[int, int] | None
    cpu: float = 1.0
    peak_mb: float = 20.0
    limits: Limits = field(default_factory=lambda: Limits(total_s=30, memory_mb=256))

    def cpu_s(self) -> float:
        return self.cpu


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        (Ended(None), "crashed"),
        (Ended((0, 0)), "crashed"),
        (Ended((1, 0)), "crashed"),
        (Ended((0, 11)), "crashed"),
        (Ended((0, 31)), "crashed"),
        (Ended((120, 0)), "syntax-error"),
        (Ended((121, 0)), "memory-limit"),
        (Ended((0, 24)), "time-limit"),
        (Ended((0, 9), cpu=32), "time-limit"),
        (Ended((0, 9), peak_mb=250), "memory-limit"),
    ],
)
def test_how_a_program_ended_gives_the_reason(process: Any, reason: str) -> None:
    assert _fate(process) == reason


def test_a_small_program_killed_from_outside_says_nothing() -> None:
    killed: Any = Ended((0, 9))
    with pytest.raises(NoVerdict, match="killed"):
        _fate(killed)


@dataclass
class Sleeping:
    """A program that has been ready to run for `starved` of the seconds that have passed, and has used `cpu` of them."""

    cpu: float = 0.0
    starved: float = 0.0

    def cpu_s(self) -> float:
        return self.cpu

    def starved_s(self) -> float:
        return self.starved


@pytest.mark.parametrize(
    ("wall", "cpu", "starved", "over"),
    [
        (0.5, 0.4, 0.0, False),
        (1.5, 1.0, 0.0, True),  # its processor time is used up
        (6.0, 0.1, 0.0, False),  # it sleeps
        (7.0, 0.1, 0.0, True),  # longer than 2 x 1 s + 5 s
        (20.0, 0.1, 15.0, False),  # the machine had no processor for it
        (28.0, 0.1, 15.0, True),
        (28.0, 0.1, 25.0, None),
    ],
)
def test_waiting_for_a_processor_is_not_held_against_a_program(
    wall: float, cpu: float, starved: float, over: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("rewards.sandbox.process.time.monotonic", lambda: now[0])
    program_: Any = Sleeping()
    clock = Clock([program_], 1.0)
    now[0], program_.cpu, program_.starved = 100.0 + wall, cpu, starved
    if over is None:
        with pytest.raises(NoVerdict, match="machine-overloaded"):
            clock.is_over()
    else:
        assert clock.is_over() is over


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
