"""One contender of benchmarks/local_vs_trl.py in a process of its own: `rlcs` or TRL, reinforcement learning or fine-tuning.

    python benchmarks/local_vs_trl_contenders.py '{"contender": "trl", "kind": "rl", ...}'      (a `Spec` as JSON)

Prints one line of JSON: seconds of each step but the first, tokens, peak memory, and of fine-tuning the mean loss of all steps.
Neither contender scores answers with a verifier: both take the parity of a checksum of the response, so that groups are mixed
and no time goes into anything but generation, training and what the loops do around them. No end-of-turn token can be drawn:
all responses have one length.
"""

import contextlib
import io
import itertools
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

RESULT = "result: "


@dataclass
class Spec:
    """What to run. `data`: JSON Lines of problems (rl) or examples (sft); `tokens`: length of every response."""

    contender: str
    kind: str
    model: str
    data: str
    out: str
    steps: int
    threads: int
    batch: int
    """Groups (rl) or examples (sft) of a step."""
    group: int = 8
    tokens: int = 64
    budget: int = 1024
    ours: dict[str, Any] = field(default_factory=dict)
    """Settings of ours that a workload changes."""
    trl: dict[str, Any] = field(default_factory=dict)
    """TRL's settings that a workload or a search changes."""


def parity(text: str) -> float:
    """A reward that half of all responses get."""
    return float(zlib.crc32(text.encode()) & 1)


def rows_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


# --- rlcs ---------------------------------------------------------------------------------------------------------------


METRICS = {
    "rl": {
        "tokens": "tokens",
        "trained": "policy/trained_tokens",
        "generate": "seconds/generate",
        "train": "seconds/train",
        "mfu": "policy/mfu",
        "padding": "policy/padding_fraction",
        "unfilled": "policy/unfilled_fraction",
    },
    "sft": {
        "tokens": "packed_tokens",
        "trained": "target_tokens",
        "mfu": "mfu",
        "padding": "padding_fraction",
        "unfilled": "unfilled_fraction",
    },
}
"""What of a run's metrics is reported, and under which name."""


class WithoutPandas(PathFinder):
    """Finds all but pandas, which TRL brings (through datasets) and `pip install rlcs` does not: pyarrow imports it where it
    finds it.
    """

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        return None if fullname == "pandas" else super().find_spec(fullname, path, target)


def run_rlcs(spec: Spec) -> dict[str, Any]:
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # as the command has it; OpenMP is left as TRL has it
    sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutPandas
    rows, cpu_seconds = with_cpu_seconds(rlcs_rl if spec.kind == "rl" else rlcs_sft, spec)
    seconds = [b["time"] - a["time"] for a, b in itertools.pairwise(rows)]
    steps = rows[1:]
    found = {"seconds": seconds, "peak_memory_mb": steps[-1]["peak_memory_mb"], "cpu_seconds": cpu_seconds}
    if spec.kind == "sft":
        found["loss"] = sum(row["loss"] for row in rows) / len(rows)
    return found | {name: [row[metric] for row in steps] for name, metric in METRICS[spec.kind].items()}


def rlcs_settings(spec: Spec) -> dict[str, Any]:
    """What the configurations of both kinds have in common."""
    return {
        "model": spec.model,
        "out": Path(spec.out),
        "threads": spec.threads,
        "steps": spec.steps,
        "token_budget": spec.budget,
        "lr": 1e-5,
        "warmup_steps": 0,
        "loggers": [],
        **spec.ours,
    }


def with_cpu_seconds(run: Callable[[Spec], list[dict[str, Any]]], spec: Spec) -> tuple[list[dict[str, Any]], list[float]]:
    """The run's rows, and the processor seconds between them."""
    from sft.rundir import RunDir

    times: list[float] = []
    log = RunDir.log

    def stamped(self: RunDir, step: int, metrics: Mapping[str, float]) -> None:
        log(self, step, metrics)
        times.append(time.process_time())

    RunDir.log = stamped  # type: ignore[method-assign]
    rows = run(spec)
    return rows, [b - a for a, b in itertools.pairwise(times)]


