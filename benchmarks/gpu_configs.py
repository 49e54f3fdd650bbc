"""The shipped one-GPU configurations run on a GPU, without their weights: memory against its plan, tokens a second.

    python benchmarks/gpu_configs.py [--models GLM-4.1V-9B-Thinking Qwen3-1.7B ...] [--steps 3] [--work DIRECTORY]
        [--device cuda] [--layers N --hidden N]

Architecture and settings are those of `configs/{sft,rl}/*.yaml` and `configs/models`, with random weights: the time and the
memory of a step do not depend on what a model has learned. Its processor is the nano model's, so that a token is a byte; the
vocabulary keeps its size, and the head prefers the ids that are bytes, so that responses are text, of ragged lengths. Random
text is never right, so a coin scores instead of the verifier: groups are mixed, and every part of a step has work to do.

RL samples with the transformers engine (vLLM is not on the machine this was written for), with shorter budgets than the
configurations', to fit in minutes. `--layers` and `--hidden` shrink the models, to try the script on a CPU. Writes
benchmarks/results/gpu_configs.json, run by run; other runs that are in it stay.
"""

import argparse
import json
import math
import multiprocessing
import platform
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from rewards.pool import ScorePool
from rewards.verdict import Verdict
from rlcs.config import load_config
from rlcs.memory_plan import DESCRIPTIONS, MemoryPlan, gib, rl_memory, sft_memory
from rlcs.nano.build import CHAT_TEMPLATE, build_processor
from rlcs.nano.tokenizer import STOP_TOKENS, VOCAB_SIZE
from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig
from rollout.memory import peak_memory_mb
from sft.config import SftConfig
from sft.train import run_sft

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {"GLM-4.1V-9B-Thinking": "glm41v_9b_lora", "Qwen3-4B": "qwen3_4b_lora", "Qwen3-1.7B": "qwen3_1b7_full"}
_UNLIKELY = 30.0  # nats that the head prefers a byte to what is none
_LENGTH = 500.0  # tokens after which a response ends of itself, on average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--runs", nargs="+", choices=("sft", "rl"), default=["sft", "rl"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--work", type=Path, help="where weights and runs go, as large as two checkpoints; absent, a temporary one"
    )
    parser.add_argument("--layers", type=int, help="decoder and vision layers, for a trial")
    parser.add_argument("--hidden", type=int, help="hidden size, for a trial")
    parser.add_argument("--side", type=int, default=448, help="pixels a side of a problem's image: 256 visual tokens")
    parser.add_argument("--batch", type=int, default=32, help="examples of an SFT step")
    parser.add_argument("--think-tokens", type=int, default=384)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gpu_configs.json")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=args.work))
    write_data(work / "data", args.side)
    kept = json.loads(args.out.read_text())["runs"] if args.out.exists() else []
    found = [run for run in kept if run["model"] not in args.models or run["run"] not in args.runs]
    try:
        for name in args.models:
            in_child(make_model, name, work / name, args.device, args.layers, args.hidden)
            for run in (one for one in (sft, rl) if one.__name__ in args.runs):
                measured_on = {"model": name, "run": run.__name__, **machine(args)}
                found.append({**measured_on, **in_child(run, name, work, args)})
                Console().print(found[-1])
                args.out.write_text(json.dumps({"runs": found}, indent=1) + "\n")
                shutil.rmtree(work / "run")
            shutil.rmtree(work / name)
    finally:
        shutil.rmtree(work)
    Console().print(table(found))


