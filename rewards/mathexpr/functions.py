"""Function application and matrices: the parts of the grammar with rules of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewards.mathexpr.nodes import MAX_ITEMS, MathError, Node, number
from rewards.mathexpr.vocabulary import FUNCTIONS

if TYPE_CHECKING:
    from rewards.mathexpr.parser import Parser

_INVERSE = {name: f"arc{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc")}
_INVERSE |= {"sinh": "arsinh", "cosh": "arcosh", "tanh": "artanh"}


def read_function(parser: Parser, name: str) -> Node:
    """The application of function `name`, which has just been read: `\\sin^2 x`, `\\log_2(8)`, `max(1, 2)`."""
    base = None
    if name == "log" and parser.accept("_"):
        base = parser.tex_argument() if parser.is_op("{") else parser.atom()
    power = None
    if parser.accept("^"):
        power = parser.exponent()
    if base is None and name == "log" and parser.accept("_"):
        base = parser.tex_argument() if parser.is_op("{") else parser.atom()
    if power is not None and name in _INVERSE and power == Node("neg", (number(1),)):
        name, power = _INVERSE[name], None
    args = _arguments(parser)
    if name == "cbrt":
        node = parser.make("root", *args, number(3))
    elif name in ("log", "lg", "ln"):
        if len(args) != 1:
            raise MathError("unparsed")
        e, ten = Node("const", (), "e"), number(10)
        node = parser.make("log", args[0], base or {"ln": e, "lg": ten}.get(name, Node("const", (), "log-base")))
    elif name == "exp":
        node = parser.make("pow", Node("const", (), "e"), *args)
    else:
        node = parser.make("fn", *args, value=name)
    if len(args) != 1 and name not in ("max", "min", "gcd", "lcm"):
        raise MathError("unparsed")
    return parser.make("pow", node, power) if power is not None else node


def _arguments(parser: Parser) -> list[Node]:
    """In brackets, or the factors that follow up to a sum, a written product or another function."""
    if parser.accept("("):
        return parser.items(")")
    if parser.is_op("{"):
        return [parser.group()]
    if parser.accept("lb"):
        return parser.items("rb")
    if parser.is_op("+", "-"):
        negative = parser.leading_signs()
        args = _arguments(parser)
        return [parser.make("neg", args[0]), *args[1:]] if negative else args
    factors = [parser.power()]
    while parser.starts_factor():
        token = parser.head
        only_numbers = all(f.op in ("num", "dec") for f in factors)
        if (token.kind == "cmd" and token.text in FUNCTIONS and token.text != "sqrt") or (
            token.kind == "op" and token.text != "{" and not only_numbers
        ):
            break
        if token.kind == "num" and parser.tokens[parser.at - 1].kind == "num":
            raise MathError("adjacent-numbers")
        factors.append(parser.power())
    if parser.is_op("/") and not parser.starts_factor() and parser.tokens[parser.at + 1].kind in ("num", "letter"):
        # "cos pi/3" written on one line: the fraction is the argument.
        parser.at += 1
        product = factors[0] if len(factors) == 1 else parser.make("mul", *factors)
        return [parser.make("div", product, parser.power())]
    return [factors[0] if len(factors) == 1 else parser.make("mul", *factors)]


def read_matrix(parser: Parser, environment: str) -> Node:
    """The matrix whose environment has just been opened, or its determinant."""
    rows: list[list[Node]] = [[]]
    while True:
        if parser.head.kind == "cmd" and parser.head.text == f"end:{environment}":
            parser.at += 1
            break
        if parser.accept("newrow"):
            rows.append([])
        elif parser.accept("&"):
            continue
        else:
            rows[-1].append(parser.relation())
            if not (parser.is_op("&", "newrow") or parser.head.text == f"end:{environment}"):
                raise MathError("unparsed")
    rows = [row for row in rows if row]
    width = len(rows[0]) if rows else 0
    if not width or any(len(row) != width for row in rows) or width * len(rows) > MAX_ITEMS:
        raise MathError("bad-matrix")
    cells = [cell for row in rows for cell in row]
    node = parser.make("matrix", *cells, value=(len(rows), width))
    return parser.make("fn", node, value="det") if environment == "vmatrix" else node
