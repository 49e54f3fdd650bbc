"""Sizes of a model's parts in memory, from its configuration alone: it is built on PyTorch's meta device, without weights, so
parameters are counted and not estimated. `rlcs.memory_plan` puts them together for a run.

What autograd keeps of a layer follows the way of counting of Korthikanti et al. (arXiv 2205.05198, section 4.1), for
transformers' layers as they are: RMSNorm in float32, rotary embeddings, grouped queries, gated MLP, `rollout.attention`. Not
counted: padding of ragged packs, copies of a shared prompt's keys, what an allocator cannot use.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from rollout.head import kept_width, tile_width
from rollout.lora import target_layers
from rollout.memory import LARGE
from rollout.shared_prefix import copies_prompts
from sft.config import LoraConfig
from sft.optimizers import OptimizerKind
from sft.policy import refuse_unknown_family

_FLOAT = 4
_GROWTH = 64  # as in `rollout.shared_prefix`; a test compares
_BLOCK = 256  # moments of 8 bits that share a scale in torchao
_SAMPLED = 32  # bytes per sequence and vocabulary entry in `rollout.sampling`: four float32 and two float64 tensors


@dataclass(frozen=True)
class Architecture:
    """Widths that memory depends on, and the model itself on the meta device. `patch`: values of a patch of pixels;
    `deep_mergers`: inner vision layers whose features reach the decoder (Qwen3-VL's DeepStack)."""

    skeleton: PreTrainedModel
    layers: int
    hidden: int
    query: int
    key: int
    inner: int
    vocabulary: int
    vision_layers: int = 0
    vision_hidden: int = 0
    vision_inner: int = 0
    merger_inner: int = 0
    deep_mergers: int = 0
    patch: int = 0
    merge_area: int = 1

    @classmethod
    def of(cls, config: PretrainedConfig) -> "Architecture":
        """Builds the skeleton. Raises ValueError for a family that the trainer refuses."""
        refuse_unknown_family(config, config.model_type)
        text, vision = config.get_text_config(), getattr(config, "vision_config", None)
        family = AutoModelForCausalLM if vision is None else AutoModelForImageTextToText
        with torch.device("meta"):
            skeleton = family.from_config(copy.deepcopy(config), attn_implementation="sdpa")
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        seen: dict[str, int] = {}
        if vision is not None:
            visual = skeleton.model.visual
            seen = {
                "vision_layers": vision.depth,
                "vision_hidden": vision.hidden_size,
                "vision_inner": _last_linear(visual.blocks[0].mlp).in_features,
                "merger_inner": _last_linear(visual.merger).in_features,
                "deep_mergers": len(getattr(visual, "deepstack_merger_list", ())),
                "patch": visual.patch_embed.proj.weight[0].numel(),
                "merge_area": vision.spatial_merge_size**2,
            }
        return cls(
            skeleton,
            text.num_hidden_layers,
            text.hidden_size,
            head * text.num_attention_heads,
            head * (text.num_key_value_heads or text.num_attention_heads),
            text.intermediate_size,
            text.vocab_size,
            **seen,
        )

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.skeleton.parameters())

    @property
    def decoder_layer(self) -> nn.Module:
        model = self.skeleton.model
        return (model.language_model if self.vision_layers else model).layers[0]


@dataclass(frozen=True)
class Trained:
    """What an optimiser updates: numbers, tensors, bytes a number, those of its two moments, whether the vision tower is among
    it, and the inputs [features a token] that adapters keep of a decoder's and of a vision layer in float32."""

    numel: int
    tensors: int
    itemsize: int
    vision: bool
    kept: int = 0
    vision_kept: int = 0
    moments: float = 2.0 * _FLOAT

    @classmethod
    def of(cls, model: Architecture, lora: LoraConfig | None, itemsize: int, optimizer: OptimizerKind = "adamw") -> "Trained":
        """Raises ValueError for LoRA targets that the model has not."""
        moments = 2.0 * _FLOAT if optimizer == "adamw" else 2.0 * (1.0 + _FLOAT / _BLOCK)
        if lora is None:
            tensors = len(list(model.skeleton.parameters()))
            return cls(model.parameters, tensors, itemsize, model.vision_layers > 0, moments=moments)
        layers = target_layers(model.skeleton, lora.targets)
        numel = sum(lora.rank * (layer.in_features + layer.out_features) for layer in layers.values())
        seen = {name: layer for name, layer in layers.items() if ".visual." in f".{name}."}
        kept, vision_kept = (
            sum(layer.in_features + lora.rank for layer in chosen) // max(count, 1)
            for chosen, count in (
                ([layer for name, layer in layers.items() if name not in seen], model.layers),
                (seen.values(), model.vision_layers),
            )
        )
        return cls(numel, 2 * len(layers), _FLOAT, bool(seen), kept, vision_kept, moments)

    @property
    def copies(self) -> int:
        """Float32 copies of what is trained in half precision (`sft.optimizers.MasterWeights`)."""
        return self.numel * _FLOAT if self.itemsize < _FLOAT else 0

    @property
    def gradients(self) -> int:
        """In float32 for the update, whatever they were computed in."""
        return self.numel * _FLOAT

    @property
    def optimizer(self) -> float:
        return self.moments * self.numel + _FLOAT * self.tensors


