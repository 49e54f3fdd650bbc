"""Losses of examples filed by domain and mode, and the means that are logged. Nothing is only pooled."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

MODES = ("thinking", "nothink")


@dataclass(frozen=True)
class Row:
    """One example. `loss`: summed negative log-probability of its target tokens in nats; `hits`: target tokens that are the
    model's first choice, given the true tokens before them.
    """

    domain: str
    mode: str
    loss: float
    tokens: int
    hits: int


class Tally:
    """Rows of many examples."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(self, domain: str, *, nothink: bool, loss: float, tokens: int, hits: int = 0) -> None:
        """Files one example; see `Row`."""
        self._rows.append(Row(domain, MODES[nothink], loss, tokens, hits))

    def __iadd__(self, other: "Tally") -> "Tally":
        self._rows += other._rows
        return self

    @property
    def tokens(self) -> int:
        """Target tokens of all."""
        return sum(row.tokens for row in self._rows)

    def losses(self) -> dict[str, float]:
        """`loss` in nats a target token: of all, of each domain, of each mode."""
        return {f"{name}loss": _loss(rows) for name, rows in self._groups(by_cell=False)}

    def measures(self) -> dict[str, float]:
        """`loss`, `token_accuracy` and `exact_match` (examples whose every target token is a hit): of all, of each domain, of
        each mode, and of each domain in each mode (`math/nothink/loss`).
        """
        found = {}
        for name, rows in self._groups(by_cell=True):
            found[f"{name}loss"] = _loss(rows)
            found[f"{name}token_accuracy"] = sum(row.hits for row in rows) / sum(row.tokens for row in rows)
            found[f"{name}exact_match"] = sum(row.hits == row.tokens for row in rows) / len(rows)
        return found

    def _groups(self, *, by_cell: bool) -> Iterable[tuple[str, list[Row]]]:
        groups: defaultdict[str, list[Row]] = defaultdict(list)
        for row in self._rows:
            for name in ("", f"{row.domain}/", f"{row.mode}/", *([f"{row.domain}/{row.mode}/"] if by_cell else [])):
                groups[name].append(row)
        return sorted(groups.items())


def _loss(rows: list[Row]) -> float:
    return sum(row.loss for row in rows) / sum(row.tokens for row in rows)