def in_child(function: Any, *args: Any) -> Any:
    """The function's result, from a process of its own: GPU memory and its peak start from nothing."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def make_model(name: str, out: Path, device: str, layers: int | None, hidden: int | None) -> None:
    """Writes the model `name` with random weights, and a processor."""
    processor = build_processor()
    tokenizer = processor.tokenizer
    config = described(name, tokenizer, layers, hidden)
    multimodal = getattr(config, "vision_config", None) is not None
    torch.set_default_dtype(torch.bfloat16 if device.startswith("cuda") else torch.float32)
    with torch.device(device):
        model = (AutoModelForImageTextToText if multimodal else AutoModelForCausalLM).from_config(config)
    prefer_bytes(model, tokenizer.convert_tokens_to_ids(list(STOP_TOKENS)))
    model.save_pretrained(out)
    if multimodal:
        processor.save_pretrained(out)
    else:
        tokenizer.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")
        tokenizer.save_pretrained(out)


def described(name: str, tokenizer: Any, layers: int | None, hidden: int | None) -> PretrainedConfig:
    """The description of `name` with the special tokens of the nano tokenizer."""
    raw = json.loads((DESCRIPTIONS / name / "config.json").read_text())
    if "vision_config" in raw:
        for kind in ("image", "video"):
            marks = {"": f"<|{kind}|>", "_start": f"<|begin_of_{kind}|>", "_end": f"<|end_of_{kind}|>"}
            raw |= {f"{kind}{part}_token_id": tokenizer.convert_tokens_to_ids(mark) for part, mark in marks.items()}
    text = raw.get("text_config", raw)
    text |= {"eos_token_id": tokenizer.convert_tokens_to_ids(list(STOP_TOKENS)), "pad_token_id": tokenizer.pad_token_id}
    if layers:
        text["num_hidden_layers"] = layers
        raw.get("vision_config", {})["depth"] = layers
        if text.get("layer_types"):
            text["layer_types"] = text["layer_types"][:layers]
    if hidden:
        heads = {"num_attention_heads": hidden // 128, "num_key_value_heads": 1}
        text |= {"hidden_size": hidden, "intermediate_size": 2 * hidden, **heads}
        if "vision_config" in raw:
            raw["vision_config"] |= {"out_hidden_size": hidden, "intermediate_size": 2 * hidden}
    return AutoConfig.for_model(**raw)


@torch.no_grad()
def prefer_bytes(model: PreTrainedModel, stops: list[int]) -> None:
    """Makes the head prefer the nano tokenizer's ids, by one hidden unit that every token sets alike."""
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = head is embeddings
    embeddings[:, 0] = loud = 8.0 if tied else 80.0
    text = torch.arange(64, 96, device=model.device)[None]
    decoder = model.model.language_model if hasattr(model.model, "language_model") else model.model
    unit = float(decoder(input_ids=text).last_hidden_state[0, :, 0].float().mean())
    byte = loud if tied else 0.0
    head[:VOCAB_SIZE, 0] = byte
    head[VOCAB_SIZE:, 0] = byte - _UNLIKELY / unit
    head[stops, 0] = byte - math.log(len(stops) * _LENGTH / 256) / unit


