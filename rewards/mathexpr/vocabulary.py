"""The words of mathematical notation: LaTeX commands, plain-text names and Unicode signs, and what each means."""

from __future__ import annotations

import re

FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "arccot",
        "arcsec",
        "arccsc",
        "sinh",
        "cosh",
        "tanh",
        "coth",
        "sech",
        "csch",
        "arsinh",
        "arcosh",
        "artanh",
        "ln",
        "log",
        "lg",
        "exp",
        "abs",
        "max",
        "min",
        "gcd",
        "lcm",
        "floor",
        "ceil",
        "sqrt",
        "cbrt",
        "det",
    ]
)
FUNCTION_ALIASES = {
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan")},
    **{"tg": "tan", "ctg": "cot", "arctg": "arctan", "arcctg": "arccot", "cosec": "csc", "ceiling": "ceil"},
    **{"arcsinh": "arsinh", "arccosh": "arcosh", "arctanh": "artanh", "sh": "sinh", "ch": "cosh"},
}
GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "omicron",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
        "ell",
        "hbar",
    ]
)
GREEK_ALIASES = {"varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta", "varrho": "rho", "varsigma": "sigma"}
PLAIN_WORDS = {"infinity": "infty", "inf": "infty", "oo": "infty", "pi": "pi"}

COMMAND_ALIASES = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "frac"),
    **dict.fromkeys(("dbinom", "tbinom"), "binom"),
    **dict.fromkeys(("ldots", "cdots", "dotsc", "dotsb", "dotsm", "hdots"), "dots"),
    **dict.fromkeys(("land", "wedge"), "and"),
    **dict.fromkeys(("lor", "vee"), "or"),
    **dict.fromkeys(("emptyset", "varnothing"), "emptyset"),
    **dict.fromkeys(("degree", "textdegree"), "circ"),
}
OPERATORS = {
    **dict.fromkeys(("cdot", "times", "ast", "cdotp"), "*"),
    **dict.fromkeys(("div",), "/"),
    **dict.fromkeys(("le", "leq", "leqslant", "leqq"), "<="),
    **dict.fromkeys(("ge", "geq", "geqslant", "geqq"), ">="),
    **dict.fromkeys(("lt",), "<"),
    **dict.fromkeys(("gt",), ">"),
    **dict.fromkeys(("ne", "neq"), "!="),
    **dict.fromkeys(("approx", "simeq", "thickapprox"), "~="),
    **{"in": "in", "cup": "cup", "cap": "cap", "setminus": "setminus", "backslash": "setminus", "pm": "pm", "mp": "mp"},
    **{"lbrace": "lb", "rbrace": "rb", "lbrack": "[", "rbrack": "]", "langle": "(", "rangle": ")", "colon": ":"},
    **dict.fromkeys(("vert", "lvert", "rvert", "mid"), "|"),
    **{"lfloor": "lfloor", "rfloor": "rfloor", "lceil": "lceil", "rceil": "rceil", "equiv": "="},
}
IGNORED = frozenset(
    [
        "left",
        "right",
        "big",
        "Big",
        "bigg",
        "Bigg",
        "bigl",
        "bigr",
        "Bigl",
        "Bigr",
        "biggl",
        "biggr",
        "Biggl",
        "Biggr",
        "displaystyle",
        "textstyle",
        "limits",
        "quad",
        "qquad",
        "boxed",
        "fbox",
        "mathbf",
        "boldsymbol",
        "bm",
        "mathit",
        "mathcal",
        "vec",
        "overrightarrow",
        "overline",
        "hat",
        "bar",
        "underline",
        "mathstrut",
        "angle",
        "triangle",
        "bf",
        "rm",
        "it",
        "enspace",
        "thinspace",
        "nonumber",
        "hfill",
        "medspace",
    ]
)
TEXT = frozenset(
    [
        "text",
        "mathrm",
        "textbf",
        "textit",
        "textrm",
        "operatorname",
        "mbox",
        "textnormal",
        "mathsf",
        "texttt",
        "hbox",
        "operatorname*",
    ]
)
UNEVALUATED = frozenset(["int", "iint", "iiint", "oint", "sum", "prod", "lim", "limsup", "liminf", "bigcup", "bigcap"])

UNICODE = {
    **dict.fromkeys("−–—﹣", "-"),
    **dict.fromkeys("×⋅·∙•∗", "*"),
    **{"÷": "/", "∕": "/", "⁄": "/", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in "},
    **{"≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">=", "≠": "!=", "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp "},
    **{
        "√": r"\surd ",
        "∛": r"\sqrt[3] ",
        "°": r"^\circ ",
        "º": r"^\circ ",
        "ℏ": r"\hbar ",
        "∅": r"\emptyset ",
        "′": "'",
        "’": "'",
    },
    **{"ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "…": r"\dots ", "⋯": r"\dots ", "∨": r"\lor "},
    **{
        "∧": r"\land ",
        "，": ",",
        "；": ";",
        "。": ".",
        "：": ":",
        "∶": ":",
        "、": ",",
        "｛": "{",
        "｝": "}",
        "\u20d7": "",
        "\u200b": "",
        "∖": r"\setminus ",
        "∠": "",
        "△": "",
    },
    **{"⟨": r"\langle ", "⟩": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil "},
}
UNICODE.update(
    {
        chr(0x3B1 + i): f"\\{name} "
        for i, name in enumerate(
            [
                "alpha",
                "beta",
                "gamma",
                "delta",
                "epsilon",
                "zeta",
                "eta",
                "theta",
                "iota",
                "kappa",
                "lambda",
                "mu",
                "nu",
                "xi",
                "omicron",
            ]
        )
    }
)
UNICODE.update(
    {
        c: f"\\{n} "
        for c, n in zip(
            "ρστυφχψωΓΔΘΛΞΣΦΨΩϕε",
            [
                "rho",
                "sigma",
                "tau",
                "upsilon",
                "phi",
                "chi",
                "psi",
                "omega",
                "Gamma",
                "Delta",
                "Theta",
                "Lambda",
                "Xi",
                "Sigma",
                "Phi",
                "Psi",
                "Omega",
                "phi",
                "epsilon",
            ],
            strict=True,
        )
    }
)
SUPERS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣ", "0123456789+-=()nix", strict=True))
SUBS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₖₓ", "0123456789+-=()nkx", strict=True))
SUPER_RUN = re.compile("[" + "".join(SUPERS) + "]+")
SUB_RUN = re.compile("[" + "".join(SUBS) + "]+")
ALONE = frozenset(
    [
        "abs",
        "max",
        "min",
        "gcd",
        "lcm",
        "floor",
        "ceil",
        "sqrt",
        "cbrt",
        "det",
        "sh",
        "ch",
        "lg",
        "inf",
        "oo",
        "sec",
        "exp",
        "ceiling",
        "arg",
    ]
)
