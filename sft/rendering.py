"""Examples as model inputs, rendered by the one chat renderer and kept in memory as far as that goes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rollout.chat import ChatRenderer, Media
from rollout.encoded import Encoded
from sft.data import Example, as_nothink
from sft.update import Sample


class Renderings:
    """Renders examples in either form, and keeps what it rendered up to `cache_bytes`.

    Nothing is put out of the cache again: under a fresh shuffle every epoch, what was used last is the least likely to come
    next. An image is held once, whatever the examples and forms that show it.
    """

    def __init__(self, renderer: ChatRenderer, *, cache_bytes: int) -> None:
        self._renderer, self._room = renderer, cache_bytes
        self._encoded: dict[tuple[Example, bool], Encoded] = {}
        self._media: dict[str, Media] = {}

    def sample(self, example: Example, *, nothink: bool) -> Sample:
        """The example to train or evaluate on. Raises ValueError naming the example where it cannot be rendered."""
        nothink = nothink or not example.thinks
        encoded = self._encoded.get((example, nothink)) or self._render(example, nothink)
        return Sample(encoded, example.domain, nothink, example.id)

    def forms(self, example: Example, *, nothink: bool) -> list[Sample]:
        """The example in every form it may be asked for: as it is and, with `nothink`, in non-thinking form."""
        wanted = (False, True) if nothink and example.thinks else (False,)
        return [self.sample(example, nothink=form) for form in wanted]

    def _render(self, example: Example, nothink: bool) -> Encoded:
        encoded = self._renderer.example(example.form(nothink=nothink), root=example.root, id=example.id)
        encoded = replace(encoded, media=tuple(self._media.get(media.key, media) for media in encoded.media))
        fresh = {media.key: media for media in encoded.media if media.key not in self._media}
        arrays = [encoded.input_ids, encoded.position_ids, encoded.loss_mask, *(media.pixel_values for media in fresh.values())]
        size = sum(array.nbytes for array in arrays)
        if size <= self._room:
            self._room -= size
            self._media |= fresh
            self._encoded[example, nothink] = encoded
        return encoded


def check_nothink_form(renderer: ChatRenderer) -> None:
    """Raises ValueError unless a non-thinking example begins with the very tokens of a non-thinking prompt.

    Only then does training prepare for what rollouts ask. It holds for GLM-4.5V's chat template.
    """
    question, answer = {"role": "user", "content": "1+1"}, {"role": "assistant", "content": "<think>a</think>\n2"}
    prompt = renderer.prompt([question], root=Path(), thinking=False).encoded.input_ids
    example = renderer.example(as_nothink([question, answer]), root=Path()).input_ids
    if not np.array_equal(example[: len(prompt)], prompt):
        raise ValueError(
            f"the checkpoint's chat template writes a non-thinking prompt as {renderer.decode(prompt)!r}, but an example "
            f"rewritten to that form begins {renderer.decode(example[: len(prompt)])!r}; use a template like GLM-4.5V's, or "
            "nothink_ratio: 0"
        )
