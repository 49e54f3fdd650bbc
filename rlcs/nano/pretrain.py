"""Pre-trains the nano model on documents drawn on the fly: `python -m rlcs.nano.pretrain --out runs/nano`.

Resumable: run the same command again. The learning rate warms up, stays, and falls linearly over the last `--decay` steps, so
that `--steps` can be raised later without redoing what was learnt. Axis suffixes as in `rollout.forward`.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PreTrainedModel

from rlcs.nano.build import build_model, save_nano
from rlcs.nano.corpus import DocumentEncoder, EncodedDocument, draw_document
from rlcs.nano.curve import draw_log, read_log
from rlcs.nano.tokenizer import build_tokenizer
from rollout.attention import VARLEN
from rollout.forward import hidden_states, pack, token_logprobs


@dataclass
class Recipe:
    """Optimisation settings; a step sees `tokens` tokens of documents. `last_phase`: the step at which its mixture begins."""

    steps: int = 5300
    tokens: int = 4096
    lr: float = 2e-3
    warmup: int = 100
    decay: int = 1500
    warm_vision: int = 400
    ramp: int = 1500
    last_phase: int = 4500
    weight_decay: float = 0.05
    seed: int = 1
    bf16: bool = False

    def learning_rate(self, step: int) -> float:
        return self.lr * min(1.0, (step + 1) / self.warmup, max(0.02, (self.steps - step) / self.decay))

    def hardness(self, step: int) -> float:
        """0 during the vision warm-up, then rising to 1 over `ramp` steps."""
        return float(np.clip((step - self.warm_vision) / self.ramp, 0, 1))


def draw_batch(
    rng: np.random.Generator, encoder: DocumentEncoder, hardness: float, tokens: int, *, last_phase: bool = False
) -> list[EncodedDocument]:
    """Documents of about `tokens` tokens in all."""
    batch: list[EncodedDocument] = []
    while tokens > 0:
        batch.append(encoder(draw_document(rng, hardness, last_phase=last_phase)))
        tokens -= len(batch[-1].input_ids)
    return batch


def batch_loss(model: PreTrainedModel, batch: list[EncodedDocument]) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Log-probs of the target tokens, their hidden states, and the document each belongs to."""
    packed = pack(batch)
    mask = np.concatenate([d.loss_mask for d in batch])
    owner = np.concatenate([np.full(len(d.loss_mask), i) for i, d in enumerate(batch)])
    places = np.flatnonzero(mask)
    hidden = hidden_states(model, packed)[torch.from_numpy(places - 1)]
    logprobs: Any = token_logprobs(model, hidden, packed.input_ids[torch.from_numpy(places)])
    return logprobs, hidden, owner[places]


@torch.no_grad()
def accuracy(model: PreTrainedModel, batch: list[EncodedDocument]) -> dict[str, float]:
    """Share of held-out documents of each kind whose every target token is the most likely one (teacher-forced)."""
    _, hidden, owner = batch_loss(model, batch)
    targets = np.concatenate([d.input_ids[d.loss_mask] for d in batch])
    wrong = model.get_output_embeddings()(hidden).argmax(-1).numpy() != targets
    failed = np.bincount(owner, weights=wrong, minlength=len(batch)) > 0
    kinds = np.array([d.kind for d in batch])
    return {str(kind): float(1 - failed[kinds == kind].mean()) for kind in np.unique(kinds)}


def make_optimizer(model: PreTrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.95), fused=True)


def save_state(
    path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, rng: np.random.Generator, step: int
) -> None:
    """Writes the training state beside `path` and renames it, so that a kill leaves the old one or the new one."""
    partial = path.with_suffix(".partial")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng.bit_generator.state, "step": step}
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def _rewind(log: Path, step: int) -> None:
    """Drops the lines of steps that the saved state does not know and that will be done again."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8")


def pretrain(out: Path, recipe: Recipe, *, export: Path | None = None, save_every: int = 250) -> None:
    """Trains to `recipe.steps`, from the state in `out` if there is one; at the end writes the model to `export`."""
    out.mkdir(parents=True, exist_ok=True)
    model = build_model(seed=recipe.seed)
    model.config._attn_implementation = VARLEN
    model.train()
    optimizer = make_optimizer(model, recipe)
    rng = np.random.default_rng(recipe.seed)
    encoder = DocumentEncoder(build_tokenizer())
    step, state_file = 0, out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=False)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        rng.bit_generator.state, step = state["rng"], state["step"]
        _rewind(out / "log.jsonl", step)
    held_out = draw_batch(np.random.default_rng(10_000 + recipe.seed), encoder, 1.0, 24_000)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress, (out / "log.jsonl").open("a") as log:
        bar = progress.add_task("pre-training", total=recipe.steps, completed=step)
        started, seen, losses = time.monotonic(), 0, []
        while step < recipe.steps:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate(step)
            last_phase = step >= recipe.last_phase
            batch = draw_batch(rng, encoder, recipe.hardness(step), recipe.tokens, last_phase=last_phase)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
                logprobs, _, _ = batch_loss(model, batch)
            loss = -logprobs.mean()
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            losses.append(loss.item())
            seen += sum(len(d.input_ids) for d in batch)
            if step % 50 == 0 or step == recipe.steps:
                row = {
                    "step": step,
                    "loss": float(np.mean(losses)),
                    "grad_norm": float(norm),
                    "lr": recipe.learning_rate(step - 1),
                }
                row["tokens_per_s"] = seen / (time.monotonic() - started)
                if step % 250 == 0 or step == recipe.steps:
                    row |= {f"accuracy/{kind}": value for kind, value in accuracy(model, held_out).items()}
                log.write(json.dumps(row) + "\n")
                log.flush()
                started, seen, losses = time.monotonic(), 0, []
                progress.update(bar, completed=step, description=f"pre-training, loss {row['loss']:.3f}")
            if step % save_every == 0 or step == recipe.steps:
                save_state(state_file, model, optimizer, rng, step)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")
    draw_log(read_log(out / "log.jsonl"), out / "curve.png")
    if export is not None:
        save_nano(model, export)


def main(
    out: Annotated[Path, typer.Option(help="directory of log and training state")] = Path("runs/nano"),
    export: Annotated[Path | None, typer.Option(help="where to write the finished model, e.g. assets/nano")] = None,
    steps: int = Recipe.steps,
    tokens: int = Recipe.tokens,
    lr: float = Recipe.lr,
    decay: int = Recipe.decay,
    seed: int = Recipe.seed,
    bf16: bool = Recipe.bf16,
    threads: Annotated[int, typer.Option(help="0: one a core")] = 0,
) -> None:
    """Pre-train the nano model, resuming from `out` if it holds a state."""
    if threads:
        torch.set_num_threads(threads)
    pretrain(out, Recipe(steps=steps, tokens=tokens, lr=lr, decay=decay, seed=seed, bf16=bf16), export=export)


if __name__ == "__main__":
    typer.run(main)
