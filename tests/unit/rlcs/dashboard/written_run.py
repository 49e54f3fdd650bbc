"""A small run directory in the files and columns of a real one, drawn from a seed."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from rlcs.rollout_log import _SCHEMA, parquet_bytes
from sft.rundir import RunDir

DOMAINS = ("gui", "math", "video")
GROUP = 4
BOX = "<|begin_of_box|>{}<|end_of_box|>"


@dataclass
class WrittenRun:
    """A run directory and all rows that were written to it."""

    path: Path
    problems: list[dict[str, Any]]
    rollouts: list[dict[str, Any]]
    snapshots: dict[int, dict[str, np.ndarray]]
    metrics: list[dict[str, float]]

    def step(self, step: int, seed: int | None = None) -> None:
        """Writes one more step as a run would: rollouts, beliefs, then its row of metrics."""
        rng = np.random.default_rng([7, step if seed is None else seed])
        rows = rollout_rows(self.problems, step, rng)
        run = RunDir(self.path, resume=True, loggers=())
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        run.atomic_write(f"rollouts/step={step:06d}.parquet", parquet_bytes(table))
        self.rollouts = [row for row in self.rollouts if row["step"] != step] + rows
        self.beliefs(step, rng)
        metrics = metrics_of(rows)
        run.log(step, metrics)
        self.metrics.append(metrics)

    def beliefs(self, step: int, rng: np.random.Generator) -> None:
        columns = belief_columns(self.problems, step, rng)
        self.snapshots[step] = columns
        content = parquet_bytes(pa.table({name: pa.array(column) for name, column in columns.items()}))
        RunDir(self.path, resume=True, loggers=()).atomic_write(f"difficulty/step={step:06d}.parquet", content)

    def reread(self) -> list[dict[str, Any]]:
        """All rollouts as the files hold them, by plain reading."""
        rows: list[dict[str, Any]] = []
        for file in sorted((self.path / "rollouts").glob("step=*.parquet")):
            rows += [row | {"row": place} for place, row in enumerate(pq.read_table(file).to_pylist())]
        return rows


def write_problems(folder: Path, each: int) -> list[dict[str, Any]]:
    """problems.jsonl with images and videos of two frames; one line in three has an offline grade."""
    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    lines = []
    for i in range(each):
        for domain in DOMAINS:
            line: dict[str, Any] = {"id": f"{domain}-{i:03d}", "domain": domain, "tier": f"level-{1 + i % 2}"}
            text: dict[str, Any] = {"type": "text", "text": f"{domain} question {i} <b>&amp;</b>"}
            if domain == "math":
                line |= {"messages": [{"role": "user", "content": text["text"]}], "answer": str(i), "tier": None}
            else:
                names = [f"images/{domain}-{i}-{frame}.png" for frame in range(2)]
                for name in names:
                    Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(folder / name)
                part = {"type": "image", "image": names[0]} if domain == "gui" else {"type": "video", "video": names, "fps": 2}
                line["messages"] = [{"role": "user", "content": [part, text]}]
                box = {"action_type": "click", "box_2d": [[100, 200, 300, 400]]}
                line["answer"] = json.dumps(box) if domain == "gui" else "3"
            if i % 3 == 0:
                line["pass_rate"] = round(float(rng.uniform()), 2)
            lines.append({key: value for key, value in line.items() if value is not None})
    (folder / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return lines


def rollout_rows(problems: list[dict[str, Any]], step: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Groups of six problems with outcomes of every kind."""
    rows = []
    for index in rng.choice(len(problems), 6, replace=False).tolist():
        problem = problems[index]
        draws = rng.uniform(size=GROUP)
        right = draws < rng.choice([0.0, 0.5, 1.0])
        fate = "all-right" if right.all() else "all-wrong" if not right.any() else str(rng.choice(["trained", "surplus"]))
        for g in range(GROUP):
            status = "ok" if draws[g] < 0.8 else str(rng.choice(["format_error", "abstained"]))
            known = status != "abstained"
            answer = (
                '{"action_type": "click", "coordinate": [200, 300]}' if problem["domain"] == "gui" else str(int(10 * draws[g]))
            )
            rows.append(
                {
                    "step": step,
                    "index": index,
                    "id": problem["id"],
                    "domain": problem["domain"],
                    "tier": problem.get("tier"),
                    "sample": g,
                    "thinking": bool(draws[0] < 0.5),
                    "question": f"{problem['domain']} question <b>&amp;</b>",
                    "answer": json.dumps(problem["answer"]),
                    "response": f"<think>so {step} {g}</think>\nIt is {BOX.format(answer)}.",
                    "reward": (float(right[g]) if draws[g] < 0.6 else round(float(draws[g]), 3)) if known else None,
                    "correct": bool(right[g]) if known else None,
                    "status": status,
                    "reason": None
                    if status == "ok" and right[g]
                    else str(rng.choice(["value-differs", "two-boxes", "<img src=x>"])),
                    "extracted": answer if status == "ok" else None,
                    "fate": fate,
                    "advantage": float(draws[g] - draws.mean()) if fate == "trained" else None,
                    "tokens": int(rng.integers(5, 60)),
                    "forced_tokens": int(rng.integers(0, 3)),
                    "finish_reason": str(rng.choice(["stop", "length"])),
                    "mean_logprob": -float(draws[g]),
                    "weight_version": step,
                }
            )
    return rows


