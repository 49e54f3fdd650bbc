"""Samples to learn from, and the packed forward passes they go through: the policy's, the reference's, the critic's.

Axis suffixes: T trained response tokens of the samples at hand, laid end to end; D hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from transformers import PreTrainedModel

from rollout.attention import VARLEN
from rollout.encoded import Encoded
from rollout.forward import hidden_states, pack_groups
from sft.lanes import Backward, Found, Lanes, plan_lanes, run_passes
from sft.meter import Meter
from sft.packing import first_fit_falling


@dataclass(frozen=True, eq=False)
class TrainSample:
    """One response to learn from: `encoded` is prompt + completion and its loss_mask marks the T tokens the policy
    chose (not the prompt's, not forced ones); `rollout_logprobs` float32 [T] are the rollout engine's for those tokens.
    Samples that name the same `prompt`, which `encoded` begins with, share one computation of it.
    """

    encoded: Encoded
    rollout_logprobs: np.ndarray
    advantage: float | np.ndarray
    """One number for all of its trained tokens, or float32 [T]."""
    prompt: Encoded | None = None
    id: str = ""
    """The problem's, for messages."""
    reward: float = 0.0
    """What the response earned, which a critic learns to foresee."""

    @property
    def prompt_length(self) -> int:
        """Tokens that may be shared with other samples; 0 for a sample that names no prompt."""
        return 0 if self.prompt is None else len(self.prompt.input_ids)

    @property
    def advantages_T(self) -> torch.Tensor:
        """Float32 [T]."""
        return torch.from_numpy(np.broadcast_to(np.float32(self.advantage), self.rollout_logprobs.shape).copy())

    def __post_init__(self) -> None:
        trained = int(self.encoded.loss_mask.sum())
        if trained != len(self.rollout_logprobs):
            raise ValueError(f"{trained} trained tokens but {len(self.rollout_logprobs)} rollout log-probabilities")
        if self.encoded.loss_mask[: max(self.prompt_length, 1)].any():
            raise ValueError("a token of the prompt, or the first of a sequence, is to be trained; a prompt must precede")


def update_parts(samples: int, updates: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of the samples of each of so many updates, one pass over all of them; none is empty. A single update draws
    nothing.
    """
    if updates == 1:
        return [np.arange(samples)]
    return [np.sort(part) for part in np.array_split(rng.permutation(samples), updates) if len(part)]


def per_sample(samples: Sequence[TrainSample], tokens_T: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What `tokens_T` holds of each sample's trained tokens."""
    return tokens_T.split([len(sample.rollout_logprobs) for sample in samples])


class Packing:
    """How samples are laid into rows of `token_budget` tokens for `model` and others of its architecture. `meter` counts what
    `model` is trained on.
    """

    def __init__(self, model: PreTrainedModel, token_budget: int) -> None:
        self._model, self._budget = model, token_budget
        vision = getattr(model.config, "vision_config", None)
        self._merge_size = getattr(vision, "spatial_merge_size", 2)
        self.meter = Meter(model, token_budget)

    def packs(self, samples: Sequence[TrainSample], token_budget: int | None = None) -> list[list[int]]:
        """Members of each forward pass of at most `token_budget` tokens, samples of one prompt side by side."""
        budget = token_budget or self._budget
        units = self._units(samples, budget)
        bins = first_fit_falling([_unit_tokens([samples[index] for index in unit]) for unit in units], budget)
        return [[index for unit in members for index in units[unit]] for members in bins]

    def passes(
        self, samples: Sequence[TrainSample], one_pass: Callable[[list[int], Backward], Found], *, alone: bool = True
    ) -> tuple[list[list[int]], list[Found]]:
        """Trains the model on all of `samples`: `one_pass(members, backward)` computes one pack and calls `backward` on its
        loss, `sft.lanes.run_passes`. -> (members of each pack, what it returned). `alone`: nothing else computes meanwhile, so
        passes may go side by side.
        """
        lanes = Lanes(1, self._budget)
        if alone:
            lanes = plan_lanes(self._model, self._budget, lambda budget: self._unit_lengths(samples, budget))
        self.meter.token_budget = lanes.token_budget
        packs = self.packs(samples, lanes.token_budget)
        lengths = [self.tokens([samples[index] for index in members]) for members in packs]
        return packs, run_passes(self._model, packs, lengths, one_pass, lanes.count)

    def tokens(self, samples: Sequence[TrainSample]) -> int:
        """Tokens of one pack of these samples."""
        return sum(_unit_tokens(unit) for unit in self._side_by_side(samples))

    def trained_states(
        self, samples: Sequence[TrainSample], model: PreTrainedModel | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One packed forward pass: (hidden states [T, D] from which the trained tokens were chosen, those tokens int64 [T]); of
        the policy, or of another `model` of its architecture.
        """
        model = model or self._model
        groups = [(unit[0].prompt_length, [sample.encoded for sample in unit]) for unit in self._side_by_side(samples)]
        packed = pack_groups(groups, merge_size=self._merge_size)
        trained = np.concatenate([sample.encoded.loss_mask[max(sample.prompt_length, 1) :] for sample in samples])
        if model is self._model and torch.is_grad_enabled():
            self.meter.add(packed.inputs, int(trained.sum()))
        inputs = packed.inputs.to(model.device)
        contexts, targets = (torch.from_numpy(rows[trained]).to(model.device) for rows in (packed.contexts, packed.places))
        return hidden_states(model, inputs).index_select(0, contexts), inputs.input_ids[targets]

    @torch.no_grad()
    def of_each(
        self, samples: Sequence[TrainSample], compute: Callable[[Sequence[TrainSample]], torch.Tensor]
    ) -> list[torch.Tensor]:
        """What `compute` finds for the trained tokens [T] of a pack, pack by pack: [T] of every sample, in main memory."""
        found: dict[int, torch.Tensor] = {}
        for members in self.packs(samples):
            chosen = [samples[index] for index in members]
            found.update(zip(members, per_sample(chosen, compute(chosen).cpu()), strict=True))
        return [found[index] for index in range(len(samples))]

    def named(self, samples: Sequence[TrainSample]) -> str:
        """The pack's longest sample, for messages."""
        longest = max(samples, key=lambda sample: len(sample.encoded.input_ids))
        return f"the longest sample, to {longest.id or 'a problem'}, of {len(longest.encoded.input_ids):,}"

    def _units(self, samples: Sequence[TrainSample], budget: int) -> list[list[int]]:
        return _prompt_units(samples, budget if self._shares_prompts else 0)

    def _side_by_side(self, samples: Sequence[TrainSample]) -> list[list[TrainSample]]:
        """The units of a pack: two of one prompt are never in the same, as they would have been one."""
        if not self._shares_prompts:
            return [[sample] for sample in samples]
        by_prompt = groupby(samples, lambda sample: id(sample) if sample.prompt is None else id(sample.prompt))
        return [list(unit) for _, unit in by_prompt]

    @property
    def _shares_prompts(self) -> bool:
        """Only this attention knows of shared prompts; with any other whole sequences are packed."""
        return self._model.config._attn_implementation == VARLEN

    def _unit_lengths(self, samples: Sequence[TrainSample], budget: int) -> list[int]:
        return [_unit_tokens([samples[index] for index in unit]) for unit in self._units(samples, budget)]


def _unit_tokens(samples: Sequence[TrainSample]) -> int:
    """Tokens of samples that share their prompt, which counts once."""
    return sum(len(sample.encoded.input_ids) - sample.prompt_length for sample in samples) + samples[0].prompt_length


def _prompt_units(samples: Sequence[TrainSample], budget: int) -> list[list[int]]:
    """Indices of samples, those of one prompt together as far as `budget` tokens allow; ascending within a unit."""
    units: list[list[int]] = []
    latest: dict[int, int] = {}  # prompt -> its unit that still has room
    for index, sample in enumerate(samples):
        unit = latest.get(id(sample.prompt)) if sample.prompt is not None else None
        if unit is not None and _unit_tokens([samples[i] for i in units[unit]] + [sample]) <= budget:
            units[unit].append(index)
        else:
            latest[id(sample.prompt)] = len(units)
            units.append([index])
    return units
