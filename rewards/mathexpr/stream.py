"""Reading tokens one after another, and numbers out of them."""

from __future__ import annotations

from fractions import Fraction

from rewards.mathexpr.lexer import Token
from rewards.mathexpr.nodes import MAX_NODES, Decimal, MathError, Node


class TokenStream:
    """A position in a token list that ends in an "end" token, and the count of nodes made from it."""

    def __init__(self, tokens: list[Token]) -> None:
        # Copies: a digit is split off a number where TeX takes one token, as in \\frac12.
        self.tokens = [Token(t.kind, t.text, t.space) for t in tokens]
        self.at = self.nodes = 0

    @property
    def head(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        token = self.tokens[self.at]
        if token.kind == "end":
            raise MathError("incomplete-expression")
        self.at += 1
        return token

    def is_op(self, *texts: str) -> bool:
        return self.head.kind == "op" and self.head.text in texts

    def accept(self, text: str) -> bool:
        if self.is_op(text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if self.head.kind == "end":
            raise MathError("incomplete-expression")
        if not self.accept(text):
            raise MathError("unbalanced" if text in (")", "]", "}", "rb", "|") else "unparsed")

    def make(self, op: str, *args: Node, value: object = None) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise MathError("too-complex")
        return Node(op, args, value)


def integer(text: str) -> Fraction:
    if len(text) > 400:
        raise MathError("too-complex")
    return Fraction(int(text))


def read_number(text: str) -> tuple[str, Fraction | Decimal]:
    """("num", Fraction) or ("dec", Decimal) of a numeric token."""
    if len(text) > 400:
        raise MathError("too-complex")
    if "overline" in text:
        head, _, rest = text.partition(".")
        fixed, _, cycle = rest.partition("\\overline{")
        cycle = cycle.rstrip("}")
        scale = 10 ** len(fixed)
        value = Fraction(int((head + fixed) or "0"), scale) + Fraction(int(cycle), scale * (10 ** len(cycle) - 1))
        return "num", value
    digits, _, exponent = text.lower().partition("e")
    power = int(exponent or 0)
    if abs(power) > 5000:
        raise MathError("too-complex")
    whole, point, fraction = digits.partition(".")
    value = Fraction(int(whole + fraction), 10 ** len(fraction)) * Fraction(10) ** power
    if not point or not fraction:
        return "num", value
    significant = len((whole + fraction).lstrip("0")) or 1
    return "dec", Decimal(value, len(fraction) - power, significant)