def belief_columns(problems: list[dict[str, Any]], step: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    alpha = rng.uniform(0.2, 6.0, len(problems))
    beta = rng.uniform(0.2, 6.0, len(problems))
    return {
        "step": np.full(len(problems), step, np.int32),
        "index": np.arange(len(problems)),
        "id": np.array([one["id"] for one in problems], object),
        "domain": np.array([one["domain"] for one in problems], object),
        "tier": np.array([one.get("tier") for one in problems], object),
        "thinking": np.arange(len(problems)) % 2 == 0,
        "alpha": alpha,
        "beta": beta,
        "mean": alpha / (alpha + beta),
        "mixed_probability": rng.uniform(size=len(problems)),
        "seen_at": rng.integers(-1, step + 1, len(problems)).astype(np.int32),
        "state": rng.choice(["window", "outside", "deferred", "retired"], len(problems)).astype(object),
    }


def metrics_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The metrics of a step that the overview reads, by plain counting."""
    found: dict[str, float] = {
        "seconds/step": 2.0,
        "seconds/generate": 1.5,
        "tokens_per_s/generate": 100.0,
        "policy/loss": math.nan,
    }
    for label in ("", *sorted({row["domain"] for row in rows})):
        part = [row for row in rows if label in ("", row["domain"])]
        known = [row["correct"] for row in part if row["correct"] is not None]
        groups = {row["index"]: row["fate"] for row in part}
        prefix = f"{label}/" if label else ""
        found |= {
            f"{prefix}rollouts": len(part),
            f"{prefix}rollouts_wasted": sum(row["fate"] != "trained" for row in part),
            f"{prefix}tokens": sum(row["tokens"] for row in part),
            f"{prefix}tokens_wasted": sum(row["tokens"] for row in part if row["fate"] != "trained"),
            f"{prefix}groups_generated": len(groups),
            f"{prefix}groups_trained": sum(fate == "trained" for fate in groups.values()),
            f"{prefix}mixed_fraction": sum(fate in ("trained", "surplus") for fate in groups.values()) / len(groups),
        }
        if known:
            found[f"{prefix}pass_rate"] = sum(known) / len(known)
        for fate in set(groups.values()):
            found[f"{prefix}groups/{fate}"] = list(groups.values()).count(fate)
    return found


def write_run(folder: Path, *, steps: int = 6, each: int = 8) -> WrittenRun:
    """A run of `steps` steps under `folder`/runs/rl over 3 x `each` problems; beliefs of every step."""
    problems = write_problems(folder / "data", each)
    path = folder / "runs" / "rl"
    config = {
        "engine": "local",
        "model": "some/model",
        "problems": "data/problems.jsonl",
        "out": "runs/rl",
        "seed": 0,
        "steps": steps,
        "group_size": GROUP,
        "sampler": "rlcs",
        "advantage": "grpo",
        "nothink_ratio": 0.0,
        "curriculum": {"window": [0.2, 0.8], "retire_above": 0.9, "defer_below": 0.1},
    }
    RunDir(path, loggers=()).atomic_write("config.yaml", yaml.safe_dump(config))
    run = WrittenRun(path, problems, [], {}, [])
    for step in range(steps):
        run.step(step)
    return run
