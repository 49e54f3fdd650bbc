"""`rlcs eval`: samples and greedy responses of a checkpoint to held-out problems, scored; `run_eval` from top to bottom."""

import json
import zlib
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from rich.console import Console

from rlcs.engines import build_engine, sampling_of
from rlcs.eval_config import EvalConfig
from rlcs.eval_summary import GREEDY, RESPONSES, Scores, console_tables, natural, summarise
from rlcs.problems import Problem, check_references, load_problems
from rlcs.progress import Clock
from rlcs.rollout_log import parquet_bytes
from rlcs.scoring import ScoredRollouts, question_of, score_rollouts, scoring_pool
from rollout.chat import ChatRenderer
from rollout.engine import Engine, ThinkingBudget
from rollout.messages import parts_of
from sft.checkpoint import resolve_model
from sft.progress import step_bar
from sft.rundir import RunDir


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation directory holds: its configuration, the summary in eval.json and every response."""

    config: EvalConfig
    summary: dict[str, Any]
    responses: pa.Table

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        """Raises FileNotFoundError naming the file and the command that makes it."""
        for name in ("eval.json", "responses.parquet", "config.yaml"):
            if not (path / name).is_file():
                raise FileNotFoundError(f"{path / name} is missing; make it with: rlcs eval CONFIG model=CHECKPOINT out={path}")
        config = EvalConfig(**yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")))
        summary = json.loads((path / "eval.json").read_text(encoding="utf-8"))
        return cls(config, summary, pq.read_table(path / "responses.parquet"))


def run_eval(
    config: EvalConfig,
    *,
    console: Console | None = None,
    serving: tuple[Engine, ChatRenderer] | None = None,
    tables: bool = True,
) -> Evaluation:
    """Evaluates `config.model` on `config.problems`, prints the tables (with `tables`) and writes `config.out`.

    `serving`: an engine that serves the model already, with its renderer; it stays open.

    Problems are taken in the order of domain, tier and id, and each mode has random generators of its own, so neither the
    order of the problem file nor the other mode changes a response. Raises ValueError for a reference that its own verifier
    rejects, before anything is generated.
    """
    console = console or Console()
    if config.threads:
        torch.set_num_threads(config.threads)
    problems = choose(load_problems(config.problems), config.max_per_domain, config.seed)
    check_references(problems, config.problems)
    checkpoint = resolve_model(config.model)
    clock = Clock(config.device)
    with clock("load"):
        renderer = serving[1] if serving else ChatRenderer.from_pretrained(checkpoint)
        engine = serving[0] if serving else build_engine(config, checkpoint, renderer)
    pool = scoring_pool(config)
    budget = ThinkingBudget(config.think_tokens, config.answer_tokens)
    sampled = sampling_of(config, config.think_tokens)
    passes = [(config.samples, sampled)]
    if config.greedy:
        passes.append((1, replace(sampled, temperature=0.0, top_p=1.0)))

    rows: list[dict[str, Any]] = []
    total = len(problems) * len(config.modes) * sum(n for n, _ in passes)
    with nullcontext() if serving else closing(engine), pool, step_bar(console) as bar:
        task = bar.add_task("eval", total=total)
        for mode in config.modes:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{config.seed}/{mode}".encode()))
            for n, sampling in passes:
                for chunk in _chunks(problems, max(1, config.rollout_batch // n)):
                    with clock("render"):
                        prompts = [
                            renderer.prompt(problem.messages, root=problem.root, thinking=mode == "thinking", id=problem.id)
                            for problem in chunk
                        ]
                    with clock("generate"):
                        completions = engine.generate(prompts, n, sampling, budget, generator=generator)
                    with clock("score"):
                        scored = score_rollouts(pool, np.arange(len(chunk)), chunk, prompts, completions)
                    rows += response_rows(scored, mode, greedy=sampling.temperature == 0)
                    bar.update(task, advance=len(chunk) * n)

    evaluation = write_evaluation(config, rows, model=str(checkpoint), costs=_costs(clock, rows))
    for table in console_tables(evaluation.summary["groups"]) if tables else ():
        console.print(table)
    return evaluation


def write_evaluation(config: EvalConfig, rows: Sequence[dict[str, Any]], *, model: str, costs: dict[str, Any]) -> Evaluation:
    """Summarises the rows of `response_rows` and writes the evaluation directory `config.out`.

    Each file appears atomically; eval.json goes first and comes last, so where it stands the others belong to it.
    """
    responses = pa.Table.from_pylist(rows, schema=RESPONSES)
    scores = Scores.of(responses)
    summary = {
        "model": model,
        "problems": str(config.problems),
        "problem_count": len(scores.ids),
        "responses": len(rows),
        "groups": summarise(scores, config.pass_k),
        **costs,
    }
    run = RunDir(config.out)
    (config.out / "eval.json").unlink(missing_ok=True)
    run.atomic_write("config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    run.atomic_write("responses.parquet", parquet_bytes(responses))
    run.atomic_write("eval.json", json.dumps(summary, indent=1))
    run.close()
    return Evaluation(config, summary, responses)


def _costs(clock: Clock, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Generated tokens, seconds of each part and in all, tokens a second while generating, peak memory."""
    tokens = sum(row["tokens"] for row in rows)
    spent = clock.metrics(generated_tokens=tokens, packed_tokens=0)
    seconds = {name.removeprefix("seconds/"): value for name, value in spent.items() if name.startswith("seconds/")}
    return {
        "generated_tokens": tokens,
        "seconds": {"total": seconds.pop("step"), **seconds},
        "tokens_per_s": spent["tokens_per_s/generate"],
        "peak_memory_mb": spent["peak_memory_mb"],
    }


