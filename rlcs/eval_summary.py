"""From responses to figures: the table of responses, what is known of each problem, and the summary of a selection.

Axis suffixes: P problems, M modes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from rich.box import SIMPLE
from rich.table import Table

from rlcs.estimates import Estimate, mean_interval, pass_at_k, wilson_interval

GREEDY = -1  # the `sample` of a greedy response
BOTH = "both"  # all modes together

RESPONSES = pa.schema(
    [
        ("id", pa.string()),
        ("domain", pa.string()),
        ("tier", pa.string()),
        ("mode", pa.string()),
        ("sample", pa.int32()),
        ("question", pa.string()),
        ("media", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("response", pa.string()),
        ("score", pa.float64()),
        ("correct", pa.bool_()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("extracted", pa.string()),
        ("tokens", pa.int32()),
        ("finish_reason", pa.string()),
        ("forced", pa.bool_()),
    ]
)
"""Columns of responses.parquet. `answer` is JSON; `forced` says that the thinking budget closed the thought; `score` and
`correct` are null where the verifier could not tell."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What the responses of an evaluation say, by problem and mode; all arrays float64 [P, M], counts of sampled responses.

    `known` are those the verifier judged, `right` and `reward` (a sum) are over the known ones, the rest over all.
    `greedy` is the outcome of the greedy response, NaN where there is none or it is unknown.
    """

    ids: list[str]
    domains: np.ndarray
    tiers: np.ndarray
    modes: list[str]
    sampled: np.ndarray
    known: np.ndarray
    right: np.ndarray
    reward: np.ndarray
    well_formed: np.ndarray
    tokens: np.ndarray
    truncated: np.ndarray
    forced: np.ndarray
    greedy: np.ndarray

    @classmethod
    def of(cls, responses: pa.Table) -> "Scores":
        """Problems in the order of their domain, tier and id, modes in the order of the table."""
        rows = responses.drop_columns(["question", "media", "answer", "response"]).to_pylist()
        problems = {row["id"]: (row["domain"], row["tier"] or "") for row in rows}
        ids = sorted(problems, key=lambda id: (problems[id][0], natural(problems[id][1]), natural(id)))
        modes = list(dict.fromkeys(row["mode"] for row in rows))
        place_P, place_M = {id: p for p, id in enumerate(ids)}, {mode: m for m, mode in enumerate(modes)}
        names = ("sampled", "known", "right", "reward", "well_formed", "tokens", "truncated", "forced")
        counts = {name: np.zeros((len(ids), len(modes))) for name in names}
        greedy = np.full((len(ids), len(modes)), np.nan)
        for row in rows:
            at, known = (place_P[row["id"]], place_M[row["mode"]]), row["correct"] is not None
            if row["sample"] == GREEDY:
                greedy[at] = float(row["correct"]) if known else np.nan
                continue
            found = {
                "sampled": 1,
                "known": known,
                "right": bool(row["correct"]),
                "reward": row["score"] or 0.0,
                "well_formed": row["status"] != "format_error",
                "tokens": row["tokens"],
                "truncated": row["finish_reason"] != "stop",
                "forced": row["forced"],
            }
            for name, value in found.items():
                counts[name][at] += value
        domains, tiers = (np.array([problems[id][part] for id in ids], dtype=np.str_) for part in (0, 1))
        return cls(ids, domains, tiers, modes, greedy=greedy, **counts)

    def columns(self, mode: str) -> np.ndarray:
        """Places along M of one mode, or of all for "both"."""
        return np.array([m for m, name in enumerate(self.modes) if mode in (name, BOTH)], np.int64)

    def pass_at(self, k: int, mode: str = BOTH) -> np.ndarray:
        """pass@k of each problem [P]: the mean over modes of the estimate in each; NaN where there is none."""
        columns = self.columns(mode)
        return _known_mean(pass_at_k(self.right[:, columns], self.known[:, columns], k))

    def selections(self) -> Iterator[tuple[str, str | None, np.ndarray]]:
        """(domain, tier, problems bool [P]): each domain as a whole (tier None), then each of its tiers."""
        for domain in dict.fromkeys(self.domains.tolist()):
            whole = self.domains == domain
            yield domain, None, whole
            for tier in dict.fromkeys(self.tiers[whole].tolist()):
                yield domain, tier, whole & (self.tiers == tier)


def _known_mean(values_PM: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values_PM)
    total = np.where(known, values_PM, 0.0).sum(1)
    return np.divide(total, known.sum(1), out=np.full(len(values_PM), np.nan), where=known.any(1))


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key under which "level-10" comes after "level-9"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def summarise(scores: Scores, pass_k: Sequence[int]) -> list[dict[str, Any]]:
    """One entry for each domain and each of its tiers, in each mode and (with two modes or more) in both together.

    `pass_k` holds 1. Rates carry intervals over problems. Abstained responses enter neither pass rates nor rewards.
    """
    modes = [*scores.modes, *([BOTH] if len(scores.modes) > 1 else [])]
    return [
        {"domain": domain, "tier": tier, "mode": mode, **_summary(scores, chosen, mode, pass_k)}
        for domain, tier, chosen in scores.selections()
        for mode in modes
    ]


def _summary(scores: Scores, chosen_P: np.ndarray, mode: str, pass_k: Sequence[int]) -> dict[str, Any]:
    part = np.ix_(chosen_P, scores.columns(mode))
    samples, known = float(scores.sampled[part].sum()), scores.known[part]
    reward_PM = np.divide(scores.reward[part], known, out=np.full(known.shape, np.nan), where=known > 0)
    return {
        "problems": int(chosen_P.sum()),
        "samples": int(samples),
        "abstained": int(samples - known.sum()),
        "pass_at": {str(k): as_json(mean_interval(scores.pass_at(k, mode)[chosen_P]).clipped()) for k in pass_k},
        "greedy": as_json(_greedy(scores.greedy[part])),
        "reward": as_json(mean_interval(_known_mean(reward_PM)).clipped()),
        "well_formed": float(scores.well_formed[part].sum()) / samples,
        "tokens": float(scores.tokens[part].sum()) / samples,
        "truncated": float(scores.truncated[part].sum()) / samples,
        "forced": float(scores.forced[part].sum()) / samples,
    }


def _greedy(outcomes_PM: np.ndarray) -> Estimate:
    """Greedy accuracy: one trial a problem, or, over several modes, the mean of a problem's trials, which are alike."""
    if outcomes_PM.shape[1] > 1:
        return mean_interval(_known_mean(outcomes_PM)).clipped()
    known = outcomes_PM[~np.isnan(outcomes_PM)]
    return wilson_interval(int(known.sum()), len(known))


