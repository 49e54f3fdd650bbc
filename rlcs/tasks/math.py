"""Arithmetic, written in the prompt or rendered as an image, with the working a pupil would write.

Level 1: one-digit sums and differences. 2: two-digit. 3: three-digit, or two-digit times one-digit. 4: three two-digit terms.
5: two-digit times two-digit.
"""

import re
from itertools import zip_longest

import numpy as np
from PIL import Image

from rlcs.tasks.base import Sample, check_level
from rlcs.tasks.glyphs import CELL, draw_row


def add_working(a: int, b: int) -> str:
    """Column addition, units first, each column with its carry: `48+37: 8+7=15 4+3+1=8`."""
    columns, carry = [], 0
    for x, y in zip_longest(reversed(str(a)), reversed(str(b)), fillvalue="0"):
        total = int(x) + int(y) + carry
        columns.append(f"{x}+{y}{'+1' if carry else ''}={total}")
        carry = total // 10
    return f"{a}+{b}: {' '.join(columns)}"


def subtract_working(a: int, b: int) -> str:
    """Column subtraction for a >= b, units first; a borrow adds ten to its column and takes one from the next."""
    columns, borrow = [], 0
    for x, y in zip_longest(reversed(str(a)), reversed(str(b)), fillvalue="0"):
        low = int(x) - int(y) - borrow < 0
        top = int(x) + (10 if low else 0)
        columns.append(f"{top}-{y}{'-1' if borrow else ''}={top - int(y) - borrow}")
        borrow = int(low)
    return f"{a}-{b}: {' '.join(columns)}"


def multiply_working(a: int, b: int) -> str:
    """Product with a one-digit b, units first, each digit with its carry: `47*6: 7*6=42 4*6+4=28`."""
    columns, carry = [], 0
    for x in reversed(str(a)):
        total = int(x) * b + carry
        columns.append(f"{x}*{b}{f'+{carry}' if carry else ''}={total}")
        carry = total // 10
    return f"{a}*{b}: {' '.join(columns)}"


def step_working(a: int, operator: str, b: int) -> tuple[str, int]:
    """The working of one operation, ending in its result, and the result."""
    if operator == "*":
        result, working = a * b, multiply_working(a, b)
    elif operator == "+":
        result, working = a + b, add_working(a, b)
    else:
        result, working = a - b, subtract_working(a, b)
    return f"{working} ={result}", result


def _chain(first: int, steps: list[tuple[str, int]]) -> tuple[str, str, int]:
    expression, total, workings = str(first), first, []
    for operator, term in steps:
        expression += f"{operator}{term}"
        working, total = step_working(total, operator, term)
        workings.append(working)
    return expression, "; ".join(workings), total


def draw_expression(rng: np.random.Generator, level: int) -> tuple[str, str, int]:
    """(expression, worked columns, result) of one problem of the level."""

    def number(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    plus = bool(rng.integers(2))
    if level == 1:
        a, b = number(0, 10), number(0, 10)
        return _chain(a, [("+", b)]) if plus else _chain(max(a, b), [("-", min(a, b))])
    if level == 2:
        a, b = number(10, 100), number(2, 100)
        return _chain(a, [("+", b)]) if plus else _chain(max(a, b), [("-", min(a, b))])
    if level == 3:
        if rng.integers(3) == 0:
            return _chain(number(11, 100), [("*", number(2, 10))])
        a, b = number(100, 1000), number(11, 1000)
        return _chain(a, [("+", b)]) if plus else _chain(max(a, b), [("-", min(a, b))])
    if level == 4:
        a, b, c = number(10, 100), number(10, 100), number(10, 100)
        steps = [("+", b), ("+", c)] if plus or a + b < c else [("+", b), ("-", c)]
        return _chain(a, steps)
    a, b = number(11, 100), number(11, 100)
    tens, units = b // 10, b % 10
    first, high = step_working(a, "*", tens)
    second, low = step_working(a, "*", units)
    last, total = step_working(high * 10, "+", low)
    return f"{a}*{b}", f"{first}; {second}; {last}", total


class MathFamily:
    """See the module's docstring. Half of the problems show the expression as an image only."""

    domain = "math"
    levels = 5

    def generate(self, rng: np.random.Generator, level: int) -> Sample:
        check_level(self, level)
        expression, working, total = draw_expression(rng, level)
        image, question = None, f"Compute {expression}"
        if rng.integers(2):
            question = "Compute"
            image = Image.new("RGB", (CELL * len(expression), CELL), (255, 255, 255))
            draw_row(image, expression, 0, 0)
        shown = re.sub(r"(?<=\d) ", ", ", working).replace("; ", ". ") + ". So "
        quick = f"the value of {expression}"
        return Sample(question, str(total), working, str(total), quick, expression, shown, image)
