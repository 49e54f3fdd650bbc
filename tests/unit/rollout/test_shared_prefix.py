"""The cache that shares prompts, against attention of each sequence by itself in float64."""

import numpy as np
import pytest
import torch

from rollout import shared_prefix
from rollout.shared_prefix import SharedPrefixCache

KV_HEADS, RATIO, WIDTH = 2, 3, 8
LAYOUTS = {"shared": (-1, -1), "joined": (10**9, 0), "joined when few": (-1, 40), "as configured": None}


@pytest.fixture(params=LAYOUTS)
def layout(request, monkeypatch):
    if limits := LAYOUTS[request.param]:
        monkeypatch.setattr(shared_prefix, "_SHORT", limits[0])
        monkeypatch.setattr(shared_prefix, "_FEW", limits[1])
    return request.param


def alone(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention of one query [H, D] to one sequence's keys and values, each [N, K, D] -> [H, D] in float64."""
    keys, values = (x.double().repeat_interleave(RATIO, 1) for x in (keys, values))
    weights = torch.softmax(torch.einsum("hd,nhd->hn", query.double(), keys) * scale, -1)
    return torch.einsum("hn,nhd->hd", weights, values)


def decode(lengths: list[int], counts: list[int], keeps: dict[int, list[int]], steps: int, seed: int = 0) -> float:
    """Decodes with random keys, dropping all sequences but `keeps[step]` of the batch after a step; -> largest deviation."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    prompts = [(random(n, KV_HEADS, WIDTH), random(n, KV_HEADS, WIDTH)) for n in lengths]
    prompt_of_B = torch.repeat_interleave(torch.tensor(counts))
    cache = SharedPrefixCache(torch.tensor(lengths), prompt_of_B, layers=1)
    for first, last in ((0, 1), (1, len(lengths))):
        cache.prefill(first, last)
        keys, values = (torch.cat([pair[i] for pair in prompts[first:last]]).transpose(0, 1)[None] for i in (0, 1))
        cache.write_prefix(0, keys, values)
    own = [prompts[p] for p in prompt_of_B.tolist()]
    worst = 0.0
    for step in range(steps):
        cache.decode()
        query, key, value = (random(len(own), heads, 1, WIDTH) for heads in (KV_HEADS * RATIO, KV_HEADS, KV_HEADS))
        found = cache.attend(0, query, key, value, 0.3)
        own = [
            (torch.cat([keys, key[b].transpose(0, 1)]), torch.cat([values, value[b].transpose(0, 1)]))
            for b, (keys, values) in enumerate(own)
        ]
        for b, (keys, values) in enumerate(own):
            worst = max(worst, float((found[b, 0] - alone(query[b, :, 0], keys, values, 0.3)).abs().max()))
        if step in keeps:
            cache.keep(torch.tensor(keeps[step]))
            own = [own[b] for b in keeps[step]]
    return worst


def test_attends_as_every_sequence_by_itself_while_sequences_leave(layout):
    # All of prompt 0 (the longest) leaves first, then the groups become unequal, then one sequence is left.
    keeps = {2: [3, 4, 5, 6, 7, 8], 70: [0, 2, 3, 5], 75: [2]}
    assert decode([21, 4, 13], [3, 3, 3], keeps, steps=80) < 1e-5


def test_attends_as_every_sequence_by_itself_for_one_prompt_and_prompts_of_one_length(layout):
    assert decode([9, 9], [1, 4], {}, steps=5) < 1e-5
    assert decode([9, 9], [4, 4], {1: [0, 4]}, steps=70) < 1e-5


def test_sequences_that_leave_before_the_first_step_are_not_missed(layout):
    lengths = torch.tensor([12, 5])
    cache = SharedPrefixCache(lengths, torch.tensor([0, 0, 1, 1]), layers=1)
    cache.prefill(0, 2)
    rng = torch.Generator().manual_seed(1)
    keys, values = (torch.randn(1, KV_HEADS, 17, WIDTH, generator=rng) for _ in range(2))
    cache.write_prefix(0, keys, values)
    cache.keep(torch.tensor([2, 3]))  # both answers to the longer prompt were one token long
    cache.decode()
    query, key, value = (torch.randn(2, heads, 1, WIDTH, generator=rng) for heads in (KV_HEADS * RATIO, KV_HEADS, KV_HEADS))
    found = cache.attend(0, query, key, value, 0.3)
    for b in range(2):
        whole = [torch.cat([x[0, :, 12:].transpose(0, 1), new[b].transpose(0, 1)]) for x, new in ((keys, key), (values, value))]
        np.testing.assert_allclose(found[b, 0], alone(query[b, :, 0], *whole, 0.3), atol=1e-5)