def rlcs_rl(spec: Spec) -> list[dict[str, Any]]:
    """`rlcs.rl.run_rl` as it is but for the reward and the end of responses."""
    import numpy as np
    from rich.console import Console

    import rlcs.rl
    from rewards.verdict import Verdict
    from rlcs.rl_config import RlConfig
    from rollout.chat import ChatRenderer

    class Unending(ChatRenderer):
        def suppressed_ids(self, vocabulary: int) -> np.ndarray:
            return np.union1d(super().suppressed_ids(vocabulary), np.array(self.stop_ids))

    class Parity(contextlib.AbstractContextManager["Parity"]):
        workers = 1

        def __exit__(self, *_: object) -> None:
            return None

        def score_batch(self, rows: Sequence[dict[str, Any]]) -> list[Verdict]:
            scores = [parity(row["response"]) for row in rows]
            return [Verdict(score, score == 1.0, "ok", reason="parity") for score in scores]

    rlcs.rl.ChatRenderer = Unending  # type: ignore[misc]
    rlcs.rl.scoring_pool = lambda config: Parity()  # type: ignore[assignment,return-value]
    config = RlConfig(
        problems=Path(spec.data),
        groups_per_step=spec.batch,
        group_size=spec.group,
        sampler="uniform",
        nothink_ratio=1.0,
        think_tokens=0,
        answer_tokens=spec.tokens,
        **rlcs_settings(spec),
    )
    rlcs.rl.run_rl(config, console=Console(file=io.StringIO()))
    return rows_of(f"{spec.out}/metrics.jsonl")


def rlcs_sft(spec: Spec) -> list[dict[str, Any]]:
    from rich.console import Console

    from sft.config import SftConfig
    from sft.train import run_sft

    config = SftConfig(data=Path(spec.data), batch_size=spec.batch, nothink_ratio=0.0, **rlcs_settings(spec))
    run_sft(config, console=Console(file=io.StringIO()))
    return rows_of(f"{spec.out}/metrics.jsonl")


# --- TRL ----------------------------------------------------------------------------------------------------------------

TRL_COMMON = {
    # The optimiser step in one kernel; the same update as ours.
    "optim": "adamw_torch_fused",
    "learning_rate": 1e-5,
    "lr_scheduler_type": "constant",
    "adam_beta2": 0.95,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    # TRL's defaults are bfloat16 autocast and gradient checkpointing; docs/speed.md has the first tried here; the second
    # computes every layer's activations twice.
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1000,
    # Workers would be copies of the process that compete for the same cores.
    "dataloader_num_workers": 0,
}
"""TRL's settings for this machine; docs/speed.md says which were tried and which were not."""


