"""One optimiser update on packed examples.

Axis suffixes: T target tokens (those with loss) of the examples at hand, laid end to end; D hidden.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from rollout.encoded import Encoded
from rollout.forward import hidden_states, pack, token_logprobs
from rollout.transformers_engine import out_of_memory
from sft.config import SftConfig
from sft.lanes import Backward, plan_lanes, run_passes
from sft.meter import Meter
from sft.optimizers import Group
from sft.packing import first_fit_falling
from sft.skipped import refuse_nonfinite
from sft.tally import Tally


@dataclass(frozen=True, eq=False)
class Sample:
    """A rendered example and what its loss is filed under."""

    encoded: Encoded
    domain: str
    nothink: bool
    id: str = ""
    """The example's, for messages."""

    def __post_init__(self) -> None:
        if not self.targets or self.encoded.loss_mask[0]:
            raise ValueError(
                f"{self.targets} target tokens, first token masked in: {bool(self.encoded.loss_mask[0])}; expected "
                "a prompt and then at least one target"
            )

    @property
    def targets(self) -> int:
        """Tokens that carry loss."""
        return int(self.encoded.loss_mask.sum())


def packs(samples: Sequence[Sample], token_budget: int) -> list[list[Sample]]:
    """The samples of each forward pass, longest first.

    First-fit on falling lengths fills bins better, and packs of like lengths waste less of `rollout.attention`'s padding.
    """
    lengths = [len(sample.encoded.input_ids) for sample in samples]
    return [[samples[index] for index in bin] for bin in first_fit_falling(lengths, token_budget)]


def target_states(
    model: PreTrainedModel, samples: Sequence[Sample], meter: Meter | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One packed forward pass: (hidden states [T, D] that predict the target tokens, those tokens int64 [T])."""
    vision = getattr(model.config, "vision_config", None)
    encoded = [sample.encoded for sample in samples]
    packed = pack(encoded, merge_size=getattr(vision, "spatial_merge_size", 2)).to(model.device)
    places = torch.from_numpy(np.flatnonzero(np.concatenate([one.loss_mask for one in encoded]))).to(model.device)
    if meter is not None:
        meter.add(packed, len(places))
    return hidden_states(model, packed).index_select(0, places - 1), packed.input_ids[places]


@contextmanager
def explained_shortage(device: torch.device, tokens: int, longest: str) -> Iterator[None]:
    """Turns what PyTorch raises when memory runs out into a MemoryError that says on what, and the mend."""
    try:
        yield
    except RuntimeError as error:  # torch's OutOfMemoryError is one
        if not out_of_memory(error):
            raise
        raise MemoryError(
            f"out of memory on {device} in a pack of {tokens:,} tokens, {longest}; lower token_budget as far as to that, set "
            "gradient_checkpointing, use lora, or leave the longest out (--dry-run estimates the memory)"
        ) from error


def update(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    samples: Sequence[Sample],
    *,
    token_budget: int,
    grad_clip: float,
    meter: Meter | None = None,
) -> tuple[Tally, float]:
    """One update on the mean loss over all target tokens of `samples`. -> (losses, gradient norm before clipping).

    The mean is taken over the whole update before it is cut into packs, so `token_budget` does not change the gradient.
    Raises NonFiniteUpdate, naming examples, when the loss or the gradient is not finite; the weights are then untouched.
    """
    model.train()
    optimizer.zero_grad(set_to_none=True)
    tally = _backward(model, samples, token_budget, meter)
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip))

    def alone(index: int) -> float:
        return _backward(model, [samples[index]], token_budget).losses()["loss"]

    refuse_nonfinite(model, tally.losses()["loss"], norm, [sample.id for sample in samples], alone)
    optimizer.step()
    return tally, norm


def _backward(model: PreTrainedModel, samples: Sequence[Sample], token_budget: int, meter: Meter | None = None) -> Tally:
    """Adds the gradient of the mean loss over all target tokens of `samples`, pack by pack. -> the losses."""
    total, lengths = sum(sample.targets for sample in samples), [len(sample.encoded.input_ids) for sample in samples]
    lanes = plan_lanes(model, token_budget, lambda _: lengths)
    if meter is not None:
        meter.token_budget = lanes.token_budget

    def one_pass(members: list[Sample], backward: Backward) -> torch.Tensor:
        longest = max(len(sample.encoded.input_ids) for sample in members)
        with explained_shortage(model.device, _tokens(members), f"the longest example of {longest:,}"):
            hidden_TD, targets_T = target_states(model, members, meter)
            logprobs_T = token_logprobs(model, hidden_TD, targets_T)
            assert isinstance(logprobs_T, torch.Tensor)
            backward(-logprobs_T.sum() / total)
        return logprobs_T.detach()

    tally, packed = Tally(), packs(samples, lanes.token_budget)
    found = run_passes(model, packed, [_tokens(members) for members in packed], one_pass, lanes.count)
    for members, logprobs_T in zip(packed, found, strict=True):
        for sample, own in zip(members, logprobs_T.split([sample.targets for sample in members]), strict=True):
            tally.add(sample.domain, nothink=sample.nothink, loss=-float(own.sum()), tokens=sample.targets)
    return tally


def _tokens(samples: Sequence[Sample]) -> int:
    return sum(len(sample.encoded.input_ids) for sample in samples)


def trained_groups(model: PreTrainedModel, config: SftConfig) -> list[Group]:
    """What the optimiser updates, with decoupled weight decay on matrices and none on vectors (norms, biases)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices, vectors = ([p for p in trained if (p.ndim > 1) == wanted] for wanted in (True, False))
    return [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
