"""The SFT loop, top to bottom in `run_sft`: load, render, draw, update, evaluate, log, save."""

import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from transformers import PreTrainedModel

from rollout.chat import ChatRenderer
from rollout.memory import peak_memory_mb
from sft.checkpoint import load_training_state, save_checkpoint
from sft.config import SftConfig
from sft.data import DataError, Example, LoadedExamples, digest, load_examples
from sft.evaluate import evaluate
from sft.optimizers import build_optimizer, require_optimizer, set_learning_rate
from sft.policy import trained_policy
from sft.progress import progress
from sft.rendering import Renderings, check_nothink_form
from sft.rundir import RunDir
from sft.schedule import learning_rate
from sft.stream import ExampleStream
from sft.tally import Tally
from sft.update import trained_groups, update

OVER_LENGTH = "over-max-length"
_EVALUATED_AT_ONCE = 128  # examples whose pixels are in memory together


def run_sft(config: SftConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Fine-tunes `config.model` on `config.data`; returns the final checkpoint, a Hugging Face directory.

    `resume` continues the run in `config.out` from its last checkpoint with the same batches, losses and weights as if it had
    never stopped; without a checkpoint it begins anew. Raises FileExistsError for a run directory that already holds a run when
    not resuming, DataError for bad data, FloatingPointError when training diverges.
    """
    console = console or Console()
    if config.threads:
        torch.set_num_threads(config.threads)
    require_optimizer(config.optimizer)
    run = RunDir(config.out, resume=resume, loggers=config.loggers)
    checkpoint = run.last_checkpoint() if resume else None
    saved_optimizer, saved = load_training_state(checkpoint) if checkpoint else ({}, {})
    start = int(saved.get("step", 0))
    loaded = load_examples(config.data, style=config.style)
    heldout = load_examples(config.eval_data, style=config.style) if config.eval_data else LoadedExamples([], {})
    content = digest(loaded.examples)
    if saved.get("examples", content) != content:
        raise ValueError(
            f"{checkpoint}: it was saved while training on other examples than those of {config.data}; resume with the same "
            "file, or start a new run with this checkpoint as its model"
        )
    run.rewind(start)

    model, processor = trained_policy(config, checkpoint)
    renderer = ChatRenderer(processor, cache_bytes=32 << 20)
    if config.nothink_ratio > 0 or not all(example.thinks for example in (*loaded.examples, *heldout.examples)):
        check_nothink_form(renderer)
    renderings = Renderings(renderer, cache_bytes=config.cache_mb << 20)
    heldout = fitting(heldout, config.eval_data, renderings, config, console)  # first, so that it stays in the cache
    loaded = fitting(loaded, config.data, renderings, config, console)
    examples, domains = loaded.examples, sorted({example.domain for example in (*loaded.examples, *heldout.examples)})
    optimizer = build_optimizer(trained_groups(model, config), config, fused=True)
    rng = np.random.default_rng([config.seed, 0])
    stream = ExampleStream([example.thinks for example in examples], config.nothink_ratio, rng)
    if checkpoint:
        optimizer.load_state_dict(saved_optimizer)
        stream.load_state_dict(saved["stream"])
    run.atomic_write("config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    rejected = {"data": loaded.rejected_ids, "eval_data": heldout.rejected_ids}
    run.atomic_write("rejected.json", json.dumps(rejected, indent=1, ensure_ascii=False))

    total = config.total_steps(len(examples))
    with closing(run), progress(console, total, start, domains, config.log_every) as advance:
        for step in range(start, total):
            began = time.perf_counter()
            seed_dropout(config.seed, step)
            batch = [renderings.sample(examples[i], nothink=nothink) for i, nothink in stream.draw(config.batch_size)]
            rendered = time.perf_counter()
            set_learning_rate(optimizer, learning_rate(config, step, total))
            tally, norm = update(model, optimizer, batch, token_budget=config.token_budget, grad_clip=config.grad_clip)
            trained = time.perf_counter()

            last = step + 1 == total
            packed_tokens = sum(len(sample.encoded.input_ids) for sample in batch)
            metrics = tally.losses() | {
                "lr": learning_rate(config, step, total),
                "grad_norm": norm,
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
            }
            run.log(step, metrics)
            if last or (step + 1) % config.save_every == 0:
                state = {"step": step + 1, "examples": content, "stream": stream.state_dict()}
                save_checkpoint(run.checkpoint_path(step + 1), model, processor, optimizer, state)
                run.prune_checkpoints(config.keep_checkpoints)
            advance(step, metrics)
    final = run.last_checkpoint()
    assert final is not None
    return final


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
