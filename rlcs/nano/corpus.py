"""Pre-training documents of the nano model, drawn on the fly: strings, screens, groundings and worked arithmetic.

A document is a short text with at most one image. It is plain text, not a conversation: the chat format and the box
are left for SFT to teach. Dense targets come first (FACTS: a mixture of sparse ones left vision at chance): every visual token
of a string or a caption is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerFast
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from rlcs.nano.tokenizer import VOCAB_SIZE
from rlcs.tasks.glyphs import CELL, LETTERS, READABLE, draw_row
from rlcs.tasks.gui import Widget, box_text, describe, draw_labels, lay_out, render_screen
from rlcs.tasks.math import draw_expression
from rlcs.tasks.ocr import Rendering, render_string
from rollout.positions import mrope_positions


@dataclass(frozen=True)
class Document:
    """`prompt` is read, `target` is learnt; the image, if any, comes first."""

    kind: str
    prompt: str
    target: str
    image: Image.Image | None = None


@dataclass(frozen=True)
class PixelMedia:
    """One image as the vision tower takes it (see `rollout.chat.Media`)."""

    pixel_values: np.ndarray
    grid_thw: np.ndarray
    key: str


@dataclass(frozen=True)
class EncodedDocument:
    """A tokenised document: ids [T], positions [3, T], mask [T] of the tokens to learn, its image."""

    input_ids: np.ndarray
    position_ids: np.ndarray
    loss_mask: np.ndarray
    media: tuple[PixelMedia, ...]
    kind: str


# Renderings of strings, from plain to harder than the fourth level of the ocr family.
_STYLES = (
    Rendering((2, 3), 1, 0, 0.0),
    Rendering((3, 5), 2, 2, 0.05),
    Rendering((5, 7), 4, 3, 0.15, sizes=(20, 24)),
    Rendering((6, 9), 4, 5, 0.3, tilt=10, sizes=(18, 24)),
)


def _string(rng: np.random.Generator, hardness: float) -> Document:
    if hardness < 0.1:
        style = Rendering((1, 4), 1, 1, 0.0)
    else:
        style = _STYLES[int(rng.integers(0, 1 + round(3 * hardness)))]
    text = "".join(rng.choice(list(READABLE + "01+-*"), int(rng.integers(1, style.lengths[1] + 1))))
    image = render_string(text, style, rng)
    if rng.random() < 0.5:
        return Document("string", "", text, image)
    return Document("spelling", "Spell: ", f"{' '.join(text)} = {text}", image)


def _row(text: str) -> Image.Image:
    image = Image.new("RGB", (CELL * len(text), CELL), (255, 255, 255))
    draw_row(image, text, 0, 0)
    return image


def _arithmetic_level(rng: np.random.Generator, hardness: float) -> int:
    return 1 + int(rng.integers(0, 1 + round(3 * hardness))) if rng.random() < 0.96 else 5


def _working(rng: np.random.Generator, hardness: float) -> Document:
    expression, working, _ = draw_expression(rng, _arithmetic_level(rng, hardness))
    return Document("working", f"{expression} by columns ", working)


def _rendered_working(rng: np.random.Generator, hardness: float) -> Document:
    expression, working, _ = draw_expression(rng, _arithmetic_level(rng, hardness))
    return Document("rendered working", "By columns ", working, _row(expression))


def _answer(rng: np.random.Generator, hardness: float) -> Document:
    expression, _, total = draw_expression(rng, _arithmetic_level(rng, hardness / 2))
    if rng.random() < 0.5:
        return Document("answer", f"{expression} = ", str(total))
    return Document("rendered answer", "= ", str(total), _row(expression))


def _screen(rng: np.random.Generator, hardness: float) -> tuple[list[Widget], Image.Image]:
    width = 1 if rng.random() < 0.5 else 2
    off_grid = rng.random() < 0.5 * hardness
    count = int(rng.integers(1, 7 if width == 1 else 6))
    letters = LETTERS + "23456789"
    if width == 2 and rng.random() < 0.4:
        letters = "".join(rng.choice(list(letters), 4, replace=False))
    widgets = lay_out(rng, draw_labels(rng, count, width, alphabet=letters), fields=rng.random() < 0.5, off_grid=off_grid)
    return widgets, render_screen(widgets, rng)


def _caption(rng: np.random.Generator, hardness: float) -> Document:
    widgets, image = _screen(rng, hardness)
    if rng.random() < 0.5:
        return Document("labels", "Widgets: ", " ".join(w.label for w in widgets), image)
    return Document("caption", "Screen: ", "; ".join(describe(w) for w in widgets), image)


def _grounding(rng: np.random.Generator, hardness: float) -> Document:
    widgets, image = _screen(rng, hardness)
    widget = widgets[int(rng.integers(len(widgets)))]
    kind = "field" if widget.field else "button"
    form = int(rng.integers(3))
    if form == 0:
        return Document("grounding", f"Where is {widget.label}? ", f"{kind} at {widget.place} {box_text(widget)}", image)
    if form == 1:
        return Document("box", f"Box of {widget.label} ", box_text(widget), image)
    return Document("place", f"What is at {widget.place}? ", f"{widget.label} {kind}", image)


@dataclass(frozen=True)
class Share:
    """The weight of one kind of document at the start, in the full mixture, and in the last phase."""

    make: Callable[[np.random.Generator, float], Document]
    start: float
    full: float
    last: float


# Easy dense reading first, then the whole mixture; at the end what is learnt last, finding things on a screen, has most of it.
MIXTURE = (
    Share(_string, 0.65, 0.22, 0.17),
    Share(_working, 0.10, 0.12, 0.06),
    Share(_rendered_working, 0.05, 0.12, 0.08),
    Share(_answer, 0.05, 0.06, 0.06),
    Share(_caption, 0.10, 0.20, 0.18),
    Share(_grounding, 0.05, 0.28, 0.45),
)


def draw_document(rng: np.random.Generator, hardness: float, *, last_phase: bool = False) -> Document:
    """One document; `hardness` in [0, 1] moves from the warm-up mixture of easy readings to the full one."""
    weights = np.array([s.last if last_phase else (1 - hardness) * s.start + hardness * s.full for s in MIXTURE])
    return MIXTURE[int(rng.choice(len(MIXTURE), p=weights / weights.sum()))].make(rng, hardness)


def patchify(image: Image.Image, patch: int = CELL // 2, merge: int = 2, temporal: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [P, C * temporal * patch * patch], int64 grid [t, h, w]) as `Glm4vImageProcessor` makes them of whole cells."""
    scaled = (np.asarray(image, np.float32) / 255 - np.array(OPENAI_CLIP_MEAN, np.float32)) / np.array(
        OPENAI_CLIP_STD, np.float32
    )
    rows, columns = image.height // patch, image.width // patch
    blocks = scaled.reshape(rows // merge, merge, patch, columns // merge, merge, patch, 3).transpose(0, 3, 1, 4, 6, 2, 5)
    frames = np.repeat(blocks[..., None, :, :], temporal, axis=5)
    return frames.reshape(rows * columns, -1), np.array([1, rows, columns])


class DocumentEncoder:
    """Tokenises documents for `rollout.forward.pack`."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        token = tokenizer.convert_tokens_to_ids
        self._begin, self._image, self._end = (token(t) for t in ("<|begin_of_image|>", "<|image|>", "<|end_of_image|>"))
        self._stop = token("<|endoftext|>")
        self._serial = 0

    def __call__(self, document: Document) -> EncodedDocument:
        prefix: list[int] = []
        media: tuple[PixelMedia, ...] = ()
        if document.image is not None:
            pixels, grid = patchify(document.image)
            self._serial += 1
            media = (PixelMedia(pixels, grid, str(self._serial)),)
            prefix = [self._begin, *[self._image] * (len(pixels) // 4), self._end]
        prefix += document.prompt.encode()
        target = [*document.target.encode(), self._stop]
        ids = np.array(prefix + target, np.int64)
        if ids.max() >= VOCAB_SIZE:
            raise ValueError(f"token id {ids.max()} of a {document.kind} document is outside the vocabulary of {VOCAB_SIZE}")
        mask = np.zeros(len(ids), bool)
        mask[len(prefix) :] = True
        positions = mrope_positions(ids, [m.grid_thw.tolist() for m in media], image_token_id=self._image)
        return EncodedDocument(ids, positions, mask, media, document.kind)
