"""Every sampler on a synthetic learner: what each costs to reach the same held-out pass rate.

    python benchmarks/curriculum/simulate.py [--seeds 10] [--settings tails tails+graded ...] [--ablations tails ...]

The learner is described in synthetic_learner.py, the regimes in regimes.py; a setting "REGIME+graded" gives the samplers
offline pass rates of eight answers, whose rollouts are not counted. The target of a setting is what uniform sampling
reaches with half of the budget. Prints a table a setting and the ablations of rlcs, and writes
benchmarks/results/curriculum_simulation.json and .png. About ten minutes on one core.
"""

import argparse
import json
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contestants import ABLATIONS, CONTESTANTS, Contestant, curriculum_defaults
from regimes import REGIMES
from simulated_run import Setting, Trace, simulate
from simulation_summary import plot, summarise, table

RESULTS = Path(__file__).resolve().parent.parent / "results" / "curriculum_simulation.json"
_GRADED = "+graded"
SETTINGS = (*REGIMES, "tails+graded", "moderate+graded", "bimodal+graded")
ABLATED = ("tails", "unmemorised", "adam", "tails+graded")


def run_all(
    contestants: Mapping[str, Contestant], setting: str, seeds: int, known: Mapping[str, list[Trace]] | None = None
) -> dict[str, list[Trace]]:
    """Traces of each contestant in `setting`, one a seed.

    `known`: traces of the same regime with other offline pass rates, which samplers that do not read these share.
    """
    regime, size = REGIMES[setting.removesuffix(_GRADED)], Setting(graded=setting.endswith(_GRADED))
    found = {}
    for name, one in contestants.items():
        if known and not one.reads_rates:
            found[name] = known[name]
        else:
            found[name] = [simulate(one, regime, seed, size) for seed in range(seeds)]
    return found


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--ablations", nargs="*", choices=SETTINGS, help="which of these to vary rlcs in")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    ablated = [name for name in ABLATED if name in options.settings] if options.ablations is None else options.ablations
    if missing := sorted(set(ablated) - set(options.settings)):
        parser.error(f"--ablations {' '.join(missing)}: not among --settings; add them there")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    runs: dict[str, dict[str, list[Trace]]] = {}
    report: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/curriculum/simulate.py", *arguments]),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "scipy")}},
        "seeds": options.seeds,
        "size": {key: value for key, value in asdict(Setting()).items() if key != "graded"},
        "rlcs": curriculum_defaults(),
        "regimes": {name: asdict(regime) for name, regime in REGIMES.items()},
        "settings": {},
        "ablations": {},
    }

    def add(part: str, setting: str, summary: dict[str, Any]) -> None:
        report[part][setting] = summary
        report["seconds"] = round(time.perf_counter() - begun)
        # Numbers of a list on one line: intervals are read, not counted.
        text = re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", json.dumps(report, indent=1))
        options.results.write_text(text + "\n", encoding="utf-8")
        about = "parts of rlcs changed" if part == "ablations" else REGIMES[setting.removesuffix(_GRADED)].about
        print(f"\n**{setting}**: {about}; target {summary['target']:.3f} from {summary['start']:.3f}\n")
        print(table(summary, options.seeds), flush=True)

    for setting in options.settings:
        mine = run_all(CONTESTANTS, setting, options.seeds, runs.get(setting.removesuffix(_GRADED)))
        runs[setting] = mine
        add("settings", setting, summarise(mine, {name: mine[name] for name in ("uniform", "dapo")}))
    plot(runs, options.results.with_suffix(".png"))
    for setting in ablated:
        mine = runs[setting]
        changed = {"rlcs": mine["rlcs"], **run_all(ABLATIONS, setting, options.seeds)}
        add("ablations", setting, summarise(changed, {name: mine[name] for name in ("uniform", "dapo", "rlcs")}))


if __name__ == "__main__":
    main(sys.argv[1:])
