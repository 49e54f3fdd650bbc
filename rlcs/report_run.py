"""What a run directory says of its run: the figures of a report's section "The run"."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml


@dataclass(frozen=True)
class RunRecord:
    """A run's configuration, its metrics a step, and (RL) its beliefs: posterior means [N] by domain and step."""

    path: Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    beliefs: dict[str, dict[int, np.ndarray]]

    @classmethod
    def read(cls, path: Path, *, command: str, beliefs: bool = False) -> "RunRecord":
        """Raises FileNotFoundError naming the file and the `command` that makes it, ValueError for a broken metrics line."""
        for name in ("config.yaml", "metrics.jsonl"):
            if not (path / name).is_file():
                raise FileNotFoundError(f"{path / name} is missing; make it with: {command} out={path}")
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        metrics = []
        for number, line in enumerate((path / "metrics.jsonl").read_text(encoding="utf-8").splitlines(), start=1):
            try:
                metrics.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path / 'metrics.jsonl'}:{number}: not a line of JSON ({error}); was the run cut off? Go on with: "
                    f"{command} out={path} --resume"
                ) from error
        if not metrics:
            raise ValueError(f"{path / 'metrics.jsonl'} holds no step; go on with: {command} out={path} --resume")
        return cls(path, config, metrics, _beliefs(path, command) if beliefs else {})

    @property
    def domains(self) -> list[str]:
        return sorted(self.beliefs)

    @property
    def window(self) -> tuple[float, float] | None:
        """Posterior means the sampler draws from; None for one that draws from all."""
        if self.config.get("sampler") != "rlcs":
            return None
        low, high = self.config["curriculum"]["window"]
        return float(low), float(high)

    def total(self, name: str) -> float:
        """Sum over steps of a metric; steps without it count 0."""
        return float(sum(row.get(name) or 0.0 for row in self.metrics))

    def mean(self, name: str, *, weight: str) -> float:
        """Mean over steps of a metric, each step weighted by another; NaN when no step has it."""
        pairs = [(row[name], row[weight]) for row in self.metrics if row.get(name) is not None and row.get(weight)]
        total = sum(weight for _, weight in pairs)
        return sum(value * weight for value, weight in pairs) / total if total else float("nan")


def _beliefs(path: Path, command: str) -> dict[str, dict[int, np.ndarray]]:
    files = sorted((path / "difficulty").glob("step=*.parquet"))
    if not files:
        raise FileNotFoundError(f"{path / 'difficulty'} holds no step=*.parquet; make it with: {command} out={path}")
    found: dict[str, dict[int, np.ndarray]] = {}
    for file in files:
        table = pq.read_table(file, columns=["domain", "mean"])
        domain_N, mean_N = table["domain"].to_numpy(zero_copy_only=False), table["mean"].to_numpy()
        for domain in np.unique(domain_N.astype(str)):
            found.setdefault(str(domain), {})[int(file.stem.removeprefix("step="))] = mean_N[domain_N == domain]
    return found


def run_section(run: RunRecord, sft: RunRecord | None, evaluations: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Markdown lines: what the run was, what it cost, its curves and how difficulty moved."""
    groups, size = run.total("groups_generated"), run.config["group_size"]
    tokens = run.mean("response_length", weight="groups_generated") * groups * size
    seconds = run.total("seconds/step")
    mixed = ", ".join(f"{domain} {_percent(run, f'{domain}/')}" for domain in run.domains)
    rows = [
        ("sampler", f"{run.config['sampler']}, seed {run.config['seed']}"),
        ("steps", f"{len(run.metrics):,}"),
        ("rollouts", f"{groups * size:,.0f} in {groups:,.0f} groups of {size}"),
        ("mixed groups, of all generated", f"{_percent(run, '')} ({mixed})"),
        ("groups trained on", f"{run.total('groups_trained'):,.0f}"),
        ("tokens generated", f"{tokens:,.0f}"),
        ("tokens trained on", f"{run.total('policy/packed_tokens'):,.0f}"),
        ("seconds", f"{seconds:,.0f}: {_parts(run, seconds)}"),
        ("peak memory", f"{max(row.get('peak_memory_mb') or 0.0 for row in run.metrics):,.0f} MB"),
    ]
    rows += [(f"evaluation {name}, seconds", f"{found['seconds']['total']:,.0f}") for name, found in evaluations.items()]
    if sft:
        rows.append(("SFT before it", _sft(sft)))
    yield "## The run\n"
    yield "| | |\n|---|---|"
    yield from (f"| {name} | {value} |" for name, value in rows)
    yield "\n![Curves of the RL run by domain](training.png)\n"
    yield (
        "These are the problems the sampler drew. A curriculum keeps them moderately hard, so that the pass rate here may "
        "stay flat while that on held-out problems rises.\n"
    )
    yield "![Posterior mean pass rates of the training problems over steps](difficulty.png)\n"


def _percent(run: RunRecord, prefix: str) -> str:
    return f"{100 * run.mean(f'{prefix}mixed_fraction', weight=f'{prefix}groups_generated'):.1f}%"


def _parts(run: RunRecord, seconds: float) -> str:
    """Seconds of each part of a step, largest first, with its share."""
    names = {name for row in run.metrics for name in row if name.startswith("seconds/") and not name.endswith("_idle")}
    names.discard("seconds/step")
    spent = sorted(((run.total(name), name.removeprefix("seconds/")) for name in names), reverse=True)
    return ", ".join(f"{name} {value:,.0f} ({100 * value / max(seconds, 1e-9):.0f}%)" for value, name in spent)


def _sft(sft: RunRecord) -> str:
    held_out = [row["eval/loss"] for row in sft.metrics if row.get("eval/loss") is not None]
    loss = f", held-out loss {held_out[-1]:.3f} nats a token" if held_out else ""
    return (
        f"{len(sft.metrics):,} steps, {sft.total('packed_tokens'):,.0f} tokens, {sft.total('seconds/step'):,.0f} seconds{loss}"
    )
