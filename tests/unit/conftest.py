"""What unit tests of several packages share: a folder of images and videos."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.png 56 x 84, b.png 84 x 28, clip/ of five 56 x 56 frames, clip.gif of four at 2 frames per second."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)

    def picture(height: int, width: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    picture(56, 84).save(folder / "a.png")
    picture(84, 28).save(folder / "b.png")
    (folder / "clip").mkdir()
    for index in range(5):
        picture(56, 56).save(folder / "clip" / f"{index:03}.png")
    first, *rest = (picture(56, 56) for _ in range(4))
    first.save(folder / "clip.gif", save_all=True, append_images=rest, duration=500)
    return folder
