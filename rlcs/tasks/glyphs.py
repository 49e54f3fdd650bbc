"""Drawing text glyph by glyph, from the DejaVu fonts that come inside matplotlib (the same pixels on every machine)."""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 28  # pixels a side of one visual token of the nano model
FONTS = ("DejaVuSansMono-Bold", "DejaVuSans-Bold", "DejaVuSerif-Bold", "DejaVuSansMono")
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"  # no I, O, Q: too close to 1 and 0 at this size
READABLE = LETTERS + "23456789"

Colour = tuple[int, int, int]


@lru_cache(maxsize=256)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), size)


@lru_cache(maxsize=8192)
def glyph_mask(char: str, font: str, size: int, rotation: int = 0) -> Image.Image:
    """Coverage of one character, 8-bit grey, cropped to its ink; `rotation` in degrees counter-clockwise."""
    canvas = Image.new("L", (2 * size, 2 * size), 0)
    ImageDraw.Draw(canvas).text((size, size), char, fill=255, font=_font(font, size), anchor="mm")
    if rotation:
        canvas = canvas.rotate(rotation, resample=Image.Resampling.BILINEAR)
    # Centred on the ink, but at the baseline's height for marks such as "-": keep the vertical place.
    box = canvas.getbbox() or (0, 0, 1, 1)
    return canvas.crop((box[0], 0, box[2], 2 * size))


def draw_glyph(
    image: Image.Image, char: str, centre: tuple[float, float], *, font: str, size: int, colour: Colour, rotation: int = 0
) -> None:
    """Draws `char` with its ink centred at `centre` (x, y) in pixels."""
    mask = glyph_mask(char, font, size, rotation)
    corner = (round(centre[0] - mask.width / 2), round(centre[1] - mask.height / 2))
    image.paste(colour, (*corner, corner[0] + mask.width, corner[1] + mask.height), mask)


def draw_row(
    image: Image.Image, text: str, left: int, top: int, *, font: str = FONTS[0], size: int = 24, colour: Colour = (0, 0, 0)
) -> None:
    """Draws `text` one character to a cell of 28 pixels, from the cell whose corner is (left, top)."""
    for place, char in enumerate(text):
        centre = (left + CELL * (place + 0.5), top + CELL / 2)
        draw_glyph(image, char, centre, font=font, size=size, colour=colour)


def add_noise(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Adds Gaussian pixel noise of standard deviation 255 x `strength`."""
    if strength <= 0:
        return image
    pixels = np.asarray(image, np.float32) + rng.normal(0, 255 * strength, (image.height, image.width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