def choose(problems: Sequence[Problem], most: int | None, seed: int) -> list[Problem]:
    """At most `most` problems of each domain, spread evenly over its tiers, in the order of domain, tier and id.

    What a small tier cannot give the others do. The choice depends on the seed and the problems, not on their order.
    """
    cells: dict[str, dict[str, list[Problem]]] = {}
    for problem in sorted(problems, key=lambda problem: (problem.domain, natural(problem.tier or ""), natural(problem.id))):
        cells.setdefault(problem.domain, {}).setdefault(problem.tier or "", []).append(problem)
    chosen: list[Problem] = []
    for domain, tiers in cells.items():
        quota = _even(most, [len(members) for members in tiers.values()])
        for (tier, members), share in zip(tiers.items(), quota, strict=True):
            rng = np.random.default_rng([seed, zlib.crc32(f"{domain}/{tier}".encode())])
            chosen += [members[place] for place in sorted(rng.permutation(len(members))[:share])]
    return chosen


def _even(total: int | None, sizes: Sequence[int]) -> list[int]:
    """`total` dealt out one by one in turn to places of these sizes; all of them when it is None."""
    if total is None or total >= sum(sizes):
        return list(sizes)
    quota = [0] * len(sizes)
    while (left := total - sum(quota)) > 0:
        free = [place for place, size in enumerate(sizes) if quota[place] < size]
        for turn, place in enumerate(free):
            quota[place] += min(sizes[place] - quota[place], left // len(free) + (turn < left % len(free)))
    return quota


def response_rows(scored: ScoredRollouts, mode: str, *, greedy: bool) -> list[dict[str, Any]]:
    """Rows of responses.parquet, group by group."""
    return [
        {
            "id": problem.id,
            "domain": problem.domain,
            "tier": problem.tier,
            "mode": mode,
            "sample": GREEDY if greedy else sample,
            "question": question_of(problem),
            "media": media_of(problem),
            "answer": json.dumps(problem.answer, ensure_ascii=False),
            "response": completion.text,
            "score": verdict.score,
            "correct": verdict.correct,
            "status": verdict.status,
            "reason": verdict.reason,
            "extracted": verdict.extracted,
            "tokens": len(completion.token_ids),
            "finish_reason": completion.finish_reason,
            "forced": bool(completion.forced.any()),
        }
        for problem, completions, verdicts in zip(scored.problems, scored.completions, scored.verdicts, strict=True)
        for sample, (completion, verdict) in enumerate(zip(completions, verdicts, strict=True))
    ]


def media_of(problem: Problem) -> list[str]:
    """Paths of the images, relative to the problem file; a video as its path or the first of its frames."""
    parts = [part for message in problem.messages for part in parts_of(message) if part["type"] != "text"]
    paths = [part[part["type"]] for part in parts]
    return [str(path if isinstance(path, str | Path) else path[0]) for path in paths]


def _chunks(problems: Sequence[Problem], size: int) -> list[Sequence[Problem]]:
    return [problems[start : start + size] for start in range(0, len(problems), size)]
