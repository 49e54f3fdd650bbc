"""M-RoPE positions of a rendered conversation, as numpy (transformers computes them per token in Python)."""

from collections.abc import Sequence

import numpy as np


def mrope_positions(
    input_ids: np.ndarray, grids_thw: Sequence[Sequence[int]], *, image_token_id: int | None, merge_size: int = 2
) -> np.ndarray:
    """int64 [3, T]: temporal, height and width positions of every token, as `Glm4vModel.get_rope_index` gives them.

    `grids_thw` lists each image's (t, h, w) grid in patches, in order of appearance; a video of t frames counts as t images,
    since GLM-4V puts a timestamp between frames. Text advances all three rows by one; an image of h x w merged tokens
    spans a grid and advances them by max(h, w). Raises ValueError when image tokens and grids disagree.
    """
    positions = np.empty((3, len(input_ids)), np.int64)
    frames = [(h // merge_size, w // merge_size) for t, h, w in grids_thw for _ in range(t)]
    is_image = np.zeros(len(input_ids), bool) if image_token_id is None else input_ids == image_token_id
    expected = sum(h * w for h, w in frames)
    if int(is_image.sum()) != expected:
        raise ValueError(
            f"{int(is_image.sum())} image tokens but the media have {expected} features; render text and media together"
        )
    starts = np.flatnonzero(is_image & ~np.concatenate(([False], is_image[:-1])))
    cursor, position = 0, 0
    for start, (h, w) in zip(starts.tolist(), frames, strict=True):
        text = start - cursor
        positions[:, cursor:start] = np.arange(position, position + text)
        position += text
        block = positions[:, start : start + h * w]
        block[0] = position
        block[1] = position + np.repeat(np.arange(h), w)
        block[2] = position + np.tile(np.arange(w), h)
        position += max(h, w)
        cursor = start + h * w
    positions[:, cursor:] = np.arange(position, position + len(input_ids) - cursor)
    return positions
