"""Problems to model inputs beside the vLLM servers: one renderer in each process, every prompt rendered once for its group.

The trainer gets the tokens, pixels and positions of the local engine. vLLM gets the same tokens with each image or video as one
placeholder and the media themselves: its processor, which is the checkpoint's as well, expands them to the same tokens again.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from PIL import Image, ImageSequence

from rlcs.problems import Problem
from rollout.chat import ChatRenderer
from rollout.encoded import Encoded, Prompt
from rollout.media import MediaLoader
from rollout.messages import parts_of

RENDERING = ThreadPoolExecutor(1, thread_name_prefix="render")
"""Where a process renders, one prompt at a time: the renderer's cache of media is not made for several threads."""


@dataclass(frozen=True, eq=False)
class VllmInputs:
    """What a vLLM server is sent: `prompt_ids` with one placeholder for each of `images` (RGB) and `videos` (frames uint8
    [F, H, W, 3] with what vLLM asks to know of them)."""

    prompt_ids: list[int]
    images: list[Image.Image] | None
    videos: list[tuple[np.ndarray, dict[str, Any]]] | None


@dataclass(frozen=True, eq=False)
class RenderedProblem:
    """A problem's prompt: `prompt` with `media` (`model_media`) for the trainer, `inputs` for vLLM."""

    prompt: Prompt
    media: dict[str, torch.Tensor]
    inputs: VllmInputs


_under_way: WeakValueDictionary[tuple[str, Path, str, bool], RenderedProblem] = WeakValueDictionary()


@cache
def renderer_of(model: str) -> ChatRenderer:
    """The renderer of a checkpoint directory, one in each process."""
    return ChatRenderer.from_pretrained(model)


def rendered(model: str, problem: Problem, *, thinking: bool) -> RenderedProblem:
    """The problem as both sides take it; the same object as long as another response to it is under way. Call it on
    `RENDERING`.

    Raises ValueError (MediaError for media) naming the problem.
    """
    key = (model, problem.root, problem.id, thinking)
    found = _under_way.get(key)
    if found is None:
        renderer = renderer_of(model)
        prompt = renderer.prompt(problem.messages, root=problem.root, thinking=thinking, id=problem.id)
        found = RenderedProblem(prompt, model_media(prompt.encoded), vllm_inputs(renderer, problem, prompt.encoded))
        _under_way[key] = found
    return found


def vllm_inputs(renderer: ChatRenderer, problem: Problem, encoded: Encoded) -> VllmInputs:
    """What vLLM is sent for a rendered problem."""
    parts = [part for message in problem.messages for part in parts_of(message) if part["type"] != "text"]
    images = [_image(problem.root / part["image"]) for part in parts if part["type"] == "image"]
    videos = [_video(renderer, problem.root, part) for part in parts if part["type"] == "video"]
    return VllmInputs(collapsed(renderer, encoded), images or None, videos or None)


def collapsed(renderer: ChatRenderer, encoded: Encoded) -> list[int]:
    """The tokens with one placeholder for the visual tokens of an image, or for the frames and time stamps of a video.

    Images stand apart in every layout that is rendered, so that a run of visual tokens is one of them; and a user's text forges
    neither them nor the tokens around a video.
    """
    image = renderer.image_token_id
    begin, end, video = (renderer.token_id(f"<|{name}|>") for name in ("begin_of_video", "end_of_video", "video"))
    out: list[int] = []
    in_video = False
    for token in encoded.input_ids.tolist():
        in_video = in_video and token != end
        if not in_video and not (token == image and out and out[-1] == image):
            out.append(token)
        if token == begin and begin is not None and video is not None:
            out.append(video)
            in_video = True
    return out


def model_media(encoded: Encoded) -> dict[str, torch.Tensor]:
    """Pixels and grids as the trainer's model takes them (`rlcs.verl.engine`): a video of t frame pairs as t images, which is
    how GLM-4V's text holds it. Empty without media.
    """
    if not encoded.media:
        return {}
    grids = [(1, int(item.grid_thw[1]), int(item.grid_thw[2])) for item in encoded.media for _ in range(int(item.grid_thw[0]))]
    pixels = np.concatenate([item.pixel_values for item in encoded.media])
    return {"pixel_values": torch.from_numpy(pixels), "image_grid_thw": torch.tensor(grids)}


def _image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _video(renderer: ChatRenderer, root: Path, part: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Frames and their rate as `rollout.media.MediaLoader` takes them, which has checked them by now; vLLM then samples none
    away and computes the same time stamps.
    """
    video, fps = part["video"], part.get("fps")
    if isinstance(video, str | Path) and (root / video).is_file():
        with Image.open(root / video) as animation:
            milliseconds = float(animation.info.get("duration", 0))
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
        fps = fps or (1000.0 / milliseconds if milliseconds else None)
    else:
        paths = MediaLoader._frame_paths(root / video if isinstance(video, str | Path) else [root / frame for frame in video])
        frames = [_image(path) for path in paths]
    fps = float(fps or renderer.processor.video_processor.fps)
    frames += frames[-1:] * (len(frames) % 2)
    metadata = {
        "fps": fps,
        "total_num_frames": len(frames),
        "duration": len(frames) / fps,
        "frames_indices": list(range(len(frames))),
        "do_sample_frames": False,
        "video_backend": "pil",
    }
    return np.stack([np.asarray(frame) for frame in frames]), metadata
