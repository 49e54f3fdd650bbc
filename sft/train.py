"""The SFT loop, top to bottom in `run_sft`: load, render, draw, update, evaluate, log, save."""

import json
import math
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from transformers import PreTrainedModel

from rollout.chat import ChatRenderer
from rollout.memory import peak_memory_mb, return_large_blocks, share_one_heap
from sft.checkpoint import load_training_state, save_checkpoint, sound_checkpoint
from sft.config import SftConfig
from sft.data import DataError, Example, LoadedExamples, lines_of, load_examples
from sft.data_record import DataRecord, fingerprints
from sft.evaluate import evaluate
from sft.meter import Meter
from sft.optimizers import build_optimizer, require_optimizer, set_learning_rate
from sft.policy import trained_policy
from sft.progress import progress
from sft.rendering import Renderings, check_nothink_form
from sft.rundir import RunDir
from sft.schedule import learning_rate
from sft.settings_change import refuse_changes
from sft.skipped import NonFiniteUpdate, SkippedUpdates
from sft.stop import StopSignals
from sft.stream import ExampleStream
from sft.tally import Tally
from sft.update import trained_groups, update

OVER_LENGTH = "over-max-length"
FIXED = {"engine", "model", "seed", "dtype", "lora", "style", "max_length", "optimizer", "betas", "weight_decay"}
"""Settings that a run keeps when it is resumed: its saved state was made under them."""
FREE = {"out", "data", "eval_data", "eval_every", "cache_mb", "save_every", "keep_checkpoints", "log_every", "loggers", "verl"}
"""Settings that change no update; of the data files the contents are compared."""
_EVALUATED_AT_ONCE = 128  # examples whose pixels are in memory together


