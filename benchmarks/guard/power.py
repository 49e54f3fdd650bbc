"""False alarms and power of the collapse test, by simulation: the tables of docs/guard.md.

    python benchmarks/guard/power.py [--runs 2000]

Problems are answered twice a look. Unchanged domains: chances of a right answer anywhere in 0..1, 40 looks at a level of 0.1,
wide enough to count alarms. Collapses: chances in 0.35..0.65, level 0.01; ten looks of slow learning, then a fall within two
looks while the reward rises by as much; the share of runs accused within eight looks of its beginning, and the median number of
looks it takes.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from rlcs.collapse import compare, share_of_level

RESULTS = Path(__file__).resolve().parent.parent / "results" / "guard_power.json"
BATCH = 100


def first_alarm(audit_RLN: np.ndarray, reward_RLN: np.ndarray, level: float, *, kind: str = "collapse") -> np.ndarray:
    """Look of the first alarm of each run [R], 0 for none."""
    first_R = np.zeros(len(audit_RLN), np.int64)
    for look in range(1, audit_RLN.shape[1]):
        found = compare(*(values[:, : look + 1] for values in (audit_RLN, reward_RLN, reward_RLN)))
        assert found is not None
        first_R[(first_R == 0) & (getattr(found, kind) <= level * share_of_level(look))] = look
    return first_R


def false_alarms(problems: int, runs: int, rng: np.random.Generator) -> float:
    """Share of unchanged runs that are ever said to decline, which every accusation of a collapse would be part of."""
    alarms = 0
    for _ in range(0, runs, BATCH):
        audit_RLN = rng.binomial(2, rng.beta(1, 1, (BATCH, 1, problems)), (BATCH, 41, problems)) / 2
        alarms += int((first_alarm(audit_RLN, audit_RLN, 0.1, kind="decline") > 0).sum())
    return alarms / runs


def power(problems: int, fall: float, runs: int, rng: np.random.Generator) -> tuple[float, float | None]:
    """(share of collapses found within eight looks, median looks to the alarm of those)."""
    learning_L, change_L = np.linspace(-0.05, 0, 11), fall * np.array([0.5, 1, 1, 1, 1, 1, 1, 1])
    found: list[int] = []
    for _ in range(0, runs, BATCH):
        rate_R1N = 0.35 + 0.3 * rng.beta(1, 1, (BATCH, 1, problems))
        audit_RLN, reward_RLN = (
            rng.binomial(2, rate_R1N + np.concatenate([learning_L, sign * change_L])[:, None]) / 2 for sign in (-1, 1)
        )
        first_R = first_alarm(audit_RLN, reward_RLN, 0.01)
        found += (first_R[first_R > 10] - 10).tolist()
    return len(found) / runs, float(np.median(found)) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    runs, rng = parser.parse_args().runs, np.random.default_rng(0)
    report = {
        "runs": runs,
        "false_alarms_at_level_0.1": {problems: false_alarms(problems, runs, rng) for problems in (20, 100)},
        "power_at_level_0.01": {
            problems: {fall: power(problems, fall, runs // 10, rng) for fall in (0.05, 0.1, 0.15, 0.2, 0.3)}
            for problems in (50, 100, 300)
        },
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
