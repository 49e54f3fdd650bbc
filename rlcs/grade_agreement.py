"""How far graders of the same problems agree, two by two, and how human labels fit. Axis suffixes: N problems, M graders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from rlcs.grades import Tiers, interval


@dataclass(frozen=True)
class Agreement:
    """Two graders on the problems of a domain that both have a pass rate of; `first` and `second` are their places.

    rates: mean pass rates of the two. difference: mean of their absolute difference. correlation: Spearman's, of the order in
    which they put the problems; None where one of them rates all alike. same_tier: share of the problems. apart: number of
    problems whose 95% intervals do not touch.
    """

    domain: str
    first: int
    second: int
    problems: int
    rates: tuple[float, float]
    difference: float
    correlation: float | None
    same_tier: float
    apart: int


@dataclass(frozen=True)
class LabelFit:
    """The problems of a domain with one human label: how many, their mean pass rate (None if it is known of none), the
    number of answers the label counts as, and how many problems are at odds with it: the rate of the others lies outside the
    problem's own 95% interval.
    """

    domain: str
    label: str
    problems: int
    rate: float | None
    weight: float
    at_odds: int


def agreements(right_NM: np.ndarray, k_NM: np.ndarray, domains: Sequence[str], tiers: Tiers) -> Iterator[Agreement]:
    """For each domain each pair of graders that share a problem; `right_NM` of `k_NM` answers were right."""
    domain_N = np.array(domains)
    for domain in sorted(set(domains)):
        for pair in combinations(range(k_NM.shape[1]), 2):
            both = (domain_N == domain) & (k_NM[:, pair] > 0).all(1)
            if both.any():
                yield _agreement(right_NM[both][:, pair], k_NM[both][:, pair], domain, pair, tiers)


def _agreement(right_N2: np.ndarray, k_N2: np.ndarray, domain: str, pair: tuple[int, int], tiers: Tiers) -> Agreement:
    rate_N2 = right_N2 / k_N2
    rank_2N = rankdata(rate_N2.T, axis=1)
    ordered = bool((np.ptp(rank_2N, axis=1) > 0).all())
    same = [tiers.of_rate(one) == tiers.of_rate(other) for one, other in rate_N2.tolist()]
    bounds_N22 = np.array(
        [[interval(right, k) for right, k in zip(*rows, strict=True)] for rows in zip(right_N2, k_N2, strict=True)]
    )
    low_N2, high_N2 = bounds_N22[..., 0], bounds_N22[..., 1]
    return Agreement(
        domain,
        *pair,
        problems=len(rate_N2),
        rates=(float(rate_N2[:, 0].mean()), float(rate_N2[:, 1].mean())),
        difference=float(np.abs(rate_N2[:, 0] - rate_N2[:, 1]).mean()),
        correlation=float(np.corrcoef(rank_2N)[0, 1]) if ordered else None,
        same_tier=float(np.mean(same)),
        apart=int((low_N2.max(1) > high_N2.min(1)).sum()),
    )


def label_fits(
    rate_N: np.ndarray,
    answers_N: np.ndarray,
    others_N: np.ndarray,
    weight_N: np.ndarray,
    members: Mapping[tuple[str, str], np.ndarray],
) -> Iterator[LabelFit]:
    """For each (domain, label) and the places of its problems: `rate_N` of `answers_N` answers, `others_N` the rate of the
    label's other problems, which counts as `weight_N` answers.
    """
    for (domain, label), places in members.items():
        known = places[answers_N[places] > 0]
        at_odds = 0
        for n in known[~np.isnan(others_N[known])]:
            low, high = interval(rate_N[n] * answers_N[n], answers_N[n]) or (0.0, 1.0)
            at_odds += not low <= others_N[n] <= high
        rate = float(rate_N[known].mean()) if len(known) else None
        yield LabelFit(domain, label, len(places), rate, float(weight_N[places[0]]), at_odds)
