"""Whether the images and videos that data files name can be used, found out with Pillow alone: no checkpoint, no torch.

The rules are those of `rollout.media` and of the image processors of GLM-4V and Qwen-VL.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageSequence

MAX_PIXELS = 89_478_485
"""Pixels of one image (Pillow's own limit against decompression bombs)."""
MAX_ASPECT = 200
"""Longest side over shortest that the processors take (`smart_resize` in transformers)."""
FRAME_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})  # of rollout.media, which needs transformers

_BROKEN = (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)  # as Pillow raises


class _Unusable(Exception):
    """The two texts of a MediaFacts.fault."""


@dataclass(frozen=True)
class Source:
    """An image, or a video: a directory of frames, an animation or, as several `paths`, a list of frames."""

    kind: Literal["image", "video"]
    paths: tuple[Path, ...]
    listed: bool = False


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """SHA-256 over the files' bytes (None when they cannot be read), and the fault (found, mend) if there is one."""

    digest: str | None
    fault: tuple[str, str] | None = None


def sources_of(messages: Sequence[Mapping[str, Any]], root: Path) -> Iterator[Source]:
    """The media of checked messages, in order; paths are relative to `root`."""
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] != "text":
                named = part[part["type"]]
                paths = named if isinstance(named, list) else [named]
                yield Source(part["type"], tuple(root / path for path in paths), isinstance(named, list))


def inspect(source: Source) -> MediaFacts:
    """Decodes every pixel of an image or video."""
    digest = hashlib.sha256()
    try:
        sizes = {size for path in _frame_paths(source) for size in _sizes(path, source, digest)}
        if len(sizes) > 1:
            found = f"{source.paths[0]}: frames of {len(sizes)} sizes, {sorted(sizes)[:4]}; expected one size"
            raise _Unusable(found, "give all frames one size")
    except _Unusable as fault:
        return MediaFacts(None, (fault.args[0], fault.args[1]))
    return MediaFacts(digest.hexdigest())


def _frame_paths(source: Source) -> Sequence[Path]:
    path = source.paths[0]
    if source.kind == "image" or source.listed or not path.is_dir():
        return source.paths
    frames = sorted(frame for frame in path.iterdir() if frame.suffix.lower() in FRAME_SUFFIXES)
    if not frames:
        raise _Unusable(f"{path}: a directory without frames; expected image files in it", "add the frames")
    return frames


def _sizes(path: Path, source: Source, digest: Any) -> Iterator[tuple[int, int]]:
    """Sizes of the image, or of each frame of an animation."""
    try:
        data = path.read_bytes()
    except OSError as error:
        mend = "add the file or correct the path, which is relative to the data file"
        raise _Unusable(f"{path}: cannot be read ({error.strerror})", mend) from error
    digest.update(hashlib.sha256(data).digest())
    animation = source.kind == "video" and not source.listed and path == source.paths[0]
    wanted = "an animated GIF or WebP, or a directory of frames" if animation else "PNG, JPEG, WebP or BMP"
    try:
        image = Image.open(io.BytesIO(data))
        for frame in ImageSequence.Iterator(image) if animation else [image]:
            _check_size(path, frame.size)
            frame.load()
            yield frame.size
    except _BROKEN as error:
        raise _Unusable(f"{path}: not a readable image ({error}); expected {wanted}", "write the file anew") from error


def _check_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _Unusable(f"{path}: {width} x {height} pixels; expected at most {MAX_PIXELS:,} in all", "make it smaller")
    if max(size) > MAX_ASPECT * min(size):
        raise _Unusable(f"{path}: {width} x {height} pixels; expected sides within 1:{MAX_ASPECT}", "crop or pad it")
