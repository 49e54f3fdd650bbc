"""What the trainer and vLLM are given of a problem: the local engine's tokens and pixels, on both sides."""

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcs.problems import Problem
from rlcs.verl.prompts import collapsed, model_media, rendered, renderer_of, vllm_inputs

NANO = str(Path(__file__).parents[4] / "assets" / "nano")
IMAGE, OTHER, CLIP, GIF = (
    {"type": "image", "image": "a.png"},
    {"type": "image", "image": "b.png"},
    {"type": "video", "video": "clip"},
    {"type": "video", "video": "clip.gif"},
)
CASES: dict[str, list[dict[str, Any]]] = {
    "text": [],
    "images": [IMAGE, {"type": "text", "text": "and"}, OTHER],
    "the same image twice": [IMAGE, IMAGE],
    "forged placeholders": [IMAGE, {"type": "text", "text": "<|image|><|begin_of_video|><|video|>"}],
    "an odd number of frames": [CLIP],
    "an animation with its own rate": [GIF, IMAGE],
    "a stated rate": [{**GIF, "fps": 1}],
    "frames by name": [{"type": "video", "video": ["a.png", "a.png"], "fps": 0.5}],
}


def problem(root: Path, case: str) -> Problem:
    content = [*CASES[case], {"type": "text", "text": "What is it?"}]
    return Problem(id=case, domain="math", answer="1", messages=[{"role": "user", "content": content}], root=root)


@pytest.fixture(scope="module")
def vllm_processor() -> Any:
    """vLLM's own processor of the nano model."""
    pytest.importorskip("vllm")
    from vllm.config import ModelConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY

    config = ModelConfig(
        model=NANO, dtype="float32", hf_overrides={"text_config": {"attention_bias": True}}, enforce_eager=True
    )
    return MULTIMODAL_REGISTRY.create_processor(config)


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("case", [case for case in CASES if case != "text"])
def test_vllm_makes_the_renderers_tokens_and_pixels_of_what_it_is_sent(
    vllm_processor: Any, root: Path, case: str, thinking: bool
) -> None:
    from vllm.multimodal.processing import ProcessorInputs, TimingContext

    posed = problem(root, case)
    encoded = renderer_of(NANO).prompt(posed.messages, root=root, thinking=thinking).encoded
    sent = vllm_inputs(renderer_of(NANO), posed, encoded)
    media = {kind: items for kind, items in (("image", sent.images), ("video", sent.videos)) if items}
    items = vllm_processor.info.parse_mm_data(media)
    made = vllm_processor.apply(ProcessorInputs(sent.prompt_ids, items), TimingContext(enabled=False))

    assert made["prompt_token_ids"] == encoded.input_ids.tolist()
    assert len(sent.prompt_ids) < len(encoded.input_ids)
    for kind, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        mine = [item.pixel_values for item in encoded.media if item.kind == kind]
        theirs = [item[pixels].data.numpy() for item in made["mm_kwargs"].get(kind, [])]
        assert len(mine) == len(theirs)
        assert all(np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_text_alone_is_sent_as_it_is(root: Path) -> None:
    found = rendered(NANO, problem(root, "text"), thinking=True)
    assert found.inputs.prompt_ids == found.prompt.encoded.input_ids.tolist()
    assert found.inputs.images is found.inputs.videos is None
    assert model_media(found.prompt.encoded) == {}


def test_a_problem_is_rendered_once_for_its_group_and_then_forgotten(root: Path) -> None:
    first = rendered(NANO, problem(root, "images"), thinking=True)
    assert rendered(NANO, problem(root, "images"), thinking=True) is first
    assert rendered(NANO, problem(root, "images"), thinking=False) is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


def test_the_trainer_gets_a_video_as_its_frames(root: Path) -> None:
    encoded = rendered(NANO, problem(root, "an animation with its own rate"), thinking=True).prompt.encoded
    media = model_media(encoded)
    assert media["image_grid_thw"].tolist() == [[1, 4, 4], [1, 4, 4], [1, 4, 6]]
    assert media["pixel_values"].shape[0] == int(media["image_grid_thw"].prod(-1).sum())
    visual = int((torch.from_numpy(encoded.input_ids) == renderer_of(NANO).image_token_id).sum())
    assert visual * 4 == media["pixel_values"].shape[0]


def test_two_images_side_by_side_stay_two(root: Path) -> None:
    encoded = rendered(NANO, problem(root, "the same image twice"), thinking=True).prompt.encoded
    ids = collapsed(renderer_of(NANO), encoded)
    assert ids.count(renderer_of(NANO).image_token_id or -1) == 2
