"""Tokens to an expression tree: recursive descent with precedence climbing, under token, node and depth budgets.

Precedence, loosest first: relations (`=`, `<`, `\\in`), set operations, sums, products (written or by juxtaposition,
left to right), signs, powers, postfix marks (`!`, `%`, degree). An unbracketed function argument takes the factors
that follow it up to a sum, a written product or another function: `\\sin 2x \\cos x` is sin(2x) cos(x).
"""

from __future__ import annotations

from rewards.mathexpr.functions import read_function, read_matrix
from rewards.mathexpr.lexer import Token
from rewards.mathexpr.nodes import MAX_DEPTH, MAX_ITEMS, MathError, Node, number, symbol
from rewards.mathexpr.stream import TokenStream, integer, read_number
from rewards.mathexpr.vocabulary import FUNCTIONS

RELATIONS = frozenset(("=", "<", ">", "<=", ">=", "!=", "~=", "in"))
_SET_OPERATIONS = {"cup": "cup", "cap": "cap", "setminus": "minus"}
_CLOSE = {"(": ")", "[": "]", "lb": "rb"}


class Parser(TokenStream):
    """One pass over a token list. `functions` are letters applied as undefined functions, `first_sign` counts signs."""

    def __init__(self, tokens: list[Token], functions: frozenset[str] = frozenset("f"), first_sign: int = 0) -> None:
        super().__init__(tokens)
        self.functions = functions
        self.depth = self.bars = 0
        self.signs = first_sign

    def relation(self) -> Node:
        """A chain of relations, or a single expression."""
        parts, ops = [self.set_expression()], []
        while self.head.kind == "op" and self.head.text in RELATIONS:
            ops.append(self.next().text)
            parts.append(self.set_expression())
        return self.make("rel", *parts, value=tuple(ops)) if ops else parts[0]

    def set_expression(self) -> Node:
        left = self.ratio()
        while self.head.kind == "op" and self.head.text in _SET_OPERATIONS:
            left = self.make(_SET_OPERATIONS[self.next().text], left, self.ratio())
        return left

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise MathError("too-complex")
        terms = [self.term()]
        while True:
            if self.accept("+"):
                terms.append(self.term())
            elif self.accept("-"):
                terms.append(self.make("neg", self.term()))
            elif self.is_op("pm", "mp"):
                sign = self.sign()
                terms.append(self.make("mul", sign, self.term()))
            else:
                break
        self.depth -= 1
        return self.make("add", *terms) if len(terms) > 1 else terms[0]

    def sign(self) -> Node:
        kind = 1 if self.next().text == "pm" else -1
        self.signs += 1
        return self.make("pm", value=(self.signs, kind))

    def term(self) -> Node:
        negative = self.leading_signs()
        sign = self.sign() if self.is_op("pm", "mp") else None
        product = self.product()
        if sign is not None:
            product = self.make("mul", sign, product)
        return self.make("neg", product) if negative else product

    def leading_signs(self) -> bool:
        """Whether the signs at this place make a minus. A loop, since a row of signs may be long."""
        negative = False
        while self.is_op("+", "-"):
            negative ^= self.next().text == "-"
        return negative

    def ratio(self) -> Node:
        """`2 : 3 : 4`, kept as it stands; of two parts a ratio is a quotient."""
        parts = [self.sum()]
        while self.is_op(":") and self.at + 1 < len(self.tokens):
            self.at += 1
            parts.append(self.sum())
        return self.make("ratio", *parts) if len(parts) > 2 else parts[0] if len(parts) == 1 else self.make("div", *parts)

    def product(self) -> Node:
        left = self.mixed_number() or self.power()
        while True:
            if self.accept("*"):
                left = self.make("mul", left, self.signed_factor())
            elif self.accept("/"):
                left = self.make("div", left, self.signed_factor())
            elif self.starts_factor():
                if self.head.kind == "num" and self.tokens[self.at - 1].kind == "num":
                    raise MathError("adjacent-numbers")
                left = self.make("mul", left, self.power())
            else:
                return left

    def signed_factor(self) -> Node:
        negative = self.leading_signs()
        factor = self.mixed_number() or self.power()
        return self.make("neg", factor) if negative else factor

    def starts_factor(self) -> bool:
        token = self.head
        if token.kind in ("num", "letter"):
            return True
        if token.kind == "cmd":
            return (
                token.text in FUNCTIONS
                or token.text in ("pi", "infty", "frac", "binom", "surd", "dots")
                or (token.text.startswith("begin:"))
            )
        return token.kind == "op" and (
            token.text in ("(", "[", "{", "lb", "lfloor", "lceil") or (token.text == "|" and not self.bars)
        )

    def mixed_number(self) -> Node | None:
        """`2 \\frac{2}{3}` or `2 2/3`: a whole number and a proper fraction side by side mean their sum."""
        whole, following = self.head, self.tokens[min(self.at + 1, len(self.tokens) - 1)]
        if whole.kind != "num" or not whole.text.isdigit():
            return None
        start = self.at
        if following.kind == "cmd" and following.text == "frac":
            self.at += 2
            try:
                over, under = self.tex_argument(), self.tex_argument()
            except MathError:
                self.at = start
                return None
        elif following.kind == "num" and following.space and following.text.isdigit():
            if len(self.tokens) < start + 4 or self.tokens[start + 2].text != "/":
                return None
            below = self.tokens[start + 3]
            if below.kind != "num" or not below.text.isdigit():
                return None
            over, under = number(integer(following.text)), number(integer(below.text))
            self.at += 4
        else:
            return None
        if over.op == under.op == "num" and 0 < over.value < under.value and not self.is_op("^", "!"):
            mixed = self.make("num", value=integer(whole.text) + over.value / under.value)
            return self.make("pct", mixed) if self.accept("%") else mixed
        # Not a mixed number: start again, and with fresh tokens since \frac12 may have been split.
        self.at = start
        if following.kind == "cmd":
            self.unsplit(start)
        return None

    def unsplit(self, start: int) -> None:
        """Join digits that `tex_argument` split off the number after position `start`."""
        index = start + 2
        while index + 1 < len(self.tokens) and self.tokens[index].kind == "digit":
            self.tokens[index + 1].text = self.tokens[index].text + self.tokens[index + 1].text
            del self.tokens[index]
        if index < len(self.tokens) and self.tokens[index].kind == "digit":
            self.tokens[index].kind = "num"

    def power(self) -> Node:
        base = self.atom()
        while True:
            if self.accept("^"):
                if self.head.kind == "cmd" and self.head.text == "circ":
                    self.at += 1
                    base = self.make("deg", base)
                elif self.head.kind == "cmd" and self.head.text == "prime":
                    self.at += 1
                    base = self.primed(base)
                elif self.is_op("{") and self.tokens[self.at + 1].text == "circ":
                    self.at += 2
                    self.expect("}")
                    base = self.make("deg", base)
                else:
                    power = self.exponent()
                    if base.op == "sym" and "_" not in base.value and self.accept("_"):  # v^2_0
                        base = symbol(f"{base.value}_{self.subscript()}")
                    base = self.make("pow", base, power)
            elif self.accept("!"):
                base = self.make("fact", base)
            elif self.accept("%"):
                base = self.make("pct", base)
            elif self.is_op("'"):
                self.at += 1
                base = self.primed(base)
            else:
                return base

    def primed(self, base: Node) -> Node:
        if base.op != "sym":
            raise MathError("unparsed")
        return symbol(base.value + "'")

    def exponent(self) -> Node:
        if self.is_op("{"):
            return self.group()
        if self.is_op("+", "-"):
            negative = self.leading_signs()
            power = self.exponent()
            return self.make("neg", power) if negative else power
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise MathError("too-complex")
        # A number here carries no base: in v^2_0 the subscript is the variable's.
        base = self.literal(self.next().text) if self.head.kind == "num" else self.atom()
        if self.accept("^"):  # 9^9^9 without braces: to the right, as a calculator reads it
            base = self.make("pow", base, self.exponent())
        self.depth -= 1
        return base

    def group(self) -> Node:
        self.expect("{")
        if self.accept("}"):
            raise MathError("empty-group")
        inner = self.sum()
        self.expect("}")
        return inner

    def tex_argument(self) -> Node:
        """What a TeX command takes: a group, or a single token (the first digit of a number)."""
        if self.is_op("{"):
            return self.group()
        token = self.head
        if token.kind in ("num", "digit"):
            if len(token.text) > 1 and token.text.isdigit():
                self.tokens[self.at] = Token("digit", token.text[0])
                self.tokens.insert(self.at + 1, Token("num", token.text[1:]))
            self.at += 1
            return self.literal(self.tokens[self.at - 1].text)
        return self.atom()

    def literal(self, text: str) -> Node:
        kind, value = read_number(text)
        return self.make(kind, value=value)

    def atom(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise MathError("too-complex")
        node = self._atom()
        self.depth -= 1
        return node

    def _atom(self) -> Node:
        token = self.next()
        if token.kind in ("num", "digit"):
            node = self.literal(token.text)
            if self.is_op("_") and token.text.isdigit():
                return self.make("based", value=(token.text, self.base()))
            return node
        if token.kind == "letter":
            return self.variable(token.text)
        if token.kind == "word" and len(token.text) == 1:
            return symbol(token.text)
        if token.kind == "cmd":
            return self.command(token.text)
        if token.kind == "op":
            if token.text == "{":
                self.at -= 1
                return self.group()
            if token.text in ("(", "[", "lb"):
                return self.bracket(token.text)
            if token.text == "|":
                self.bars += 1
                inner = self.sum()
                self.bars -= 1
                self.expect("|")
                return self.make("fn", inner, value="abs")
            if token.text in ("lfloor", "lceil"):
                inner = self.sum()
                self.expect("r" + token.text[1:])
                return self.make("fn", inner, value="floor" if token.text == "lfloor" else "ceil")
        raise MathError("unparsed")

    def base(self) -> int:
        self.expect("_")
        if not self.is_op("{") and self.head.kind != "num":
            raise MathError("unparsed")
        node = self.group() if self.is_op("{") else self.literal(self.next().text)
        if node.op != "num" or node.value.denominator != 1 or not 2 <= node.value <= 36:
            raise MathError("unparsed")
        return int(node.value)

    def variable(self, name: str) -> Node:
        if self.accept("_"):
            name += "_" + self.subscript()
        elif name in ("e", "i"):
            return self.make("const", value=name)
        while self.is_op("'"):
            self.at += 1
            name += "'"
        if name.rstrip("'") in self.functions and self.is_op("("):
            self.at += 1
            return self.make("app", *self.items(")"), value=name)
        self.make("sym")  # counts against the budget
        return symbol(name)

    def subscript(self) -> str:
        if not self.accept("{"):
            return self.next().text
        parts: list[str] = []
        depth = 1
        while True:
            token = self.next()
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if not depth:
                return "".join(parts)
            parts.append(token.text)

    def items(self, closing: str) -> list[Node]:
        found: list[Node] = []
        bars, self.bars = self.bars, 0
        while not self.accept(closing):
            if found:
                if not self.accept(";"):
                    self.expect(",")
                if self.accept(closing):
                    break
            found.append(self.relation())
            if len(found) > MAX_ITEMS:
                raise MathError("too-complex")
        self.bars = bars
        return found

    def bracket(self, opening: str) -> Node:
        found: list[Node] = []
        bars, self.bars = self.bars, 0
        while True:
            if self.head.kind == "op" and self.head.text in (")", "]", "rb"):
                closing = self.next().text
                break
            if found and not self.accept(";"):
                self.expect(",")
            found.append(self.relation())
            if len(found) > MAX_ITEMS:
                raise MathError("too-complex")
        self.bars = bars
        if (opening == "lb") != (closing == "rb"):
            raise MathError("unbalanced")
        if opening == "lb":
            return self.make("set", *found)
        if not found:
            raise MathError("empty-group")
        if len(found) == 1:
            if _CLOSE[opening] != closing:
                raise MathError("unbalanced")
            return found[0] if found[0].op != "rel" else self.grouped_relation(found[0])
        return self.make("tuple", *found, value=opening + closing)

    def grouped_relation(self, node: Node) -> Node:
        # "(35 + 70 = 105)": the bracket is only punctuation, and only where it closes the expression.
        if self.head.kind != "end" and not self.is_op(")", "]", ",", ";"):
            raise MathError("unparsed")
        return node

    def command(self, name: str) -> Node:
        if name in ("pi", "infty"):
            return self.make("const", value="pi" if name == "pi" else "inf")
        if name.startswith("bb"):
            return self.make("bb", value=name[2:])
        if name == "emptyset":
            return self.make("set")
        if name == "dots":
            return self.make("ell")
        if name == "frac":
            over = self.tex_argument()
            return self.make("div", over, self.tex_argument())
        if name == "binom":
            upper = self.tex_argument()
            return self.make("fn", upper, self.tex_argument(), value="binom")
        if name == "surd":
            return self.make("root", self.power(), number(2))
        if name.startswith("begin:"):
            return read_matrix(self, name[6:])
        if name == "sqrt":
            degree = number(2)
            if self.accept("["):
                degree = self.sum()
                self.expect("]")
            return self.make("root", self.tex_argument(), degree)
        if name in FUNCTIONS:
            return read_function(self, name)
        raise MathError("unparsed")