def run_trl(spec: Spec) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, TrainerCallback

    from rollout.memory import peak_memory_mb

    torch.set_num_threads(spec.threads)
    options = dict(spec.trl)
    attention, dtype = options.pop("attention", "sdpa"), options.pop("dtype", "float32")
    pictures = "vision_config" in json.loads((Path(spec.model) / "config.json").read_text())
    family, processing = (AutoModelForImageTextToText, AutoProcessor) if pictures else (AutoModelForCausalLM, AutoTokenizer)
    model = family.from_pretrained(spec.model, dtype=getattr(torch, dtype), attn_implementation=attention)
    processor = processing.from_pretrained(spec.model, padding_side="left")

    class Stamps(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []
            self.cpu_times: list[float] = []
            self.memory = 0.0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.times.append(time.perf_counter())
            self.cpu_times.append(time.process_time())
            self.memory = peak_memory_mb()

    stamps = Stamps()
    trainer, tokens = (trl_rl if spec.kind == "rl" else trl_sft)(spec, options, model, processor, stamps)
    trained = trainer.train()
    times = stamps.times
    seconds = [b - a for a, b in itertools.pairwise(times)]
    cpu_seconds = [b - a for a, b in itertools.pairwise(stamps.cpu_times)]
    found: dict[str, Any] = {"seconds": seconds, "peak_memory_mb": stamps.memory, "cpu_seconds": cpu_seconds}
    if spec.kind == "rl":
        logged = trainer.state.log_history[0] if trainer.state.log_history else {}
        found["logged"] = {name: value for name, value in logged.items() if "length" in name or name == "num_tokens"}
    else:
        found["loss"] = trained.training_loss
    return found | {"tokens": [tokens] * len(seconds)}


def trl_settings(spec: Spec, options: dict[str, Any], samples: int) -> dict[str, Any]:
    """What the configurations of both trainers have in common: one update on all of `samples` a step, `micro` in a pass."""
    options = dict(options)
    micro = options.pop("micro", samples)
    return {
        **TRL_COMMON,
        "output_dir": spec.out,
        "max_steps": spec.steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": samples // micro,
        **options,
    }


def trl_rl(spec: Spec, options: dict[str, Any], model: Any, processor: Any, stamps: Any) -> tuple[Any, float]:
    """(trainer, tokens generated in a step)."""
    from datasets import Dataset
    from PIL import Image
    from trl import GRPOConfig, GRPOTrainer

    root, rows = Path(spec.data).parent, []
    for row in rows_of(spec.data):
        text, names = flattened(row["messages"][-1]["content"])
        pictures = [Image.open(root / name).convert("RGB") for name in names]
        found = {"prompt": [{"role": "user", "content": text}]}
        rows.append(found | ({"images": pictures} if pictures else {}))
    samples = spec.batch * spec.group
    config = GRPOConfig(
        num_generations=spec.group,
        num_iterations=1,  # on policy: no pass for old log-probabilities
        beta=0.0,  # no reference model
        epsilon_high=0.28,
        loss_type="grpo",  # mean over samples, as ours
        max_completion_length=spec.tokens,
        generation_kwargs={"min_new_tokens": spec.tokens},
        chat_template_kwargs={"enable_thinking": False},
        shuffle_dataset=False,
        **trl_settings(spec, options, samples),
    )

    def reward(completions: Sequence[Any], **_: Any) -> list[float]:
        return [parity(completion[0]["content"]) for completion in completions]

    trainer = GRPOTrainer(
        model, reward, config, train_dataset=Dataset.from_list(rows), processing_class=processor, callbacks=[stamps]
    )
    return trainer, float(samples * spec.tokens)


def trl_sft(spec: Spec, options: dict[str, Any], model: Any, processor: Any, stamps: Any) -> tuple[Any, float]:
    """(trainer, tokens of prompts and responses in a step). Text comes as token ids, those of our own rendering; pictures
    must go through TRL's collator.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = rows_of(f"{spec.data}.trl")
    if "messages" in rows[0]:
        from PIL import Image

        root = Path(spec.data).parent
        for row in rows:
            *prompt, answer = row.pop("messages")
            row |= {"prompt": prompt, "completion": [answer]}
            row["images"] = [Image.open(root / name).convert("RGB") for name in row["images"]]
    tokens = sum(row.pop("tokens") for row in rows) / spec.steps
    config = SFTConfig(max_length=None, **trl_settings(spec, options, spec.batch))
    trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=processor, callbacks=[stamps])
    return trainer, tokens


# --- data ---------------------------------------------------------------------------------------------------------------


def prepare(spec: Spec) -> dict[str, Any]:
    """Writes the workload's data: exactly as many problems or examples as the run takes, so that both see each once."""
    from rlcs.tasks.write import write_tasks

    wanted, folder = spec.batch * spec.steps, Path(spec.data).parent
    source = spec.trl["source"]
    if source in ("text", "pictures"):
        write_tasks(folder, train=2 * wanted, sft=2 * wanted, heldout=1, sft_heldout=1, seed=0)
        rows = rows_of(str(folder / ("train.jsonl" if spec.kind == "rl" else "sft.jsonl")))
        rows = [row for row in rows if _has_picture(row) == (source == "pictures")]
    else:
        folder.mkdir(parents=True)
        rows = rows_of(source)
    if len(rows) < wanted:
        rows *= -(-wanted // len(rows))
    step = len(rows) / wanted
    chosen = [{**rows[int(i * step)], "id": str(i)} for i in range(wanted)]
    Path(spec.data).write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    if spec.kind == "sft":
        _write_trl_examples(spec)
    return {}


def flattened(content: str | list[dict[str, Any]]) -> tuple[str, list[str]]:
    """A message's text and the names of its pictures."""
    if isinstance(content, str):
        return content, []
    return "".join(part.get("text", "") for part in content), [part["image"] for part in content if part["type"] == "image"]


def _has_picture(row: dict[str, Any]) -> bool:
    content = next(message for message in row["messages"] if message["role"] == "user")["content"]
    return not isinstance(content, str)


def _write_trl_examples(spec: Spec) -> None:
    from transformers import AutoProcessor, AutoTokenizer

    from rollout.chat import ChatRenderer

    pictures = "vision_config" in json.loads((Path(spec.model) / "config.json").read_text())
    renderer = ChatRenderer((AutoProcessor if pictures else AutoTokenizer).from_pretrained(spec.model))
    found = []
    for row in rows_of(spec.data):
        encoded = renderer.example(row["messages"], root=Path(spec.data).parent)
        tokens = {"tokens": len(encoded.input_ids)}
        if not encoded.media:
            labels = [i if learn else -100 for i, learn in zip(encoded.input_ids.tolist(), encoded.loss_mask, strict=True)]
            found.append({"input_ids": encoded.input_ids.tolist(), "labels": labels} | tokens)
            continue
        images, messages = [], []
        for message in row["messages"]:
            text, names = flattened(message["content"])
            images += names
            messages.append({"role": message["role"], "content": text})
        found.append({"messages": messages, "images": images} | tokens)
    Path(f"{spec.data}.trl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


def main() -> None:
    spec = Spec(**json.loads(sys.argv[1]))
    os.environ["HF_HUB_OFFLINE"] = "1"
    run = {"rlcs": run_rlcs, "trl": run_trl, "prepare": prepare}[spec.contender]
    with contextlib.redirect_stdout(sys.stderr):
        found = run(spec)
    print(RESULT + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