def _last_linear(module: nn.Module) -> nn.Linear:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]


def _kept_by_layer(model: Architecture, b: int, *, vision: bool, gating_again: bool = False) -> int:
    """Bytes of a token's activations in one layer, `b` the bytes of a number.

    A norm keeps its input in float32, the normalised value and, where a matrix product reads it, its output. Rotary
    embeddings keep queries, keys and their rotated halves (in float32 in the vision tower). Attention keeps queries, keys,
    values and twice its output, as it comes and as laid end to end again. The MLP keeps gate, its activation, up and their
    product; the decoder of a large model the first and third alone (`rollout.gating`), one without gate (Qwen3-VL's vision
    tower, whose LayerNorms keep input and output alone) half as well.
    """
    if vision:
        d, f = model.vision_hidden, model.vision_inner
        block = model.skeleton.model.visual.blocks[0]
        norm = 2 * b if isinstance(block.norm1, nn.LayerNorm) else _FLOAT + 2 * b
        gated = sum(isinstance(layer, nn.Linear) for layer in block.mlp.modules()) > 2
        return 2 * norm * d + 4 * _FLOAT * d + 3 * b * d + 2 * b * d + (4 if gated else 2) * b * f
    d, q, k, f = model.hidden, model.query, model.key, model.inner
    norms = [name for name, _ in model.decoder_layer.named_modules() if name.rpartition(".")[2].endswith("norm")]
    heads = any(name.endswith(("q_norm", "k_norm")) for name in norms)
    after = sum("." not in name for name in norms) - 2  # norms of a branch's output (GLM-4), read by an addition alone
    kept = 2 * (_FLOAT + 2 * b) * d + after * (_FLOAT + b) * d + heads * (_FLOAT + b) * (q + k)
    return kept + 2 * b * (q + k) + b * (q + 2 * k) + 2 * b * q + (2 if gating_again else 4) * b * f


def activation_bytes(model: Architecture, trained: Trained, tokens: int, itemsize: int, *, checkpointing: bool) -> float:
    """Activations of `tokens` packed text tokens and the gradients of one layer of them."""
    again = not checkpointing and model.parameters * itemsize > LARGE
    kept = _kept_by_layer(model, itemsize, vision=False, gating_again=again) + _cast(trained.kept, itemsize)
    backward = itemsize * (4 * model.inner + 2 * model.hidden)
    layers = model.layers * itemsize * model.hidden + kept if checkpointing else model.layers * kept
    ends = (_FLOAT + 3 * itemsize) * model.hidden  # embeddings, the last norm
    return tokens * float(layers + ends + backward)


def vision_bytes(model: Architecture, trained: Trained, visual_tokens: int, itemsize: int, *, checkpointing: bool) -> float:
    """Activations of the vision tower for images of so many tokens; a frozen one holds a layer at a time,
    and the features of inner layers that go to the decoder."""
    patches = visual_tokens * model.merge_area
    kept = _kept_by_layer(model, itemsize, vision=True) + _cast(trained.vision_kept, itemsize)
    if not trained.vision:
        return float(patches * kept + visual_tokens * itemsize * model.deep_mergers * model.hidden)
    layers = model.vision_layers * itemsize * model.vision_hidden + kept if checkpointing else model.vision_layers * kept
    ends = itemsize * (model.patch + 4 * model.vision_hidden) + _FLOAT * model.vision_hidden
    merger = itemsize * 4 * (model.merger_inner + model.hidden) * (1 + model.deep_mergers)
    return float(patches * (layers + ends + itemsize * 4 * model.vision_inner) + visual_tokens * merger)


def _cast(inputs: int, itemsize: int) -> int:
    """Bytes of the float32 copies that float32 adapters make of another type's inputs."""
    return _FLOAT * inputs if itemsize != _FLOAT else 0


def logit_bytes(model: Architecture, tokens: int, itemsize: int, *, entropy: bool, on_gpu: bool = True) -> float:
    """What `rollout.head` holds at once: exponentials kept; a tile of logits in float32, before that in another type, and with
    the entropy their exponentials; the hidden states' gradients.
    """
    copies = _FLOAT * (2 if entropy else 1) + (0 if itemsize == _FLOAT else itemsize)
    tile, kept = (of(tokens, model.vocabulary, on_gpu=on_gpu) for of in (tile_width, kept_width))
    return float(tokens * (tile * copies + _FLOAT * (kept + model.hidden)))


def cache_bytes(model: Architecture, prompts: int, prompt_tokens: int, sequences: int, new_tokens: int, itemsize: int) -> int:
    """Keys and values that `rollout.shared_prefix` holds of a wave in which every sequence runs to its end."""
    appended = max(new_tokens - 1, 0)  # the last token is drawn, not computed on
    capacity = _GROWTH * 2 ** math.ceil(math.log2(appended / _GROWTH)) if appended > _GROWTH else _GROWTH * (appended > 0)
    copied = appended > 0 and copies_prompts(prompt_tokens, prompts, sequences)
    held = (sequences if copied else prompts) * prompt_tokens
    return 2 * model.layers * model.key * itemsize * (held + sequences * capacity)


def sampling_bytes(model: Architecture, sequences: int) -> float:
    """Distributions of one step of generation."""
    return float(_SAMPLED * sequences * model.vocabulary)
