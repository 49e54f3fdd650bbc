"""Rendered prompts as vLLM takes them: our tokens and pixels go in as they are, and vLLM renders nothing itself."""

from collections import Counter
from typing import Any

import numpy as np
import torch
from vllm.inputs import mm_input, tokens_input
from vllm.multimodal.cache import MultiModalProcessorSenderCache
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems, PlaceholderRange

from rollout.encoded import Encoded
from rollout.media import Media

# Of each kind of media: the arguments of the model for pixels and grids.
_ARGUMENTS = {"image": ("pixel_values", "image_grid_thw"), "video": ("pixel_values_videos", "video_grid_thw")}


def engine_input(encoded: Encoded, *, image_token_id: int | None, merge_size: int) -> Any:
    """vLLM's engine input for a rendered prompt of GLM-4V, of Qwen3-VL (images alone) or of a text-only model.

    Raises ValueError when visual tokens and media do not match.
    """
    ids = encoded.input_ids
    if not encoded.media:
        return tokens_input(ids.tolist())
    places = _placeholders(ids, encoded.media, image_token_id, merge_size)
    kwargs: dict[str, Any] = {}
    fields: dict[str, MultiModalFieldConfig] = {}
    for kind, (pixels, grid) in _ARGUMENTS.items():
        mine = [item for item in encoded.media if item.kind == kind]
        if mine:
            grids = torch.from_numpy(np.stack([item.grid_thw for item in mine]))
            kwargs |= {pixels: torch.from_numpy(np.concatenate([item.pixel_values for item in mine])), grid: grids}
            fields[pixels] = MultiModalFieldConfig.flat_from_sizes(kind, grids.prod(-1))
            fields[grid] = MultiModalFieldConfig.batched(kind, keep_on_cpu=True)
    kinds = list(dict.fromkeys(item.kind for item in encoded.media))
    return mm_input(
        ids.tolist(),
        MultiModalKwargsItems.from_hf_inputs(kwargs, fields),
        {kind: [item.key for item in encoded.media if item.kind == kind] for kind in kinds},
        {kind: [place for item, place in zip(encoded.media, places, strict=True) if item.kind == kind] for kind in kinds},
    )


def without_known_media(inputs: Any, encoded: Encoded, cache: Any) -> Any:
    """`inputs` of `engine_input` without the pixels that the engine's process holds, for a request sent right after this.

    `cache`: vLLM's record of what is held there; None or another kind of cache holds nothing. It stays true as long as
    both sides see all media in the same order.
    """
    if not encoded.media or not isinstance(cache, MultiModalProcessorSenderCache):
        return inputs
    seen, kwargs = Counter[str](), {kind: list(items) for kind, items in inputs["mm_kwargs"].items()}
    for item in encoded.media:
        cache.touch_sender_cache_item(item.key)
    for item in encoded.media:
        place = seen[item.kind]
        kwargs[item.kind][place], _ = cache.get_and_update_item((kwargs[item.kind][place], []), item.key)
        seen[item.kind] += 1
    return {**inputs, "mm_kwargs": MultiModalKwargsItems(kwargs)}


def _placeholders(
    ids: np.ndarray, media: tuple[Media, ...], image_token_id: int | None, merge_size: int
) -> list[PlaceholderRange]:
    """Where each item's features go. A video's range holds the time stamps between its frames, which get none."""
    visual = np.flatnonzero(ids == image_token_id)
    counts = [int(np.prod(item.grid_thw)) // merge_size**2 for item in media]
    if sum(counts) != len(visual):
        raise ValueError(f"{len(visual)} visual tokens for media of {sum(counts)} features; render prompt and media together")
    found, cursor = [], 0
    for count in counts:
        first, last = int(visual[cursor]), int(visual[cursor + count - 1])
        held = torch.from_numpy(ids[first : last + 1] == image_token_id)
        found.append(PlaceholderRange(offset=first, length=len(held), is_embed=None if bool(held.all()) else held))
        cursor += count
    return found
