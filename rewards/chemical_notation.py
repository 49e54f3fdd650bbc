"""LaTeX, mhchem and Unicode writings of chemistry brought to one notation.

"\\ce{SO4^{2-}}", "SO₄²⁻", "\\mathrm{SO_4^{2-}}" become "SO4^<2->" or "SO_<4>^<2->"; arrows of every kind, with what
stands over them (a catalyst, "△", "点燃"), become "→"; "↑" and "↓" become the states "(up)" and "(down)".
"""

from __future__ import annotations

import re

from rewards.mathexpr.vocabulary import SUB_RUN, SUBS, SUPER_RUN, SUPERS
from rewards.stream_safe import normalise

_COMMANDS = re.compile(
    r"\\(?:ce|cee|math(?:rm|bf|it|sf)|text(?:rm|bf|it)?|operatorname|boxed|left|right|rm|displaystyle|mbox|hbox|chem|pu|bm|boldsymbol)(?![a-zA-Z])"
)
_SPACES = re.compile(r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|~|\$|\\[()\[\]]|\u200b|\{\}")
_HALF = re.compile(r"\\[dt]?frac\s*\{?(\d{1,4})\}?\s*\{?(\d{1,4})\}?")
_BRACED = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
_OVER_ARROW = re.compile(
    rf"\\x(?:right|left|leftright|rightleftharpoons|rightleft|right\w*|leftright\w*)(?:arrow|arrows|harpoons)?\s*(?:\[[^\[\]]*\])?\s*{_BRACED}"
    rf"|\\(?:overset|stackrel|underset)\s*{_BRACED}\s*(?:\{{\s*\\(?:overset|underset|stackrel)\s*{_BRACED}\s*{_BRACED}\s*\}}|{_BRACED})"
)
_CONDITION = r"[\[(（{]?[^=→+\-<>\d\[\]()（）{}]{1,24}[\])）}]?"
_ARROW = re.compile(
    r"\\(?:long)?(?:right|leftright)arrow(?![a-zA-Z])|\\to(?![a-zA-Z])|\\(?:long)?rightleftharpoons|\\leftrightharpoons|\\rightleftarrows"
    r"|\\(?:Long)?(?:R|Leftr)ightarrow(?![a-zA-Z])|<?[=-]{0,6}>{1,2}(?:\[[^\[\]]{0,60}\](?![\d^+-])){0,2}|[→⟶⇌⇋⇄↔⟷⇒⟹➔➝⇀⇆]"
    rf"|={{1,6}}\s*{_CONDITION}\s*={{1,6}}|={{2,6}}[^=→+]{{1,24}}={{2,6}}|-{{1,3}}[(\[][^()\[\]]{{1,40}}[)\]]-{{0,3}}>|(?:[—–]{{1,3}}|--)\s*{_CONDITION}\s*→"
)
_SIGNS = {ord(c): "-" for c in "\u2010\u2011\u2012\u2013\u2014\u2212\u207b"} | {
    ord(c): "·" for c in "\u2219\u22c5\u2022\u30fb\u2e31*"
}
_SIGNS |= {0xFF0B: "+", 0x207A: "+", 0xFE62: "+"}
_VULGAR = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
_MARKS = re.compile(r"\\uparrow|↑|\\downarrow|↓")


def one_notation(text: str) -> str:
    """One notation: `^<...>` for superscripts, digits for subscripts, "→" for every arrow but "="."""
    text = SUPER_RUN.sub(lambda m: "^{" + "".join(SUPERS[c] for c in m.group()) + "}", text)
    text = SUB_RUN.sub(lambda m: "_{" + "".join(SUBS[c] for c in m.group()) + "}", text)
    text = _HALF.sub(r"\1/\2", text)
    text = _VULGAR.sub(" ", text)  # NFKC would make 11/2 of 1½
    text = normalise("NFKC", text).replace("\u2044", "/")
    text = _OVER_ARROW.sub("→", text)
    text = _ARROW.sub("→", text).translate(_SIGNS)
    text = _MARKS.sub(lambda m: "(up)" if "u" in m.group() or m.group() == "↑" else "(down)", text)
    text = re.sub(r"\\(?:cdot|bullet|times|ast)(?![a-zA-Z])", "·", text)
    text = re.sub(r"\\equiv(?![a-zA-Z])|≡", "#", text)
    for name, letter in (("alpha", "α"), ("beta", "β"), ("gamma", "γ"), ("Delta", "Δ")):
        text = re.sub(rf"\\{name}(?![a-zA-Z])", letter, text)
    text = _SPACES.sub(" ", _COMMANDS.sub("", text))
    text = re.sub(r"_\s*\{\s*(\([a-z]{1,2}\))\s*\}", r"\1", text)
    text = re.sub(r"\^\s*\{\s*([^{}<>^]{0,8}?)\s*\}", r"^<\1>", text)
    text = re.sub(r"\^\s*([+-]\d(?=\s|$)|\d{0,3}\s?[+-]|\d{1,3})", r"^<\1>", text)
    text = re.sub(
        r"_\s*\{\s*([+-]?\d{0,3}|n)\s*\}|_\s*([+-]?\d{1,3}|n)", lambda m: f"_<{m.group(1) or m.group(2) or ''}>", text
    )
    return " ".join(text.replace("{", "").replace("}", "").split()).strip(" .,;:。，")
