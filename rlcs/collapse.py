"""Has a domain's reward collapsed? A test of whether training pays more, or for more wrong answers, while an audit falls.

A domain's audit problems are answered at look 0, before training, and at looks 1, 2, ... as it goes on. At each look its last
stretch of looks is compared with every earlier stretch of the same length that it does not overlap, problem by problem: d_n is
by how much the audit's pass rate of problem n fell, or by how much on the same responses the reward rose, or the share that
training counts as right and the audit as wrong: answers passed wrongly.

* One comparison. Where a problem's chances are the same in both stretches, d_n is as likely as -d_n, so given their sizes the
  sum of the d_n is a sum of random signs, and P(sum >= x sqrt(sum d_n^2)) <= c P(N(0, 1) >= x) with c = 3.178 (Bentkus and
  Dzindzalieta 2015, arXiv 1307.3451): for any number of problems, samples and partial credits, no normality assumed. Where
  problems change but not on the whole, the sum of squares only grows, and the bound holds for many problems.
* Fall and rise. A collapse is a fall of the audit with, in the same comparison, a rise of the reward or of what is passed
  wrongly. (The reward need not rise while right answers give way to paid wrong ones.) Its p-value is the larger of the fall's
  and the rise's (an intersection-union test, Berger 1982), the rise's being twice the smaller of its two; it is valid if there
  was no fall or no rise.
* Many comparisons at a look: each gets an equal part of the look's level (Bonferroni).
* Many looks: look t = 1, 2, ... may spend the part 10 / ((t + 9) (t + 10)) of the level (as in Lan and DeMets 1983); the parts
  of all looks that will ever be sum to 1. So the level bounds the chance that a domain is accused falsely at any time in a run.

Axis suffixes: L looks, N problems, K comparisons.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from rlcs.estimates import Estimate, paired_change

WIDTHS = (1, 2, 4)
"""Looks in a stretch: short ones see a sudden fall at once, long ones a slow one through the noise."""
_RADEMACHER = 1.0 / (4.0 * float(ndtr(-np.sqrt(2.0))))
_FLAT = 10.0  # looks over which the level is spent about evenly


@dataclass(frozen=True)
class Change:
    """The clearest of a look's comparisons. Stretches are looks [first, last]; p-values are corrected for the look's
    comparisons, to be held against `level`.
    """

    before: tuple[int, int]
    now: tuple[int, int]
    audit_before: float
    audit_now: float
    reward_before: float
    reward_now: float
    wrong_before: float
    wrong_now: float
    audit_change: Estimate
    """With its 95% interval over problems, not corrected for being the clearest of several."""
    p: float
    level: float

    @property
    def significant(self) -> bool:
        return self.p <= self.level


def share_of_level(look: int) -> float:
    """Part of the whole level that look 1, 2, ... may spend."""
    return _FLAT / ((look + _FLAT - 1.0) * (look + _FLAT))


def sign_tail(x: np.ndarray) -> np.ndarray:
    """Bound on P(a_1 e_1 + ... + a_N e_N >= x) for random signs e and any weights whose squares sum to 1; 1 up to x = 0."""
    bound: np.ndarray = np.where(x > 0, np.minimum(0.5, _RADEMACHER * ndtr(-x)), 1.0)
    return bound


@dataclass(frozen=True, eq=False)
class Comparisons:
    """The last look's stretches against earlier ones. `fall` and `rise` are p-values [..., K] of the audit's fall and of a rise
    of reward or wrong passes, each before correction for K; comparison k is of the last `width` looks with as many from look
    `start` on.
    """

    fall: np.ndarray
    rise: np.ndarray
    width_K: np.ndarray
    start_K: np.ndarray

    @property
    def collapse(self) -> np.ndarray:
        """Smallest p-value of fall and rise both, corrected for the number of comparisons [...]."""
        return self._corrected(np.maximum(self.fall, self.rise))

    @property
    def decline(self) -> np.ndarray:
        """The same of the fall alone."""
        return self._corrected(self.fall)

    def _corrected(self, p: np.ndarray) -> np.ndarray:
        smallest: np.ndarray = np.minimum(1.0, p.min(-1) * p.shape[-1])
        return smallest


def compare(audit: np.ndarray, reward: np.ndarray, wrong: np.ndarray, *, least_fall: float = 0.0) -> Comparisons | None:
    """All comparisons of the last of L looks with those before it; None when there is none before.

    `audit` (pass rate), `reward` and `wrong` (share passed wrongly) [..., L, N] in [0, 1], NaN for a problem that nothing is
    known of; leading axes are whole runs. Falls of the audit smaller than `least_fall` are no evidence.
    """
    looks = audit.shape[-2]
    widths = [width for width in WIDTHS if looks >= 2 * width]
    if not widths:
        return None
    falls = [-_since(audit, width) for width in widths]
    fall = np.concatenate(
        [np.where(_mean(change) >= least_fall, sign_tail(_self_normalised(change)), 1.0) for change in falls], axis=-1
    )
    more, worse = (
        np.concatenate([sign_tail(_self_normalised(_since(values, width))) for width in widths], axis=-1)
        for values in (reward, wrong)
    )
    rise = np.minimum(1.0, 2.0 * np.minimum(more, worse))
    starts = [np.arange(looks - 2 * width + 1) for width in widths]
    width_K = np.repeat(widths, [len(start) for start in starts])
    return Comparisons(fall, rise, width_K, np.concatenate(starts))


def examine(
    audit_LN: np.ndarray, reward_LN: np.ndarray, wrong_LN: np.ndarray, level: float, *, least_fall: float = 0.0
) -> tuple[Change, Change] | None:
    """What the last of L looks says -> (clearest collapse, clearest fall of the audit whatever the reward did), to be held
    against the look's part of `level`; None at the first look. Values as in `compare`.
    """
    found = compare(audit_LN, reward_LN, wrong_LN, least_fall=least_fall)
    if found is None:
        return None
    look = len(audit_LN) - 1
    changes = []
    for p_K, corrected in ((np.maximum(found.fall, found.rise), found.collapse), (found.fall, found.decline)):
        best = int(p_K.argmin())
        width, start = int(found.width_K[best]), int(found.start_K[best])
        before, now = slice(start, start + width), slice(look + 1 - width, look + 1)
        audit, reward, wrong = (
            (_mean(values_LN[before].T), _mean(values_LN[now].T)) for values_LN in (audit_LN, reward_LN, wrong_LN)
        )
        changes.append(
            Change(
                before=(start, start + width - 1),
                now=(look + 1 - width, look),
                audit_before=float(_mean(audit[0])),
                audit_now=float(_mean(audit[1])),
                reward_before=float(_mean(reward[0])),
                reward_now=float(_mean(reward[1])),
                wrong_before=float(_mean(wrong[0])),
                wrong_now=float(_mean(wrong[1])),
                audit_change=paired_change(*audit),
                p=float(corrected),
                level=level * share_of_level(look),
            )
        )
    return changes[0], changes[1]


def _since(values: np.ndarray, width: int) -> np.ndarray:
    """By how much each problem's mean over the last `width` looks exceeds that over each earlier stretch [..., K, N]."""
    known = ~np.isnan(values)
    count, total = (_moving_sum(array, width) for array in (known, np.where(known, values, 0.0)))
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    since: np.ndarray = means[..., -1:, :] - means[..., : means.shape[-2] - width, :]
    return since


def _moving_sum(values: np.ndarray, width: int) -> np.ndarray:
    summed = np.cumsum(values, axis=-2, dtype=np.float64)
    moving = summed[..., width - 1 :, :].copy()
    moving[..., 1:, :] -= summed[..., :-width, :]
    return np.round(moving, 9)  # equal stretches must differ by exactly 0


def _self_normalised(changes: np.ndarray) -> np.ndarray:
    """sum d / sqrt(sum d^2) over problems, 0 where nothing changed."""
    scale = np.sqrt(np.nansum(changes**2, axis=-1))
    x: np.ndarray = np.divide(np.nansum(changes, axis=-1), scale, out=np.zeros_like(scale), where=scale > 0)
    return x


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of the known values over the last axis; NaN where there is none."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0.0).sum(-1)
    mean: np.ndarray = np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
    return mean