def write_data(out: Path, side: int) -> None:
    """Problems and examples, with a noise image or without (`text-*`)."""
    (out / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    words = ("the", "sum", "of", "both", "rows", "is", "what", "this", "chart", "shows", "in", "its", "second", "column")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("sft", "train", "text-sft", "text-train")}
    for number in range(64):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(out / f"images/{number}.png")
        text = {"type": "text", "text": "Write something long."}
        image = {"type": "image", "image": f"images/{number}.png"}
        thought = " ".join(rng.choice(words, int(rng.integers(40, 300))))
        answer = {"role": "assistant", "content": f"<think>{thought}</think>\n<|begin_of_box|>{number}<|end_of_box|>"}
        for kind, content in (("", [image, text]), ("text-", [text])):
            asked = {"id": f"{number}", "domain": "math", "messages": [{"role": "user", "content": content}]}
            rows[f"{kind}train"].append({**asked, "answer": "1"})
            rows[f"{kind}sft"].append({**asked, "messages": [*asked["messages"], answer]})
    for name, lines in rows.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def sft(name: str, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Some steps of SFT as configs/sft has them."""
    kind = "" if sees(work / name) else "text-"
    overrides = [f"data={work}/data/{kind}sft.jsonl", f"steps={args.steps}", f"batch_size={args.batch}", "warmup_steps=1"]
    config = load_config(SftConfig, ROOT / f"configs/sft/{CONFIGS[name]}.yaml", [*common(name, work, args), *overrides])
    plan = sft_memory(config)
    began = time.perf_counter()
    run_sft(config)
    return measured(work / "run", plan, args, time.perf_counter() - began)


def rl(name: str, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Some steps of RL as configs/rl has them, but for the rollout engine, the budgets and the number of groups."""
    multimodal = sees(work / name)
    overrides = [
        f"problems={work}/data/{'' if multimodal else 'text-'}train.jsonl",
        "rollout=transformers",
        "sampler=uniform",
        f"steps={args.steps}",
        f"groups_per_step={args.groups}",
        f"think_tokens={args.think_tokens}",
        f"answer_tokens={args.think_tokens}",
        "warmup_steps=1",
    ]
    config = load_config(RlConfig, ROOT / f"configs/rl/{CONFIGS[name]}.yaml", [*common(name, work, args), *overrides])
    plan = rl_memory(config, prompt_tokens=(args.side // 28) ** 2 + 40 if multimodal else 40)
    began = time.perf_counter()
    with patch.object(ScorePool, "score_batch", toss):
        run_rl(config)
    return measured(work / "run", plan, args, time.perf_counter() - began)


def sees(model: Path) -> bool:
    """Whether the model takes images."""
    return "vision_config" in json.loads((model / "config.json").read_text())


def toss(pool: ScorePool, rows: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    """Right or wrong by a coin that depends on the response alone."""
    right = [zlib.crc32(row["response"].encode()) % 2 == 0 for row in rows]
    return [Verdict(1.0, True, "ok") if heads else Verdict(0.0, False, "ok", reason="tails") for heads in right]


def common(name: str, work: Path, args: argparse.Namespace) -> list[str]:
    dtype = [] if args.device.startswith("cuda") else ["dtype=float32"]  # bfloat16 crawls on many CPUs
    return [f"model={work / name}", f"out={work / 'run'}", f"device={args.device}", "loggers=[]", *dtype]


def measured(run: Path, plan: MemoryPlan, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Peak memory beside the plan's, and medians of every figure over the steps after the first, which warms up."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = {name for row in rows for name in row if name not in ("step", "time")}
    figures = {
        name: median(float(row[name]) for row in rows[1:] if row.get(name) is not None)
        for name in sorted(names)
        if any(row.get(name) is not None for row in rows[1:])
    }
    return {
        "planned_gib": round(plan.total / 2**30, 2),
        "peak_gib": round(peak_memory_mb(args.device) / 2**10, 2),
        "plan": {row.name: gib(row.size) for row in plan.rows},
        "seconds": round(seconds, 1),
        "metrics": {name: round(value, 5) for name, value in figures.items()},
    }


def machine(args: argparse.Namespace) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.processor()
    packages = {name: version(name) for name in ("torch", "transformers", "peft")}
    return {"date": datetime.now(UTC).date().isoformat(), "device": device, "python": platform.python_version(), **packages}


def table(found: list[dict[str, Any]]) -> Table:
    shown = Table(title="shipped configurations, random weights")
    for column in ("model", "run", "planned", "peak", "seconds a step", "generate", "train"):
        shown.add_column(column)
    for one in found:
        metrics = one["metrics"]
        step = metrics.get("seconds/step", metrics.get("seconds", float("nan")))
        rates = [metrics.get(f"tokens_per_s/{part}") for part in ("generate", "train")]
        rates[1] = rates[1] or metrics.get("tokens_per_s")
        shown.add_row(
            one["model"],
            one["run"],
            f"{one['planned_gib']} GiB",
            f"{one['peak_gib']} GiB",
            f"{step:.1f}",
            *(f"{rate:,.0f} tokens/s" if rate else "" for rate in rates),
        )
    return shown


if __name__ == "__main__":
    main()
