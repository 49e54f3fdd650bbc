"""Images and videos from disk to vision-tower inputs, through the checkpoint's own image and video processors.

Axis suffixes: P patches, C values of a patch (channels x temporal patch 2 x 14 x 14).
"""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageSequence
from transformers.video_utils import VideoMetadata

_FRAME_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_BROKEN_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on bad files


class MediaError(ValueError):
    """An image or video cannot be used; the message names the file, what was found and the mend."""


@dataclass(frozen=True, eq=False)
class Media:
    """One processed image or video.

    pixel_values: float32 [P, C]; grid_thw: int64 [3], patches along time (frame pairs), height and width; key: hash of
    the file contents, equal for equal pixels; seconds: the time stamp of each frame pair of a video, empty for an
    image.
    """

    pixel_values: np.ndarray
    grid_thw: np.ndarray
    key: str
    kind: Literal["image", "video"]
    seconds: tuple[int, ...] = ()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}); media paths are relative to the data file") from error


def _decode(data: bytes, path: Path) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except _BROKEN_IMAGE as error:
        raise MediaError(f"{path}: not a readable image ({error}); expected PNG, JPEG, WebP or BMP") from error


def _animation(data: bytes, path: Path) -> tuple[list[Image.Image], float | None]:
    """Frames of an animated GIF, and its frames per second when the file states a duration."""
    try:
        image = Image.open(io.BytesIO(data))
        duration_ms = float(image.info.get("duration", 0))
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    except _BROKEN_IMAGE as error:
        raise MediaError(f"{path}: not a readable animation ({error}); expected an animated GIF or WebP") from error
    return frames, 1000.0 / duration_ms if duration_ms else None


class MediaLoader:
    """Loads media through `processor` and keeps the most recently used results, since a problem is drawn many times.

    Results are kept by content, not by path, up to `cache_bytes` of pixel values.
    """

    def __init__(self, processor: Any, *, cache_bytes: int = 256 << 20) -> None:
        self._image_processor = processor.image_processor
        self._video_processor: Any = getattr(processor, "video_processor", None)
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._cache: OrderedDict[str, Media] = OrderedDict()

    def image(self, path: Path) -> Media:
        """The image at `path`. Raises MediaError naming the file."""
        data = _read(path)
        key = "image:" + hashlib.sha256(data).hexdigest()
        return self._recall(key) or self._keep(self._process_image(_decode(data, path), key))

    def video(self, source: Path | Sequence[Path], *, fps: float | None = None) -> Media:
        """A video from a folder of frames (in the order of their names), an animated GIF or a list of frames.

        `fps` is the rate of the stored frames. Without it an animation's own duration counts; frames in files are taken
        as already sampled at the video processor's rate (2 per second for GLM-4V). All frames are used, the last
        repeated if their number is odd. Raises MediaError naming the file.
        """
        if self._video_processor is None:
            raise MediaError(f"{source}: this checkpoint has no video processor; give the frames as images")
        animated = isinstance(source, Path) and not source.is_dir()
        paths = self._frame_paths(source)
        data = [_read(path) for path in paths]
        digest = hashlib.sha256(repr((fps, animated)).encode())
        for blob in data:
            digest.update(hashlib.sha256(blob).digest())
        key = "video:" + digest.hexdigest()
        if (known := self._recall(key)) is not None:
            return known
        if animated:
            frames, own_fps = _animation(data[0], paths[0])
        else:
            frames, own_fps = [_decode(blob, path) for blob, path in zip(data, paths, strict=True)], None
        rate = fps or own_fps or float(self._video_processor.fps)
        return self._keep(self._process_video(frames, rate, key, paths[0]))

    @staticmethod
    def _frame_paths(source: Path | Sequence[Path]) -> list[Path]:
        if not isinstance(source, Path):
            paths = list(source)
        elif source.is_dir():
            paths = sorted(path for path in source.iterdir() if path.suffix.lower() in _FRAME_SUFFIXES)
        else:
            paths = [source]
        if not paths:
            raise MediaError(f"{source}: a video without frames; expected image files in it")
        return paths

    def _process_image(self, image: Image.Image, key: str) -> Media:
        out = self._image_processor(images=[image], return_tensors="pt")
        return Media(out["pixel_values"].numpy(), out["image_grid_thw"][0].numpy(), key, "image")

    def _process_video(self, frames: list[Image.Image], fps: float, key: str, path: Path) -> Media:
        sizes = {frame.size for frame in frames}
        if len(sizes) > 1:
            raise MediaError(f"{path}: the video's frames differ in size, found {sorted(sizes)}; give them one size")
        frames = frames + frames[-1:] * (len(frames) % 2)
        clip = np.stack([np.asarray(frame) for frame in frames])
        indices = list(range(len(frames)))
        metadata = VideoMetadata(total_num_frames=len(frames), fps=fps, frames_indices=indices)
        out = self._video_processor(
            videos=[clip],
            video_metadata=[metadata],
            do_sample_frames=False,
            input_data_format="channels_last",
            return_tensors="pt",
        )
        seconds = tuple(int(second) for second in metadata.timestamps[::2])
        return Media(out["pixel_values_videos"].numpy(), out["video_grid_thw"][0].numpy(), key, "video", seconds)

    def _recall(self, key: str) -> Media | None:
        if key in self._cache:
            self._cache.move_to_end(key)
        return self._cache.get(key)

    def _keep(self, media: Media) -> Media:
        self._cache[media.key] = media
        self._cached_bytes += media.pixel_values.nbytes
        while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= oldest.pixel_values.nbytes
        return media
