"""verl's FSDP engine with a forward pass for GLM-4V's images and videos that fits our batches, and with M-RoPE positions.

verl replaces the model's own by one that expects transformers 4's vision tower and videos under a token of their own (0.9.1,
verl/models/transformers/glm4v.py); GLM-4.5V (`glm4v_moe`) it leaves as transformers has it, where a rank whose batch holds no
image does not run the sharded vision tower and the others wait for it. verl also shards every `nn.Embedding` by itself, and
the tower reads its position embeddings without calling them, so that it would find one rank's part; and its count of operations
reads GLM-4V's sizes where transformers 4 had them. The engine is registered for the vendor `VENDOR`, which verl takes from
`VERL_ENGINE_VENDOR`; other models' forward passes are verl's.

Positions come to the engine as those in the text, int64 [T] of each sample, and it makes the four rows of M-RoPE of them.
Carried through the TransferQueue as four rows they would break where all samples of a batch are of one length: verl then takes
another dimension of a jagged tensor for the ragged one.
"""

from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from verl.utils.flops_counter import ESTIMATE_FUNC
from verl.utils.tensordict_utils import nested_tensor_from_tensor_list
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead, FSDPEngineWithValueHead

from rlcs.verl.training import CosineSchedule
from rollout.positions import mrope_positions
from sft.schedule import learning_rate

VENDOR = "rlcs"
_DEVICES = ["cuda", "npu", "cpu"]


class _Ours:
    """Mixed into an engine: mends the model after verl has built and patched it, makes M-RoPE positions, and counts the steps
    of a schedule as our own trainers do.
    """

    model_config: Any
    optimizer_config: Any

    def _build_module(self) -> torch.nn.Module:
        module = super()._build_module()  # type: ignore[misc]
        inner = getattr(module, "model", None)
        if module.config.model_type in ("glm4v", "glm4v_moe") and inner is not None:
            inner.forward = MethodType(glm_forward, inner)
            embeddings = inner.visual.embeddings
            embeddings.position_embedding = PositionTable(embeddings.position_embedding.weight)
        return module

    def _build_lr_scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        settings = self.optimizer_config
        if settings.lr_scheduler_type != "cosine" or settings.num_cycles != 0.5 or settings.lr_warmup_steps_ratio:
            # Of verl.overrides: ours set none of these otherwise.
            return super()._build_lr_scheduler(optimizer)  # type: ignore[misc]
        schedule, total = CosineSchedule(settings.lr_warmup_steps, settings.min_lr_ratio), settings.total_training_steps
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(schedule, step, total))

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        config = self.model_config.hf_config
        if getattr(config, "vision_config", None) is not None and micro_batch["position_ids"].dim() == 2:
            media = [getattr(one, "data", one) or {} for one in micro_batch["multi_modal_inputs"]]
            micro_batch["position_ids"] = batch_positions(micro_batch["input_ids"].unbind(), media, config)
        return super().prepare_model_inputs(micro_batch)  # type: ignore[misc, no-any-return]


class PositionTable(torch.nn.Module):
    """An embedding's weights [places, D] under the same name, gathered with the module that reads them."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight = weight


@EngineRegistry.register("language_model", ["fsdp", "fsdp2"], _DEVICES, VENDOR)
class PolicyEngine(_Ours, FSDPEngineWithLMHead):
    """The actor's and the reference policy's."""


@EngineRegistry.register("value_model", ["fsdp", "fsdp2"], _DEVICES, VENDOR)
class CriticEngine(_Ours, FSDPEngineWithValueHead):
    """The critic's."""


def batch_positions(ids_B: Sequence[torch.Tensor], media_B: Sequence[Mapping[str, Any]], config: Any) -> torch.Tensor:
    """Positions of B samples, jagged [B, 4, T]: those in the text and the three of M-RoPE. `media_B` as from
    `rlcs.verl.prompts.model_media`, {} for a sample without images.
    """
    merge, image = config.vision_config.spatial_merge_size, config.image_token_id
    found = []
    for ids, media in zip(ids_B, media_B, strict=True):
        grids = media["image_grid_thw"].tolist() if media else []
        spatial = mrope_positions(ids.cpu().numpy(), grids, image_token_id=image, merge_size=merge)
        text = np.arange(len(ids))[None]
        found.append(torch.from_numpy(np.concatenate([text, spatial])).to(ids.device))
    return nested_tensor_from_tensor_list(found, ragged_idx=2)


def decoder_flops(config: Any, *args: Any) -> float:
    """verl's estimate of operations a second for a dense decoder, of GLM-4V's; the vision tower is left out, as there."""
    return float(ESTIMATE_FUNC["qwen2"](config.get_text_config(), *args))


ESTIMATE_FUNC["glm4v"] = decoder_flops


def glm_forward(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    pixel_values: torch.Tensor | None = None,
    image_grid_thw: torch.Tensor | None = None,
    inputs_embeds: torch.Tensor | None = None,
    pixel_values_videos: torch.Tensor | None = None,
    video_grid_thw: torch.Tensor | None = None,
    mm_token_type_ids: torch.Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """`Glm4vModel.forward` for B sequences of T tokens: input_ids [B, T] or packed [1, T], position_ids [4, B, T]. Images, and
    videos as their frames, come as pixel_values [patches, values] with image_grid_thw [N, 3] in the order of the tokens.

    A batch without images runs the vision tower on an empty one that counts nothing, so that all ranks gather its weights. The
    arguments after the grid are what transformers' heads pass on; with batches of verl's they are None.
    """
    embeds = model.get_input_embeddings()(input_ids)
    if pixel_values is None:
        pixels, grid = _blank(model.config.vision_config, embeds)
        features = model.visual(pixels.to(model.visual.dtype), grid_thw=grid).pooler_output
        embeds = embeds + 0.0 * features.mean()
    else:
        features = model.visual(pixel_values.to(model.visual.dtype), grid_thw=image_grid_thw).pooler_output
        places = input_ids == model.config.image_token_id
        if int(places.sum()) != len(features):
            raise ValueError(f"{int(places.sum())} image tokens in the batch but {len(features)} features")
        embeds = embeds.masked_scatter(places[..., None], features.to(embeds.dtype))
    output = model.language_model(
        input_ids=None, inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids, **kwargs
    )
    output.rope_deltas = None  # transformers' own head hands it on
    output.router_logits = None  # read by the head of GLM-4.5V
    return output


def _blank(vision: Any, embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest image the tower takes: pixels [patches, values] of zeros and its grid [1, 3]."""
    side = vision.spatial_merge_size
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    return embeds.new_zeros(side**2, values), torch.tensor([[1, side, side]], device=embeds.device)
