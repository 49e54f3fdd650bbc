"""Rendered conversations, as the renderer makes them and trainers and engines take them. Axis suffix: T tokens."""

from dataclasses import dataclass

import numpy as np

from rollout.media import Media


@dataclass(frozen=True, eq=False)
class Encoded:
    """A rendered conversation: input_ids int64 [T], position_ids int64 [3, T] (equal rows for text-only models),
    loss_mask bool [T] over the tokens to be predicted, media in order of appearance.
    """

    input_ids: np.ndarray
    position_ids: np.ndarray
    loss_mask: np.ndarray
    media: tuple[Media, ...]

    def extended(self, token_ids: np.ndarray, loss_mask: np.ndarray) -> "Encoded":
        """This conversation followed by generated text tokens [T'] with their loss mask [T'], at the positions an
        engine gave them: for a completion, `prompt.encoded.extended(completion.token_ids, ~completion.forced)`.
        """
        start = int(self.position_ids.max(initial=-1)) + 1
        positions = np.tile(np.arange(start, start + len(token_ids)), (3, 1))
        return Encoded(
            np.concatenate([self.input_ids, np.asarray(token_ids, np.int64)]),
            np.concatenate([self.position_ids, positions], axis=1),
            np.concatenate([self.loss_mask, np.asarray(loss_mask, bool)]),
            self.media,
        )


@dataclass(frozen=True, eq=False)
class Prompt:
    """A conversation up to the response. `prefill` is the part of the response that the prompt already holds: the empty
    thought of a non-thinking prompt, or "" where the policy writes `<think>` itself.
    """

    encoded: Encoded
    prefill: str
    thinking: bool
    id: str = ""
