"""The nano model's tokenizer, image patches, pre-training documents and recipe."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rlcs.nano.build import build_model, build_processor, nano_config
from rlcs.nano.corpus import MIXTURE, Document, DocumentEncoder, draw_document, patchify
from rlcs.nano.pretrain import Recipe, draw_batch
from rlcs.nano.tokenizer import SPECIAL_TOKENS, VOCAB_SIZE, build_tokenizer
from rollout.chat import ChatRenderer

TOKENIZER = build_tokenizer()


@given(st.text(max_size=40))
def test_text_becomes_its_utf8_bytes_and_comes_back(text: str) -> None:
    for token in SPECIAL_TOKENS:
        text = text.replace(token, "")
    ids = TOKENIZER(text, add_special_tokens=False).input_ids
    assert ids == list(text.encode())
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


def test_every_special_token_is_one_token_after_the_bytes() -> None:
    ids = [TOKENIZER(token, add_special_tokens=False).input_ids for token in SPECIAL_TOKENS]
    assert [len(found) for found in ids] == [1] * len(SPECIAL_TOKENS)
    assert sorted(found[0] for found in ids) == list(range(256, 256 + len(SPECIAL_TOKENS)))
    assert len(TOKENIZER) <= VOCAB_SIZE


@pytest.mark.parametrize(("width", "height"), [(28, 28), (140, 112), (84, 28)])
def test_patches_equal_those_of_the_checkpoints_image_processor(width: int, height: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    theirs = build_processor().image_processor(images=[image], return_tensors="np")
    pixels, grid = patchify(image)
    assert grid.tolist() == theirs["image_grid_thw"][0].tolist()
    np.testing.assert_allclose(pixels, theirs["pixel_values"], atol=1e-5)


def test_a_documents_image_and_positions_are_those_of_the_chat_renderer(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png")
    messages = [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "abc"}]}]
    rendered = ChatRenderer(build_processor()).prompt(messages, root=tmp_path, thinking=True).encoded
    document = DocumentEncoder(TOKENIZER)(Document("x", "ab", "c", image))
    begin = TOKENIZER.convert_tokens_to_ids("<|begin_of_image|>")
    start, length = rendered.input_ids.tolist().index(begin), 8 + 3  # six image tokens, their two brackets, three bytes
    same = slice(start, start + length)
    assert document.input_ids[:length].tolist() == rendered.input_ids[same].tolist()
    np.testing.assert_array_equal(document.position_ids[:, :length] + start, rendered.position_ids[:, same])
    np.testing.assert_allclose(document.media[0].pixel_values, rendered.media[0].pixel_values, atol=1e-5)
    assert TOKENIZER.decode(document.input_ids[document.loss_mask]) == "c<|endoftext|>"


def test_the_mixture_begins_with_dense_reading_and_ends_with_every_kind() -> None:
    rng = np.random.default_rng(0)
    easy = [draw_document(rng, 0.0).kind for _ in range(200)]
    full = [draw_document(rng, 1.0).kind for _ in range(600)]
    assert np.mean([kind in ("string", "spelling") for kind in easy]) > 0.5
    assert len(set(full)) == 11
    for phase in ("start", "full", "last"):
        assert sum(getattr(share, phase) for share in MIXTURE) == pytest.approx(1)


def test_batches_are_a_function_of_the_generators_state() -> None:
    encoder = DocumentEncoder(TOKENIZER)
    first = draw_batch(np.random.default_rng(3), encoder, 0.7, 800)
    second = draw_batch(np.random.default_rng(3), encoder, 0.7, 800)
    assert [d.input_ids.tolist() for d in first] == [d.input_ids.tolist() for d in second]
    assert all(
        (a.media[0].pixel_values == b.media[0].pixel_values).all() for a, b in zip(first, second, strict=True) if a.media
    )


def test_learning_rate_warms_up_stays_and_falls_linearly_over_the_decay() -> None:
    recipe = Recipe(steps=1000, lr=1.0, warmup=10, decay=100)
    assert [recipe.learning_rate(step) for step in (0, 4, 9, 500, 900, 950, 999)] == pytest.approx(
        [0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.02]
    )


def test_freshly_initialised_image_features_are_as_loud_as_text_embeddings() -> None:
    """transformers' own initialisation left them four times quieter (see `_initialise`)."""
    import torch

    model = build_model(seed=1)
    pixels, grid = patchify(Image.fromarray(np.random.default_rng(1).integers(0, 256, (112, 140, 3), dtype=np.uint8)))
    with torch.no_grad():
        features = model.model.visual(torch.from_numpy(pixels), grid_thw=torch.tensor(grid[None])).pooler_output
        ratio = float(features.std() / model.get_input_embeddings().weight.std())
    assert 0.4 < ratio < 2.5


def test_the_architecture_is_glm4v_in_small() -> None:
    config = nano_config(TOKENIZER)
    assert config.model_type == "glm4v" and config.vision_config.temporal_patch_size == 2
    assert config.vision_config.spatial_merge_size == 2 and sum(config.text_config.rope_parameters["mrope_section"]) == 16
    assert sum(p.numel() for p in build_model(seed=0).parameters()) < 4_000_000
