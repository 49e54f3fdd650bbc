"""Reading a rendered string. Levels grow in length, jitter, fonts, noise and, at the top, tight pitch and rotation."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from rlcs.tasks.base import Sample, check_level
from rlcs.tasks.glyphs import CELL, FONTS, READABLE, add_noise, draw_glyph


@dataclass(frozen=True)
class Rendering:
    """How a string is drawn: characters, pitch and jitter in pixels, noise as a fraction of full scale, tilt in degrees."""

    lengths: tuple[int, int]
    fonts: int
    jitter: int
    noise: float
    pitch: int = CELL
    tilt: int = 0
    sizes: tuple[int, int] = (22, 24)


LEVELS = (
    Rendering((2, 3), 1, 0, 0.0),
    Rendering((3, 5), 2, 2, 0.05),
    Rendering((5, 7), 4, 3, 0.15, sizes=(20, 24)),
    Rendering((6, 8), 4, 4, 0.2, tilt=6, sizes=(20, 24)),
    Rendering((7, 9), 4, 5, 0.25, pitch=27, tilt=8, sizes=(18, 24)),
)


def render_string(text: str, style: Rendering, rng: np.random.Generator) -> Image.Image:
    """Draws `text` on one row of cells, with the style's random displacements, fonts, tilt and noise."""
    width = -(-(style.pitch * len(text)) // CELL) * CELL
    paper = int(rng.integers(200, 256))
    image = Image.new("RGB", (width, CELL), (paper, paper, paper))
    font = FONTS[int(rng.integers(style.fonts))]
    left = (width - style.pitch * len(text)) / 2
    for place, char in enumerate(text):
        dx, dy = rng.integers(-style.jitter, style.jitter + 1, 2)
        ink = int(rng.integers(0, 90))
        draw_glyph(
            image,
            char,
            (left + style.pitch * (place + 0.5) + dx, CELL / 2 + int(np.clip(dy, -3, 3))),
            font=font,
            size=int(rng.integers(style.sizes[0], style.sizes[1] + 1)),
            colour=(ink, ink, ink),
            rotation=int(rng.integers(-style.tilt, style.tilt + 1)),
        )
    return add_noise(image, style.noise, rng)


class OcrFamily:
    """See the module's docstring. The working spells the string, one character at a time."""

    domain = "ocr"
    levels = len(LEVELS)

    def generate(self, rng: np.random.Generator, level: int) -> Sample:
        check_level(self, level)
        style = LEVELS[level - 1]
        length = int(rng.integers(style.lengths[0], style.lengths[1] + 1))
        text = "".join(rng.choice(list(READABLE), length))
        quick, image = f"{length} characters", render_string(text, style, rng)
        return Sample("Read the text", text, " ".join(text), text, quick, text, image=image)
