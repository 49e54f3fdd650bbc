"""Teacher-forced evaluation on held-out examples. Axis suffixes: T target tokens, D hidden, V vocabulary."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from sft.tally import Tally
from sft.update import Sample, packs, target_states

_ROWS = 1024  # logits [T, V] are held for so many target tokens at once


@torch.no_grad()
def evaluate(model: PreTrainedModel, samples: Sequence[Sample], *, token_budget: int) -> Tally:
    """Loss and hits of every sample. The model is back in the mode it was in afterwards."""
    was_training = model.training
    model.eval()
    tally = Tally()
    for members in packs(samples, token_budget):
        losses_T, hits_T = _score(model, *target_states(model, members))
        sizes = [sample.targets for sample in members]
        for sample, losses, hits in zip(members, losses_T.split(sizes), hits_T.split(sizes), strict=True):
            tally.add(
                sample.domain, nothink=sample.nothink, loss=float(losses.sum()), tokens=sample.targets, hits=int(hits.sum())
            )
    model.train(was_training)
    return tally


def _score(model: PreTrainedModel, hidden_TD: torch.Tensor, targets_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(negative log-probabilities [T], whether the target is the likeliest token [T])."""
    losses, hits = [], []
    for hidden, targets in zip(hidden_TD.split(_ROWS), targets_T.split(_ROWS), strict=True):
        logits_TV = model.get_output_embeddings()(hidden).float()
        losses.append(torch.nn.functional.cross_entropy(logits_TV, targets, reduction="none"))
        hits.append(logits_TV.argmax(-1) == targets)
    return torch.cat(losses), torch.cat(hits)
