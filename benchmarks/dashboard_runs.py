"""A made-up run of any size in the files of `rlcs rl`, for benchmarks/dashboard.py.

    python benchmarks/dashboard_runs.py OUT [--problems 1000000] [--rollouts 10000000] [--snapshots 20] [--seed 0]

Problems lie in five domains and ten tiers; each has a true pass rate that rises as the run goes on. A step draws groups of 8
among them, and rewards, fates and texts follow. Metrics are what those rollouts come to; the beliefs of a snapshot are Beta
posteriors about the true rates. Written column by column: texts are taken from a few thousand and told apart by a number.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from rlcs.rollout_log import parquet_bytes

GROUP, MOST_A_STEP, TEXTS = 8, 4096, 2000
DOMAINS, SHARES = ("math", "ocr", "gui", "chart", "video"), (0.4, 0.25, 0.15, 0.12, 0.08)
TIERS = [f"level-{level}" for level in range(1, 11)]
STATES = ("window", "outside", "retired", "deferred", "due", "resting")
REASONS = ("different-value", "two-boxes", "no-box", "text-differs")


class MadeRun:
    """Axis suffixes: N problems, P groups of a step, B their rollouts, T their tokens."""

    def __init__(self, out: Path, problems: int, rollouts: int, seed: int) -> None:
        self.out, self.rng = out, np.random.default_rng(seed)
        self.per_step = min(MOST_A_STEP, max(256, rollouts // 100)) // GROUP * GROUP
        self.steps = max(1, rollouts // self.per_step)
        self.domain_N = np.sort(self.rng.choice(len(DOMAINS), problems, p=SHARES)).astype(np.int8)
        self.tier_N = self.rng.integers(0, len(TIERS), problems).astype(np.int8)
        self.start_N = (2.0 - 0.5 * self.tier_N + self.rng.normal(0, 1.2, problems)).astype(np.float32)  # logit at first
        self.seen_N = np.full(problems, -1, np.int32)
        self.id_N = pa.array([f"train-{DOMAINS[domain]}-{place:07d}" for place, domain in enumerate(self.domain_N)])
        words = np.array(["so", "the", "sum", "is", "seven", "carry", "one", "box", "left", "then", "count", "again", "red"])
        self.questions = pa.array([" ".join(self.rng.choice(words, 12)) for _ in range(TEXTS)])
        self.responses = pa.array([f"<think>{' '.join(self.rng.choice(words, 30))}</think>\n" for _ in range(TEXTS)])
        for folder in ("rollouts", "difficulty", "calibration"):
            (out / folder).mkdir(parents=True)

    def rate(self, step: int) -> np.ndarray:
        """True pass rates float32 [N] under the policy of a step."""
        return 1 / (1 + np.exp(-(self.start_N + 1.5 * step / self.steps)))

    def write(self, snapshots: int) -> None:
        self._problem_file()
        settings = {"engine": "local", "model": "made-up", "problems": str(self.out / "problems.jsonl"), "out": str(self.out)}
        settings |= {"steps": self.steps, "group_size": GROUP, "sampler": "rlcs", "advantage": "grpo", "seed": 0}
        curriculum = {"window": [0.2, 0.8], "retire_above": 0.9, "defer_below": 0.1}
        (self.out / "config.yaml").write_text(yaml.safe_dump(settings | {"curriculum": curriculum}), encoding="utf-8")
        looks = set(np.linspace(0, self.steps - 1, min(snapshots, self.steps)).astype(int).tolist())
        with (self.out / "metrics.jsonl").open("w", encoding="utf-8") as metrics:
            for step in range(self.steps):
                metrics.write(json.dumps(self._step(step)) + "\n")
                if step in looks:
                    self._beliefs(step)

    def _problem_file(self) -> None:
        with (self.out / "problems.jsonl").open("w", encoding="utf-8") as file:
            for place, (name, domain, tier) in enumerate(zip(self.id_N.to_pylist(), self.domain_N, self.tier_N, strict=True)):
                file.write(
                    f'{{"id": "{name}", "domain": "{DOMAINS[domain]}", "messages": [{{"role": "user", "content": "How many is '
                    f'{place}?"}}], "answer": "{place}", "tier": "{TIERS[tier]}", "pass_rate": {place % 9 / 8}}}\n'
                )

    def _step(self, step: int) -> dict[str, Any]:
        """Writes the rollouts of a step -> its metrics."""
        rng, groups = self.rng, self.per_step // GROUP
        index_P = rng.integers(0, len(self.domain_N), groups)
        self.seen_N[index_P] = step
        index_B = np.repeat(index_P, GROUP)
        correct_B = rng.random(len(index_B)) < np.repeat(self.rate(step)[index_P], GROUP)
        right_P = correct_B.reshape(-1, GROUP).sum(1)
        fate_P = np.where(right_P == 0, 1, np.where(right_P == GROUP, 2, 0))
        broken_B = ~correct_B & (rng.random(len(index_B)) < 0.1)
        reward_B = np.where(correct_B, 1.0, np.where(broken_B, 0.0, rng.choice([0.0, 0.25, 0.5], len(index_B))))
        tokens_B = rng.integers(16, 48, len(index_B)).astype(np.int32)
        starts_B = np.r_[0, np.cumsum(tokens_B)].astype(np.int32)
        logprobs_T = -(rng.random(starts_B[-1], np.float32) ** 4)
        reason_B = pa.array(rng.integers(0, len(REASONS), len(index_B)), mask=correct_B)
        answer_B = pa.array(rng.integers(0, 100_000, len(index_B))).cast(pa.string())
        box_B = pc.binary_join_element_wise("<|begin_of_box|>", answer_B, "<|end_of_box|>", "")
        text_B = pa.array(rng.integers(0, TEXTS, len(index_B)))
        table = {
            "step": np.full(len(index_B), step, np.int32),
            "index": index_B,
            "id": self.id_N.take(pa.array(index_B)),
            "domain": pa.array(DOMAINS).take(pa.array(self.domain_N[index_B])),
            "tier": pa.array(TIERS).take(pa.array(self.tier_N[index_B])),
            "sample": np.tile(np.arange(GROUP, dtype=np.int32), groups),
            "thinking": np.repeat(rng.random(groups) < 0.75, GROUP),
            "question": self.questions.take(pa.array(np.repeat(rng.integers(0, TEXTS, groups), GROUP))),
            "answer": pc.binary_join_element_wise('"', pa.array(index_B).cast(pa.string()), '"', ""),
            "response": pc.binary_join_element_wise(self.responses.take(text_B), box_B, ""),
            "reward": reward_B,
            "correct": correct_B,
            "status": pa.array(["ok", "format_error"]).take(pa.array(broken_B.astype(int))),
            "reason": pa.array(REASONS).take(reason_B),
            "extracted": answer_B,
            "fate": pa.array(["trained", "all-wrong", "all-right"]).take(pa.array(np.repeat(fate_P, GROUP))),
            "advantage": pa.array(rng.normal(size=len(index_B)), mask=np.repeat(fate_P != 0, GROUP)),
            "tokens": tokens_B,
            "forced_tokens": np.zeros(len(index_B), np.int32),
            "finish_reason": pa.array(["stop", "length"]).take(pa.array((broken_B & (tokens_B > 40)).astype(int))),
            "mean_logprob": np.add.reduceat(logprobs_T, starts_B[:-1]) / tokens_B,
            "weight_version": np.full(len(index_B), step, np.int64),
            "token_ids": pa.ListArray.from_arrays(starts_B, rng.integers(0, 400, starts_B[-1], np.int32)),
            "token_logprobs": pa.ListArray.from_arrays(starts_B, logprobs_T),
            "token_forced": pa.ListArray.from_arrays(starts_B, np.zeros(starts_B[-1], bool)),
        }
        (self.out / f"rollouts/step={step:06d}.parquet").write_bytes(parquet_bytes(pa.table(table)))
        domain_B = self.domain_N[index_B]
        row: dict[str, Any] = {"step": step, "time": 1.7e9 + 30.0 * step, "seconds/step": 30.0, "seconds/generate": 20.0}
        row |= {"seconds/train": 9.0, "tokens_per_s/generate": float(tokens_B.sum()) / 20, "peak_memory_mb": 9000.0}
        row |= {
            "tokens_per_s/train": float(tokens_B.sum()) / 9,
            "policy/loss": 0.1,
            "policy/rollout_kl": 1e-9,
            "policy/lr": 1e-6,
        }
        for prefix, chosen_B in [("", np.ones(len(index_B), bool)), *((f"{d}/", domain_B == k) for k, d in enumerate(DOMAINS))]:
            fates = fate_P[chosen_B[::GROUP]]
            if not len(fates):
                continue
            wasted_B = np.repeat(fates != 0, GROUP)
            found = {
                "reward": reward_B[chosen_B].mean(),
                "pass_rate": correct_B[chosen_B].mean(),
                "mixed_fraction": (fates == 0).mean(),
                "format_error_fraction": broken_B[chosen_B].mean(),
                "abstained_fraction": 0.0,
                "entropy": -logprobs_T.mean(),
                "response_length": tokens_B[chosen_B].mean(),
                "truncated_fraction": 0.01,
                "repetition_fraction": 0.0,
                "forced_fraction": 0.0,
                "groups_generated": len(fates),
                "groups_trained": (fates == 0).sum(),
                "groups/trained": (fates == 0).sum(),
                "groups/all-wrong": (fates == 1).sum(),
                "groups/all-right": (fates == 2).sum(),
                "rollouts": chosen_B.sum(),
                "tokens": tokens_B[chosen_B].sum(),
                "rollouts_wasted": wasted_B.sum(),
                "tokens_wasted": tokens_B[chosen_B][wasted_B].sum(),
            }
            row |= {f"{prefix}{name}": float(value) for name, value in found.items()}
        return row

    def _beliefs(self, step: int) -> None:
        count = len(self.domain_N)
        mean = np.clip(self.rate(step) + self.rng.normal(0, 0.1, count), 0.01, 0.99)
        strength = self.rng.gamma(4.0, 2.0, count)
        state_N = np.where(mean > 0.9, 2, np.where(mean < 0.1, 3, np.where((mean > 0.2) & (mean < 0.8), 0, 1)))
        state_N = np.where((state_N == 0) & (self.rng.random(count) < 0.05), 5, state_N)
        table = {
            "step": np.full(count, step, np.int32),
            "index": np.arange(count),
            "id": self.id_N,
            "domain": pa.array(DOMAINS).take(pa.array(self.domain_N)),
            "tier": pa.array(TIERS).take(pa.array(self.tier_N)),
            "thinking": np.ones(count, bool),
            "alpha": mean * strength,
            "beta": (1 - mean) * strength,
            "mean": mean,
            "mixed_probability": 1 - mean**GROUP - (1 - mean) ** GROUP,
            "seen_at": self.seen_N,
            "state": pa.array(STATES).take(pa.array(state_N)),
        }
        (self.out / f"difficulty/step={step:06d}.parquet").write_bytes(parquet_bytes(pa.table(table)))
        edges = np.arange(10) / 10
        bins = [
            {
                "quantity": quantity,
                "domain": domain,
                "from": low,
                "to": low + 0.1,
                "groups": 100,
                "predicted": low + 0.05,
                "observed": low + 0.04,
            }
            for quantity in ("pass_rate", "mixed")
            for domain in DOMAINS
            for low in edges.tolist()
        ]
        (self.out / f"calibration/step={step:06d}.parquet").write_bytes(parquet_bytes(pa.Table.from_pylist(bins)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, default=1_000_000)
    parser.add_argument("--rollouts", type=int, default=10_000_000)
    parser.add_argument("--snapshots", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    made = MadeRun(options.out, options.problems, options.rollouts, options.seed)
    made.write(options.snapshots)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"{options.out}: {made.steps} steps, {size / 2**20:,.0f} MiB in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
