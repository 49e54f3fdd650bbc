"""Rollout speed of the transformers engine against `model.generate`, on the same nano model, prompts and lengths.

    python benchmarks/rollout_speed.py [--prompts 32] [--group 8] [--tokens 128] [--threads 1]

Prints tokens per second of both (the median of three runs each, taken in turn) and their ratio. The model has random
weights and no stop token, so every completion has `--tokens` tokens: the figure is decoding speed, not response length.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

sys.path.remove(str(Path(__file__).resolve().parent))  # else `import rewards` would find benchmarks/rewards.py

import numpy as np
import torch
from PIL import Image

from rlcs.nano.build import build_model, build_processor
from rollout.chat import ChatRenderer, Prompt
from rollout.engine import SamplingParams
from rollout.transformers_engine import TransformersEngine


def build_prompts(renderer: ChatRenderer, count: int, folder: Path) -> list[Prompt]:
    """One 56 x 112 image and 20 to 80 characters of text each, so that prompt lengths differ."""
    rng = np.random.default_rng(0)
    prompts = []
    for index in range(count):
        name = f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (56, 112, 3), dtype=np.uint8)).save(folder / name)
        text = "What does the image say? "[:20] + "x" * (60 * index // count)
        content = [{"type": "image", "image": name}, {"type": "text", "text": text}]
        prompts.append(renderer.prompt([{"role": "user", "content": content}], root=folder, thinking=True))
    return prompts


def generate_inputs(renderer: ChatRenderer, prompts: list[Prompt]) -> dict[str, torch.Tensor]:
    """The prompts as a left-padded batch for `model.generate`."""
    longest = max(len(prompt.encoded.input_ids) for prompt in prompts)
    ids = np.zeros((len(prompts), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt.encoded.input_ids) :] = prompt.encoded.input_ids
        mask[row, longest - len(prompt.encoded.input_ids) :] = 1
    media = [prompt.encoded.media[0] for prompt in prompts]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "mm_token_type_ids": torch.tensor(renderer.processor.create_mm_token_type_ids(ids.tolist())),
        "pixel_values": torch.from_numpy(np.concatenate([item.pixel_values for item in media])),
        "image_grid_thw": torch.from_numpy(np.stack([item.grid_thw for item in media])),
    }


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    args: SimpleNamespace = parser.parse_args(namespace=SimpleNamespace())
    torch.set_num_threads(args.threads)
    processor = build_processor()
    model = build_model().eval()
    renderer = ChatRenderer(processor)
    renderer.stop_ids = (-1,)
    engine = TransformersEngine(model, renderer, max_batch=args.prompts * args.group)
    with tempfile.TemporaryDirectory() as folder:
        prompts = build_prompts(renderer, args.prompts, Path(folder))
    inputs = generate_inputs(renderer, prompts)
    sampling = SamplingParams(max_new_tokens=args.tokens)

    def ours() -> object:
        return engine.generate(prompts, args.group, sampling, generator=torch.Generator().manual_seed(0))

    def theirs() -> object:
        return model.generate(
            **inputs,
            do_sample=True,
            num_return_sequences=args.group,
            min_new_tokens=args.tokens,
            max_new_tokens=args.tokens,
            pad_token_id=0,
        )

    total = args.prompts * args.group * args.tokens
    timings = [(seconds(ours), seconds(theirs)) for _ in range(3)]
    engine_rate, generate_rate = (total / median(column) for column in zip(*timings, strict=True))
    print(f"{args.prompts} prompts x {args.group} completions x {args.tokens} tokens, {args.threads} thread(s)")
    print(f"TransformersEngine  {engine_rate:8.0f} tokens/s")
    print(f"model.generate      {generate_rate:8.0f} tokens/s")
    print(f"ratio               {engine_rate / generate_rate:8.2f}")


if __name__ == "__main__":
    main()