def run_sft(config: SftConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Fine-tunes `config.model` on `config.data`; returns the final checkpoint, a Hugging Face directory.

    `resume` continues the run in `config.out` from its last checkpoint with the same batches, losses and weights as if it had
    never stopped; without a checkpoint it begins anew. Raises FileExistsError for a run directory that already holds a run when
    not resuming, DataError for bad data, ValueError for data or settings that are not those of the run resumed,
    FloatingPointError when training diverges, Stopped when a signal ended it (docs/exactness.md).
    """
    console = console or Console()
    share_one_heap()
    if config.threads:
        torch.set_num_threads(config.threads)
    require_optimizer(config.optimizer)
    run = RunDir(config.out, resume=resume, loggers=config.loggers)
    run.claim()
    warn = partial(_warn, console)
    checkpoint = sound_checkpoint(run, warn) if resume else None
    saved_optimizer, saved = load_training_state(checkpoint) if checkpoint else ({}, {})
    start = int(saved.get("step", 0))
    if checkpoint and (changed := refuse_changes(saved["config"], config, checkpoint, fixed=FIXED, free=FREE)):
        warn(changed)
    loaded = load_examples(config.data, style=config.style)
    heldout = load_examples(config.eval_data, style=config.style) if config.eval_data else LoadedExamples([], {})
    files = {"data": loaded.examples} | ({"eval_data": heldout.examples} if config.eval_data else {})
    record = DataRecord({setting: fingerprints(lines_of(examples)) for setting, examples in files.items()})
    if checkpoint:
        record.refuse_changes(saved["data"], run, checkpoint)
    run.rewind(start)
    run.prune_checkpoints(config.keep_checkpoints)

    model, processor = trained_policy(config, checkpoint)
    return_large_blocks(model)
    renderer = ChatRenderer(processor, cache_bytes=32 << 20)
    if config.nothink_ratio > 0 or not all(example.thinks for example in (*loaded.examples, *heldout.examples)):
        check_nothink_form(renderer)
    renderings = Renderings(renderer, cache_bytes=config.cache_mb << 20)
    heldout = fitting(heldout, config.eval_data, renderings, config, console)  # first, so that it stays in the cache
    loaded = fitting(loaded, config.data, renderings, config, console)
    examples, domains = loaded.examples, sorted({example.domain for example in (*loaded.examples, *heldout.examples)})
    optimizer = build_optimizer(trained_groups(model, config), config)
    meter = Meter(model, config.token_budget)
    rng = np.random.default_rng([config.seed, 0])
    stream = ExampleStream([example.thinks for example in examples], config.nothink_ratio, rng)
    skipped = SkippedUpdates(config.max_skipped_updates)
    if checkpoint:
        optimizer.load_state_dict(saved_optimizer)
        stream.load_state_dict(saved["stream"])
        skipped.load_state_dict(saved["skipped"])
    record.write(run)
    run.atomic_write("config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    rejected = {"data": loaded.rejected_ids, "eval_data": heldout.rejected_ids}
    run.atomic_write("rejected.json", json.dumps(rejected, indent=1, ensure_ascii=False))

    total = config.total_steps(len(examples))
    with closing(run), StopSignals() as stop, progress(console, total, start, domains, config.log_every) as advance:
        for step in range(start, total):
            stop.leave(step, run.last_checkpoint())
            began = time.perf_counter()
            seed_dropout(config.seed, step)
            batch = [renderings.sample(examples[i], nothink=nothink) for i, nothink in stream.draw(config.batch_size)]
            rendered = time.perf_counter()
            set_learning_rate(optimizer, learning_rate(config, step, total))
            try:
                budget, clip = config.token_budget, config.grad_clip
                tally, norm = update(model, optimizer, batch, token_budget=budget, grad_clip=clip, meter=meter)
                learned = tally.losses() | {"grad_norm": norm, "skipped_updates": 0.0}
                skipped.made()
            except NonFiniteUpdate as error:
                learned = {"loss": math.nan, "grad_norm": math.nan, "skipped_updates": 1.0}
                skipped.skip(step, error)
            trained = time.perf_counter()

            last = step + 1 == total
            packed_tokens = sum(len(sample.encoded.input_ids) for sample in batch)
            metrics = learned | {
                "lr": learning_rate(config, step, total),
                "epoch": stream.epoch,
                "packed_tokens": packed_tokens,
                "target_tokens": sum(sample.targets for sample in batch),
                "nothink_fraction": sum(sample.nothink for sample in batch) / len(batch),
            }
            if heldout.examples and (last or (config.eval_every and (step + 1) % config.eval_every == 0)):
                measured = evaluate_examples(model, heldout.examples, renderings, config)
                metrics |= {f"eval/{name}": value for name, value in measured.items()}
                metrics["seconds/eval"] = time.perf_counter() - trained
            metrics |= {
                "seconds/render": rendered - began,
                "seconds/train": trained - rendered,
                "seconds/step": time.perf_counter() - began,
                "tokens_per_s": packed_tokens / (trained - began),
                "peak_memory_mb": peak_memory_mb(config.device),
                **meter.metrics(trained - rendered),
            }
            run.log(step, metrics)
            if last or stop.requested or (step + 1) % config.save_every == 0:
                state = {
                    "step": step + 1,
                    "config": config.model_dump(mode="json"),
                    "data": record.state_dict(),
                    "stream": stream.state_dict(),
                    "skipped": skipped.state_dict(),
                }
                run.flush()
                save_checkpoint(run.checkpoint_path(step + 1), model, processor, optimizer, state)
                run.prune_checkpoints(config.keep_checkpoints)
            advance(step, metrics)
            for notice in skipped.notices():
                warn(notice)
    final = run.last_checkpoint()
    assert final is not None
    return final


def _warn(console: Console, text: str) -> None:
    console.print(f"[yellow]{escape(text)}[/yellow]", highlight=False, soft_wrap=True)


def fitting(
    loaded: LoadedExamples, path: Path | None, renderings: Renderings, config: SftConfig, console: Console
) -> LoadedExamples:
    """The examples of at most `max_length` tokens in every form; the others join the rejected. Says how many went and why.

    Renders every example: a picture that cannot be read is found now, not hours into the run.
    """
    kept: list[Example] = []
    too_long: list[str] = []
    for example in track(loaded.examples, f"render {path and path.name}", console=console, transient=True):
        forms = renderings.forms(example, nothink=config.nothink_ratio > 0)
        fits = all(len(form.encoded.input_ids) <= config.max_length for form in forms)
        kept.append(example) if fits else too_long.append(example.id)
    rejected = loaded.rejected_ids | ({OVER_LENGTH: too_long} if too_long else {})
    if path:
        counts = ", ".join(f"{len(ids)} {reason}" for reason, ids in rejected.items()) or "none"
        console.print(escape(f"{path}: {len(kept):,} examples; rejected: {counts}"), highlight=False, soft_wrap=True)
    if path and not kept:
        raise DataError(f"{path}: no example has at most {config.max_length} tokens; raise max_length")
    return LoadedExamples(kept, rejected)


def evaluate_examples(
    model: PreTrainedModel, examples: Sequence[Example], renderings: Renderings, config: SftConfig
) -> dict[str, float]:
    """Measures of the examples in both forms, or in their own where training rewrites none."""
    tally = Tally()
    for begin in range(0, len(examples), _EVALUATED_AT_ONCE):
        chunk = examples[begin : begin + _EVALUATED_AT_ONCE]
        samples = [sample for example in chunk for sample in renderings.forms(example, nothink=config.nothink_ratio > 0)]
        tally += evaluate(model, samples, token_budget=config.token_budget)
    return tally.measures()


def seed_dropout(seed: int, step: int) -> None:
    """Makes what torch draws in a step a function of (seed, step), so that it needs no state to resume."""
    torch.manual_seed(int(np.random.default_rng([seed, 1, step]).integers(2**63)))
