"""`rlcs grade`: how often a checkpoint solves each problem of a file; `run_grade` from top to bottom.

After the offline half of the difficulty grading of GLM-4.1V-Thinking (arXiv 2507.01006, section 5.3): pass@k of every
problem under a model. `rlcs.grade_merge` puts several models and people together.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from rlcs.engines import build_engine, sampling_of
from rlcs.grade_batches import Batch, batches_of
from rlcs.grade_config import GradeConfig
from rlcs.grade_progress import Counts, ProgressFile, weights_digest
from rlcs.grade_tables import summary_table
from rlcs.grades import Grade, Tiers, graded_line, raw_lines, refuse_lost_media, write_problems
from rlcs.modes import THINKING
from rlcs.problems import check_references, load_problems
from rlcs.progress import Clock
from rlcs.scoring import ScoredRollouts, score_rollouts, scoring_pool
from rollout.chat import ChatRenderer
from rollout.engine import ThinkingBudget
from sft.checkpoint import resolve_model
from sft.progress import step_bar


def run_grade(config: GradeConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Grades `config.problems` under `config.model`, prints a table and returns `config.out`, the graded problems.

    Results are kept batch by batch in a file beside `config.out`; with `resume` a killed grading goes on from there and ends
    in the same file as one that never stopped. Raises FileExistsError where `config.out` or such a file is already there,
    ValueError for problems that cannot be graded, before anything is generated.
    """
    console = console or Console()
    if config.threads:
        torch.set_num_threads(config.threads)
    problems = load_problems(config.problems)
    refuse_lost_media(problems, config.problems, config.out)
    check_references(problems, config.problems)
    checkpoint = resolve_model(config.model)
    batches = batches_of(problems, config)
    weights = weights_digest(checkpoint)
    file = ProgressFile(config, checkpoint, weights)
    done = file.begin(batches, resume=resume)
    if len(done) < len(batches):
        seeds = [batch.seed(config.seed, weights) for batch in batches]
        _generate(config, checkpoint, batches, seeds, done, file, console)

    grades = collect(str(checkpoint), batches, done)
    tiers = Tiers.of(config.tiers)
    given, lines = raw_lines(config.problems), []
    for line in given:
        grade = grades[line["id"]]
        tier = None if grade.rate is None else tiers.of_rate(grade.rate)
        lines.append(graded_line(line, grade.to_json(), grade.rate, tier, keep_tier=config.keep_tiers))
    write_problems(config.out, lines)
    file.remove()
    console.print(summary_table(lines, tiers))
    if not config.keep_tiers and any(line.get("tier") for line in given):
        before = [{**line, "tier": old.get("tier")} for line, old in zip(lines, given, strict=True)]
        console.print(summary_table(before, tiers, title="by tier of the problem file"))
    unknown = sum(grade.rate is None for grade in grades.values())
    if unknown:
        console.print(f"{unknown:,} of {len(lines):,} problems have no pass rate: their verifier could judge no response")
    return config.out


def _generate(
    config: GradeConfig,
    checkpoint: Path,
    batches: Sequence[Batch],
    seeds: Sequence[int],
    done: dict[int, Counts],
    file: ProgressFile,
    console: Console,
) -> None:
    """Generates and scores the batches that are not in `done`, and puts them there and in the file."""
    clock = Clock(config.device)
    renderer = ChatRenderer.from_pretrained(checkpoint)
    engine = build_engine(config, checkpoint, renderer)
    pool = scoring_pool(config)
    sampling = sampling_of(config, config.think_tokens)
    budget = ThinkingBudget(config.think_tokens, config.answer_tokens)
    sizes = [len(batch.problems) * config.samples for batch in batches]
    tokens = 0
    with closing(engine), pool, step_bar(console) as bar:
        task = bar.add_task("grade", total=sum(sizes), completed=sum(sizes[index] for index in done))
        for index, batch in enumerate(batches):
            if index in done:
                continue
            prompts = [
                renderer.prompt(problem.messages, root=problem.root, thinking=batch.mode == THINKING, id=problem.id)
                for problem in batch.problems
            ]
            generator = torch.Generator().manual_seed(seeds[index])
            with clock("generate"):
                completions = engine.generate(prompts, config.samples, sampling, budget, generator=generator)
            with clock("score"):
                scored = score_rollouts(pool, np.arange(len(prompts)), batch.problems, prompts, completions)
            spent = sum(len(completion.token_ids) for group in completions for completion in group)
            done[index] = counts_of(scored)
            file.append(batch, done[index], spent)
            tokens += spent
            bar.update(task, advance=sizes[index], description=f"grade  pass rate {_rate(done):.3f}")
    found = clock.metrics(generated_tokens=tokens, packed_tokens=0)
    console.print(
        f"{tokens:,} tokens in {found['seconds/step']:.0f} s, {found['tokens_per_s/generate']:,.0f} tokens/s while generating, "
        f"{found['seconds/score']:.0f} s scoring, peak memory {found['peak_memory_mb']:,.0f} MB",
        highlight=False,
    )


def counts_of(scored: ScoredRollouts) -> Counts:
    """(right, k, abstained) of each problem: responses judged right, judged at all, and not judged."""
    known_PG = ~np.isnan(scored.outcomes_PG)
    right_P = np.nansum(scored.outcomes_PG, axis=1)
    return {
        problem.id: (int(right), int(known.sum()), int((~known).sum()))
        for problem, right, known in zip(scored.problems, right_P, known_PG, strict=True)
    }


def collect(model: str, batches: Sequence[Batch], done: Mapping[int, Counts]) -> dict[str, Grade]:
    """The grade of each problem from the results of all batches (`done`: place in `batches` -> results)."""
    found: dict[str, dict[str, tuple[int, int, int]]] = {}
    for index, batch in enumerate(batches):
        for id, counts in done[index].items():
            found.setdefault(id, {})[batch.mode] = counts
    grades = {}
    for id, modes in found.items():
        right, k, abstained = (sum(counts[part] for counts in modes.values()) for part in range(3))
        grades[id] = Grade(model, k, right, abstained, {mode: (counts[0], counts[1]) for mode, counts in modes.items()})
    return grades


def _rate(done: Mapping[int, Counts]) -> float:
    """Share of right responses so far."""
    found = [counts for batch in done.values() for counts in batch.values()]
    return sum(right for right, _, _ in found) / max(1, sum(k for _, k, _ in found))
