"""Responses that a report shows: problems answered wrong before and right after."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rlcs.eval_summary import GREEDY, natural
from rlcs.evaluate import Evaluation

SHOWN = 3
LONGEST = 1200  # characters of a response

Row = dict[str, Any]


def examples(before: Evaluation, after: Evaluation) -> tuple[list[str], dict[str, bytes]]:
    """Markdown lines of the section, and its pictures by their path relative to the report.

    Of each domain up to three problems, evenly spaced among all that flipped in the order of level and id, so that no hand
    picks them. Greedy responses are compared, or the first sample where there are none.
    """
    sample = GREEDY if after.config.greedy else 0
    lines, pictures = ["## From wrong to right\n"], {}
    first, second = (_outcomes(evaluation, sample) for evaluation in (before, after))
    kind = "greedy responses" if sample == GREEDY else "first samples"
    for domain in sorted({row["domain"] for row in second.values()}):
        flips = [
            (first[key], row)
            for key, row in second.items()
            if row["domain"] == domain and row["correct"] and key in first and first[key]["correct"] is False
        ]
        flips.sort(key=lambda pair: (natural(pair[1]["tier"] or ""), natural(pair[1]["id"]), pair[1]["mode"]))
        lines.append(f"### {domain}\n")
        lines.append(f"{len(flips)} {kind} were wrong before and are right after{', such as these.' if flips else '.'}\n")
        for number, (old, new) in enumerate(_spread(flips, SHOWN), start=1):
            links = []
            for place, media in enumerate(new["media"]):
                file = after.config.problems.parent / media
                name = f"images/{domain}-{number}-{place}{file.suffix}"
                if file.is_file():
                    pictures[name] = file.read_bytes()
                    links.append(f"![{media}]({name})\n")
                else:
                    links.append(f"(`{media}`, no longer beside the problem file)\n")
            lines += _example(old, new, links)
    return lines, pictures


def _outcomes(evaluation: Evaluation, sample: int) -> dict[tuple[str, str], Row]:
    """Rows of one sample number by (problem, mode)."""
    return {(row["id"], row["mode"]): row for row in evaluation.responses.to_pylist() if row["sample"] == sample}


def _spread(items: Sequence[tuple[Row, Row]], count: int) -> list[tuple[Row, Row]]:
    if len(items) <= count:
        return list(items)
    return [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]


def _example(old: Row, new: Row, links: Sequence[str]) -> Iterator[str]:
    tier = f", {new['tier']}" if new["tier"] else ""
    yield f"**`{new['id']}`**{tier}, {new['mode']} mode. Reference answer: `{new['answer']}`\n"
    yield from links
    yield from _quoted("Question", new["question"])
    yield from _quoted(f"Before: {old['reason'] or old['status']}", old["response"])
    yield from _quoted("After: right", new["response"])


def _quoted(title: str, text: str) -> Iterator[str]:
    """`text` word for word in a code block; its fence is longer than any run of backticks inside."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} ... ({len(text) - LONGEST} more characters)"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    yield f"{title}:\n\n{fence}text\n{text}\n{fence}\n"
