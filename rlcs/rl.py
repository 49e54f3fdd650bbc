"""The local RL loop: GRPO on verifiable rewards with a curriculum sampler, top to bottom in `run_rl`.

Axis suffixes: N problems, P groups (one problem each), G samples of a group.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.markup import escape

from rlcs.advantages import group_advantages, leave_one_out_advantages, whitened_advantages
from rlcs.critic import build_critic
from rlcs.difficulty import Difficulty
from rlcs.engines import build_engine
from rlcs.generation import GroupSource
from rlcs.guard import Guard
from rlcs.heldout import HeldoutCurve, Spent
from rlcs.learner import Learner, TrainSample
from rlcs.modes import difficulty_tier, thinking_mask
from rlcs.problems import Problem, load_problems
from rlcs.progress import Clock, progress
from rlcs.reference import build_reference
from rlcs.rl_config import RlConfig
from rlcs.rl_state import RunState
from rlcs.rollout_log import console_table, difficulty_table, parquet_bytes, rollout_table, step_metrics
from rlcs.run_identity import RunIdentity
from rlcs.samplers import SAMPLERS, Sampler
from rlcs.scoring import TRAINED, ScoredRollouts, group_fates, scoring_pool
from rollout.chat import ChatRenderer
from rollout.memory import return_large_blocks, share_one_heap
from sft.checkpoint import resolve_model, sound_checkpoint
from sft.optimizers import require_optimizer
from sft.policy import trained_policy
from sft.rundir import RunDir
from sft.stop import StopSignals


def run_rl(config: RlConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Trains `config.model` on `config.problems`; returns the final checkpoint, a Hugging Face directory.

    `resume` continues the run in `config.out` from its last checkpoint with the same draws, losses and weights as if it
    had never stopped. Raises FileExistsError for a run directory that already holds a run when not resuming, ValueError for
    data or settings that are not those of the run resumed, Stopped when a signal ended it (docs/exactness.md).
    """
    console = console or Console()
    share_one_heap()
    if config.threads:
        torch.set_num_threads(config.threads)
    require_optimizer(config.optimizer)
    run = RunDir(config.out, resume=resume, loggers=config.loggers)
    run.claim()

    def warn(text: str) -> None:
        console.print(f"[yellow]{escape(text)}[/yellow]", highlight=False, soft_wrap=True)

    checkpoint = sound_checkpoint(run, warn) if resume else None
    problems = load_problems(config.problems)
    identity = RunIdentity(config, problems)
    if checkpoint and (changed := identity.check(checkpoint, run)):
        warn(changed)
    model, processor = trained_policy(config, checkpoint)
    return_large_blocks(model)
    renderer = ChatRenderer(processor)
    # While one set of weights is trained, the engine of a run that generates ahead serves the former one from its own.
    beside = config.max_staleness and config.rollout == "transformers"
    engine = build_engine(config, checkpoint or resolve_model(config.model), renderer, None if beside else model)
    thinking_N = thinking_mask(problems, config.nothink_ratio, np.random.default_rng([config.seed, 2]))
    learner = Learner(model, config, build_reference(model, config))
    critic = build_critic(config, checkpoint)
    sampler = build_sampler(config, problems, thinking_N)
    rng, generator = np.random.default_rng([config.seed, 1]), torch.Generator().manual_seed(config.seed)
    guard = Guard(config, config.guard, problems, sampler, run, console) if config.guard else None
    pool = scoring_pool(config)
    source = GroupSource(config, problems, thinking_N, sampler, model, engine, renderer, pool, rng, generator)
    state = RunState(problems, thinking_N, learner, sampler, rng, generator, source, identity, critic, guard)
    start = state.restore(checkpoint) if checkpoint else 0
    domains = sorted({problem.domain for problem in problems})
    run.rewind(start)
    run.prune_checkpoints(config.keep_checkpoints)
    identity.write(run)
    run.atomic_write("config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    spent = Spent.of_run(run)
    heldout = HeldoutCurve(config, config.heldout, run, start) if config.heldout else None

    with (
        closing(run),
        closing(engine),
        pool,
        source,
        StopSignals() as stop,
        progress(console, config.steps, start, domains) as advance,
    ):
        if heldout and start == 0:
            heldout.add(0, spent, source.serve(0), renderer, pool)
        if guard and start == 0:
            guard.look(0, source.serve(0), renderer, pool)
        for step in range(start, config.steps):
            if config.max_rollouts and spent.rollouts >= config.max_rollouts:
                break
            stop.leave(step, run.last_checkpoint())
            clock = Clock(config.device)
            rollouts = source.of_step(step, clock)  # draw, generate, score, observe, refill
            with clock("select"):
                fates = group_fates(rollouts, sampler, config.groups_per_step)
                advantages_PG = advantages_of(rollouts, fates, config)
            generated = sum(len(group) for group in rollouts.completions)
            last = step + 1 == config.steps or spent.rollouts + generated >= (config.max_rollouts or float("inf"))
            if not last:
                source.start(clock)
            with clock("train"), source.updating(step):
                samples = train_samples(rollouts, fates, advantages_PG)
                learned: dict[str, float] = {}
                judged: dict[str, float] = {}
                if critic is not None:
                    samples, judged = critic.learn(samples, step, rng)
                if step >= config.policy_starts:
                    learned = learner.update(samples, step - config.policy_starts, rng)
                for skipped in (learner.skipped, *([critic.skipped] if critic else [])):
                    for notice in skipped.notices():
                        warn(notice)

            with clock("log"):
                table = rollout_table(rollouts, fates, advantages_PG, step, tokens=config.log_tokens)
                run.atomic_write(f"rollouts/step={step:06d}.parquet", parquet_bytes(table))
                if step % config.difficulty_every == 0 or last:
                    beliefs = difficulty_table(problems, {"thinking": thinking_N, **sampler.snapshot()}, step)
                    run.atomic_write(f"difficulty/step={step:06d}.parquet", parquet_bytes(beliefs))
                    reliability = sampler.difficulty.calibration.reliability()
                    run.atomic_write(f"calibration/step={step:06d}.parquet", parquet_bytes(reliability))
                if config.table_every and step % config.table_every == 0:
                    console.print(console_table(rollouts, fates, step))
            metrics = step_metrics(rollouts, fates)
            metrics |= {f"policy/{name}": value for name, value in learned.items()}
            metrics |= {f"critic/{name}": value for name, value in judged.items()}
            metrics |= {f"sampler/{name}": value for name, value in sampler.metrics().items()}
            metrics |= source.metrics(step, rollouts, clock) | clock.metrics(
                generated_tokens=sum(len(completion.token_ids) for group in rollouts.completions for completion in group),
                packed_tokens=int(learned.get("packed_tokens", 0)),
            )
            spent.add(metrics)
            if heldout and (last or heldout.due(spent)):
                metrics |= heldout.add(step + 1, spent, source.serve(step + 1), renderer, pool)
            if guard and (last or guard.due(step + 1)):
                metrics |= guard.look(step + 1, source.serve(step + 1), renderer, pool)
                last = last or guard.stopped
            run.log(step, metrics)
            if (step + 1) % config.save_every == 0 or last or stop.requested:
                state.save(run, step + 1, processor, config.keep_checkpoints)
            advance(step, metrics)
            if guard and guard.stopped:
                break
    final = run.last_checkpoint()
    assert final is not None
    return final


def build_sampler(config: RlConfig, problems: Sequence[Problem], thinking_N: np.ndarray) -> Sampler:
    """The sampler that `config.sampler` names, over these problems; `thinking_N` as from `thinking_mask`."""
    domains = [problem.domain for problem in problems]
    difficulty = Difficulty(
        domains,
        [difficulty_tier(problem, bool(thinks)) for problem, thinks in zip(problems, thinking_N, strict=True)],
        [problem.pass_rate for problem in problems],
        **config.difficulty.model_dump(),
    )
    common: dict[str, Any] = {
        "group_size": config.group_size,
        "seed": config.seed,
        "domain_weights": config.domain_weights,
    }
    section = {"uniform": None, "rlcs": "curriculum"}.get(config.sampler, config.sampler.replace("-", "_"))
    options = getattr(config, section).model_dump() if section else {}
    return SAMPLERS[config.sampler](domains, difficulty, **common, **options)


def advantages_of(rollouts: ScoredRollouts, fates: Sequence[str], config: RlConfig) -> np.ndarray:
    """Advantages float64 [P, G] as `config.advantage` names them; 0 for samples without a reward. Those that look beyond the
    group look at the groups trained on. NaN where a critic finds one for every token.
    """
    if config.advantage == "gae":
        return np.full(rollouts.rewards_PG.shape, np.nan)
    rewards_PG = torch.from_numpy(rollouts.rewards_PG)
    valid_PG = ~rewards_PG.isnan()
    if config.advantage == "rloo":
        return leave_one_out_advantages(rewards_PG, valid_PG).numpy()
    if config.advantage == "reinforce++":
        trained_P1 = torch.tensor([fate == TRAINED for fate in fates])[:, None]
        lengths_PG = torch.tensor([[int((~one.forced).sum()) for one in group] for group in rollouts.completions])
        return whitened_advantages(rewards_PG, valid_PG & trained_P1, lengths_PG).numpy()
    return group_advantages(rewards_PG, valid_PG, normalise=config.advantage == "grpo").numpy()


def train_samples(rollouts: ScoredRollouts, fates: Sequence[str], advantages_PG: np.ndarray) -> list[TrainSample]:
    """The samples of the groups to train on, group by group; those that abstained are left out, forced tokens are
    masked.
    """
    samples = []
    for p in (p for p, fate in enumerate(fates) if fate == TRAINED):
        prompt = rollouts.prompts[p].encoded
        for completion, verdict, advantage in zip(rollouts.completions[p], rollouts.verdicts[p], advantages_PG[p], strict=True):
            if verdict.score is not None:
                own = ~completion.forced
                encoded = prompt.extended(completion.token_ids, own)
                logprobs, id, reward = completion.logprobs[own], rollouts.prompts[p].id, verdict.score
                samples.append(TrainSample(encoded, logprobs, float(advantage), prompt, id, reward))
    return samples
