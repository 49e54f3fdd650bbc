"""Do the predictions hold? What the posteriors said of each group before it was generated, against what came.

Axis suffixes: P groups of one observation, G samples of a group, D domains, B bins of predicted probability.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rlcs.beta_binomial import mixed_group_probability

BINS = 10
_QUANTITIES = ("pass_rate", "mixed")


class Calibration:
    """Brier scores of the last observation, and reliability bins over the whole run, per domain.

    Two predictions are checked: the pass rate of a problem and the probability that its group is mixed. Only complete
    groups are (of two samples or more, none abstained), the latter prediction being of such.
    """

    def __init__(self, domains: Sequence[str]) -> None:
        self._domains = list(domains)
        # For each quantity, domain and bin: groups, sum of predictions, sum of what was observed.
        self._bins_2DB3 = np.zeros((len(_QUANTITIES), len(domains), BINS, 3))
        self._last: dict[str, float] = {}

    def observe(self, domain_P: np.ndarray, alpha_P: np.ndarray, beta_P: np.ndarray, outcomes_PG: np.ndarray) -> None:
        """Compares the beliefs Beta(alpha, beta) held of P groups with their raw outcomes [P, G], NaN for abstained."""
        full = ~np.isnan(outcomes_PG).any(1) & (outcomes_PG.shape[1] > 1)
        self._last = {}
        if not full.any():
            return
        domain, outcomes = domain_P[full], outcomes_PG[full]
        rate = alpha_P[full] / (alpha_P[full] + beta_P[full])
        mixed = mixed_group_probability(alpha_P[full], beta_P[full], outcomes.shape[1])
        was_mixed = (np.ptp(outcomes, axis=1) > 0).astype(np.float64)
        # Over single answers: the mean of (predicted - outcome)^2.
        rate_error, mixed_error = ((rate[:, None] - outcomes) ** 2).mean(1), (mixed - was_mixed) ** 2
        for quantity, predicted, observed in ((0, rate, outcomes.mean(1)), (1, mixed, was_mixed)):
            bins = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
            np.add.at(
                self._bins_2DB3[quantity], (domain, bins), np.stack([np.ones_like(predicted), predicted, observed], axis=1)
            )
        for prefix, chosen in [("", np.ones(len(domain), bool))] + [
            (f"{name}/", domain == d) for d, name in enumerate(self._domains)
        ]:
            if chosen.any():
                self._last |= {
                    f"{prefix}pass_rate_predicted": float(rate[chosen].mean()),
                    f"{prefix}pass_rate_observed": float(outcomes[chosen].mean()),
                    f"{prefix}pass_rate_brier": float(rate_error[chosen].mean()),
                    f"{prefix}mixed_predicted": float(mixed[chosen].mean()),
                    f"{prefix}mixed_observed": float(was_mixed[chosen].mean()),
                    f"{prefix}mixed_brier": float(mixed_error[chosen].mean()),
                }

    def metrics(self) -> dict[str, float]:
        """Of the last observation, pooled and per domain ("math/mixed_brier")."""
        return dict(self._last)

    def reliability(self) -> pa.Table:
        """One row for each quantity, domain and bin with groups in it: their number since the start of the run, the mean
        prediction and the mean of what was observed.
        """
        rows = []
        for quantity, bins_DB3 in zip(_QUANTITIES, self._bins_2DB3, strict=True):
            for name, bins_B3 in zip(self._domains, bins_DB3, strict=True):
                for b, (count, predicted, observed) in enumerate(bins_B3.tolist()):
                    if count:
                        row = {
                            "quantity": quantity,
                            "domain": name,
                            "from": b / BINS,
                            "to": (b + 1) / BINS,
                            "groups": int(count),
                        }
                        rows.append(row | {"predicted": predicted / count, "observed": observed / count})
        return pa.Table.from_pylist(rows, schema=_SCHEMA)

    def state_dict(self) -> dict[str, Any]:
        return {"bins": self._bins_2DB3.copy(), "last": dict(self._last)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._bins_2DB3, self._last = np.array(state["bins"]), dict(state["last"])


_SCHEMA = pa.schema(
    [
        ("quantity", pa.string()),
        ("domain", pa.string()),
        ("from", pa.float64()),
        ("to", pa.float64()),
        ("groups", pa.int64()),
        ("predicted", pa.float64()),
        ("observed", pa.float64()),
    ]
)
