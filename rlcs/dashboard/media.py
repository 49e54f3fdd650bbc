"""Images and frames of a problem as PNG. Only what a problem of the run's problem file names is read, only as an image, and
only below the folder of that file or one that was allowed.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from rlcs.media_check import FRAME_SUFFIXES, MAX_PIXELS

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_MOST_FRAMES = 512
_MOST_BYTES = 64 << 20


class BadMedia(Exception):
    """An image or frame cannot be shown; the text says why."""


@dataclass(frozen=True)
class Media:
    """One image, or a video: its frames are files, or those of one animation."""

    kind: str
    name: str
    paths: tuple[Path, ...]
    animated: bool
    fps: float | None

    def frame(self, number: int, width: int | None = None) -> bytes:
        """A frame as PNG, at most `width` pixels wide. Raises BadMedia."""
        if not 0 <= number < _MOST_FRAMES:
            raise BadMedia(f"{self.name}: no frame {number}")
        image = self._opened(number)
        if width is not None and 0 < width < image.width:
            image = image.resize((width, max(1, round(image.height * width / image.width))))
        out = io.BytesIO()
        image.save(out, "PNG")
        return out.getvalue()

    def _opened(self, number: int) -> Image.Image:
        path = self.paths[0] if self.animated else self.paths[number] if number < len(self.paths) else None
        if path is None:
            raise BadMedia(f"{self.name}: no frame {number}; it has {len(self.paths)}")
        try:
            with Image.open(path) as image:
                _check_size(path, image)
                if self.animated:
                    image.seek(number)
                return image.convert("RGBA" if "transparency" in image.info or image.mode in ("RGBA", "LA") else "RGB")
        except _BROKEN as error:
            raise BadMedia(f"{self.name}: not an image that can be shown ({type(error).__name__})") from error

    def described(self, n: int) -> dict[str, Any]:
        """MEDIA of the interface."""
        found: dict[str, Any] = {"n": n, "kind": self.kind, "name": self.name, "frames": 1, "width": None, "height": None}
        found |= {"seconds": None, "error": None}
        try:
            with Image.open(self.paths[0]) as image:
                _check_size(self.paths[0], image)
                found["width"], found["height"] = image.size
                frames = min(getattr(image, "n_frames", 1), _MOST_FRAMES) if self.animated else len(self.paths)
                own = image.info.get("duration")
        except (*_BROKEN, IndexError) as error:
            found["error"] = f"{self.name} cannot be shown ({error})"
            return found
        if self.kind == "video":
            fps = self.fps or (1000.0 / own if self.animated and own else 2.0)
            found |= {"frames": frames, "seconds": [round(number / fps, 3) for number in range(frames)]}
        return found


def _check_size(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS or path.stat().st_size > _MOST_BYTES:
        raise ValueError("too large")


def media_of(problem: dict[str, Any], root: Path, allowed: Sequence[Path] = ()) -> list[Media | str]:
    """The media of a problem's messages in order; a sentence in place of one that may not be read."""
    found: list[Media | str] = []
    roots = [folder.resolve() for folder in (root, *allowed)]
    for message in problem.get("messages") or []:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else []:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("image", "video"):
                found.append(_medium(kind, part, root, roots))
    return found


def _medium(kind: str, part: dict[str, Any], root: Path, roots: Sequence[Path]) -> Media | str:
    named = part.get(kind)
    names = [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]
    if not names or any(not name or "\x00" in name for name in names) or (isinstance(named, list) and len(names) < len(named)):
        return f"found {json.dumps(named)[:80]}; expected a path"
    paths = [root / name for name in names[:_MOST_FRAMES]]
    try:
        if not all(_inside(path, roots) for path in paths):
            return f"{names[0]} lies outside the folder of the problem file; allow its folder by --media"
        if kind == "video" and len(paths) == 1 and paths[0].is_dir():
            paths = sorted(path for path in paths[0].iterdir() if path.suffix.lower() in FRAME_SUFFIXES)[:_MOST_FRAMES]
            if not paths or not all(_inside(path, roots) for path in paths):
                return f"{names[0]}: a folder without frames that may be read"
    except OSError as error:
        return f"{names[0]} cannot be read ({error.strerror})"
    animated = kind == "video" and not isinstance(named, list) and len(paths) == 1 and paths[0].name == Path(names[0]).name
    fps = part.get("fps")
    return Media(kind, names[0], tuple(paths), animated, float(fps) if isinstance(fps, int | float) and fps > 0 else None)


def _inside(path: Path, roots: Sequence[Path]) -> bool:
    resolved = path.resolve()
    return any(resolved.is_relative_to(root) for root in roots)