def as_json(estimate: Estimate) -> dict[str, Any]:
    """The estimate as an object of JSON, null where undefined."""
    return {name: None if value != value else value for name, value in asdict(estimate).items()}


def percent(estimate: dict[str, Any], *, interval: bool = False) -> str:
    """An estimate of a summary in per cent, "62.1" or "62.1 ±4.1"; "-" where undefined."""
    if estimate["mean"] is None:
        return "-"
    text = f"{100 * estimate['mean']:.1f}"
    if not interval:
        return text
    if estimate["low"] is None:
        return f"{text} ±?"
    # Half the width; the longer side, as the other may have been cut at 0 or 1.
    return f"{text} ±{100 * max(estimate['mean'] - estimate['low'], estimate['high'] - estimate['mean']):.1f}"


def console_tables(groups: Sequence[dict[str, Any]]) -> Iterator[Table]:
    """A table of domain by mode, then a table of domain by level for each mode alone."""
    yield _table("by domain (per cent; pass@1 with 95% interval over problems)", [g for g in groups if g["tier"] is None])
    for mode in dict.fromkeys(group["mode"] for group in groups if group["mode"] != BOTH):
        found = [group for group in groups if group["tier"] and group["mode"] == mode]
        if found:
            yield _table(f"by level, {mode}", found)


def _table(title: str, groups: Sequence[dict[str, Any]]) -> Table:
    levels = any(group["tier"] for group in groups)
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=0)
    table.add_column("domain", no_wrap=True)
    table.add_column("level" if levels else "mode", no_wrap=True)
    ks = [k for k in groups[0]["pass_at"] if k != "1"]
    greedy = any(group["greedy"]["n"] for group in groups)
    names = ["n", "pass@1", *(f"pass@{k}" for k in ks), *(["greedy"] if greedy else []), "reward", "format", "tokens", "cut"]
    for name in [*names, "abst."]:
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for group in groups:
        if before not in (None, group["domain"]):
            table.add_section()
        table.add_row(
            group["domain"] if group["domain"] != before else "",
            group["tier"] if levels else group["mode"],
            str(group["problems"]),
            percent(group["pass_at"]["1"], interval=True),
            *(percent(group["pass_at"][k]) for k in ks),
            *([percent(group["greedy"])] if greedy else []),
            percent(group["reward"]),
            f"{100 * group['well_formed']:.1f}",
            f"{group['tokens']:.0f}",
            f"{100 * group['truncated']:.1f}",
            str(group["abstained"]),
        )
        before = group["domain"]
    return table
