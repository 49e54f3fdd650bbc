"""The critic of PPO (`advantage: gae`): a model of the policy's architecture, images included, whose head is one number.

It has weights of its own, which begin as the policy's: the value of a state does not pull at the policy, and its learning rate
is its own. With LoRA both train adapters. Axis suffixes: T trained response tokens of the samples at hand, laid end to end;
D hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from rlcs.advantages import generalised_advantages, whitened_tokens
from rlcs.learner import learning_rate, optimizer_of
from rlcs.objective import token_weights, value_loss
from rlcs.rl_config import RlConfig
from rlcs.sample_packs import Packing, TrainSample, per_sample, update_parts
from sft.lanes import Backward
from sft.optimizers import set_learning_rate
from sft.policy import trained_policy
from sft.skipped import NonFiniteUpdate, SkippedUpdates, refuse_nonfinite
from sft.update import explained_shortage


def with_value_head(model: Any) -> Any:
    """The language model with `lm_head` of one output, all zeros; logits are then values [B, T, 1]."""
    old = model.lm_head.weight
    head = torch.nn.Linear(old.shape[1], 1, bias=False, device=old.device, dtype=old.dtype)
    torch.nn.init.zeros_(head.weight)
    model.lm_head = head
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False  # saving and loading must not take the embeddings for it
    return model


@dataclass(frozen=True)
class _Update:
    """Of one optimiser update: loss, gradient norm before clipping, tokens, those of them whose loss the clip decided, and the
    values float32 of each sample before it.
    """

    loss: float
    norm: float
    tokens: int
    clipped: int
    values: list[torch.Tensor]


class Critic:
    """Learns what reward each token's context leads to, and turns rewards into advantages with it.

    The head of `model`, the policy's architecture with weights of its own, is replaced by one of zeros, so that the first
    advantages are those of rewards without a baseline.
    """

    def __init__(self, model: PreTrainedModel, config: RlConfig) -> None:
        self.model: PreTrainedModel = with_value_head(model)
        self.model.lm_head.float()  # under any dtype: a value must be able to move by less than 1/256 of itself
        self._config = config
        self._packing = Packing(self.model, config.token_budget)
        self.optimizer = optimizer_of(self.model, config)
        self.skipped = SkippedUpdates(config.max_skipped_updates, whose="critic", rate="critic.lr")

    def learn(
        self, samples: Sequence[TrainSample], step: int, rng: np.random.Generator
    ) -> tuple[list[TrainSample], dict[str, float]]:
        """One step: advantages of the samples by the critic as it stands, then its updates. -> (the samples that have trained
        tokens, each with its advantages [T]; metrics).

        A sample's reward stands on its last trained token; forced tokens are stepped over. Advantages are whitened over the
        step's tokens, as verl and TRL do. An update whose loss or gradient is not finite is skipped and counted; samples whose
        advantages are not finite are left out. Raises FloatingPointError, naming samples, when more than
        `max_skipped_updates` in a row are skipped.
        """
        config, options = self._config, self._config.critic
        samples = [sample for sample in samples if len(sample.rollout_logprobs)]
        rate = learning_rate(config, step) * ((options.lr or config.lr) / config.lr)
        if not samples:
            return [], {"lr": rate, "skipped_updates": 0.0}
        set_learning_rate(self.optimizer, rate)
        lengths = torch.tensor([len(sample.rollout_logprobs) for sample in samples])
        rewards_T = torch.zeros(int(lengths.sum()))
        rewards_T[lengths.cumsum(0) - 1] = torch.tensor([sample.reward for sample in samples], dtype=torch.float32)
        # What came in the end, discounted: with lambda 1 it is what the critic learns, whatever it says now.
        _, outcomes_T = generalised_advantages(rewards_T, torch.zeros_like(rewards_T), lengths, discount=options.gamma)
        returns_T, old = outcomes_T, None
        if options.lam < 1.0 or config.updates_per_step > 1:
            old = self.values(samples)
        if old is not None and options.lam < 1.0:
            _, returns_T = generalised_advantages(
                rewards_T, torch.cat(old), lengths, discount=options.gamma, smoothing=options.lam
            )
        returns = returns_T.split(lengths.tolist())
        updates, skipped = list[_Update](), 0
        for _ in range(options.epochs):
            for part in update_parts(len(samples), config.updates_per_step, rng):
                known = None if old is None else [old[index] for index in part]
                chosen, aims = [samples[index] for index in part], [returns[index] for index in part]
                try:
                    updates.append(self._optimise(chosen, known, aims))
                except NonFiniteUpdate as error:
                    self.skipped.skip(step, error)
                    skipped += 1
                    old = self.values(samples) if old is None else old  # the weights are still those before the step
                    continue
                self.skipped.made()
                old = updates[-1].values if old is None else old
        assert old is not None
        counted = {"lr": rate, "skipped_updates": float(skipped)}
        advantages = [aim - value for aim, value in zip(returns, old, strict=True)]
        sound = [index for index, one in enumerate(advantages) if bool(one.isfinite().all())]
        if not sound:
            return [], counted
        returns_T, values_T, outcomes_T, advantages_T = (
            torch.cat([part[index] for index in sound])
            for part in (returns, old, outcomes_T.split(lengths.tolist()), advantages)
        )
        samples = [samples[index] for index in sound]
        judged = per_sample(samples, whitened_tokens(advantages_T))
        foreseen = 1.0 - (outcomes_T - values_T).var() / outcomes_T.var()
        metrics = {
            **counted,
            "vpred_mean": float(values_T.mean()),
            "return_mean": float(returns_T.mean()),
            "vf_explained_var": float(foreseen),
            "advantage_std": float(advantages_T.std()),
        }
        if updates:
            metrics |= {
                "loss": float(np.mean([update.loss for update in updates])),
                "grad_norm": float(np.mean([update.norm for update in updates])),
                "vf_clipfrac": sum(update.clipped for update in updates) / sum(update.tokens for update in updates),
            }
        return [replace(sample, advantage=part.numpy()) for sample, part in zip(samples, judged, strict=True)], metrics

    @torch.no_grad()
    def values(self, samples: Sequence[TrainSample]) -> list[torch.Tensor]:
        """The value of the context of each trained token, of every sample: float32 [T] each, in main memory."""
        return self._packing.of_each(samples, self._values)

    def state_dict(self) -> dict[str, Any]:
        """Trained weights, the optimiser's state, and what was skipped last."""
        trained = {name: value.detach().cpu() for name, value in self.model.named_parameters() if value.requires_grad}
        return {"weights": trained, "optimizer": self.optimizer.state_dict(), "skipped": self.skipped.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError for weights of another critic."""
        own = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        if own.keys() != state["weights"].keys():
            differing = sorted(own.keys() ^ state["weights"].keys())
            raise ValueError(
                f"the checkpoint's critic trains {len(state['weights'])} weights, this run's {len(own)}; they differ in "
                f"{differing[:3]}: resume with the same model and lora settings"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.skipped.load_state_dict(state.get("skipped", []))

    def _values(self, samples: Sequence[TrainSample]) -> torch.Tensor:
        """Values float32 [T] of one pack."""
        hidden_TD, _ = self._packing.trained_states(samples)
        values_T: torch.Tensor = self.model.lm_head(hidden_TD.float()).squeeze(-1)
        return values_T

    def _optimise(
        self, samples: Sequence[TrainSample], old: Sequence[torch.Tensor] | None, returns: Sequence[torch.Tensor]
    ) -> _Update:
        """One optimiser update on all of `samples`; `old` None takes the pass's own values for those before the step. Raises
        NonFiniteUpdate where loss or gradient is not finite; the weights are then those before the update.
        """
        self.model.train()
        loss, clipped, found = self._backward(samples, old, returns)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._config.grad_clip))

        def alone(index: int) -> float:
            return self._backward([samples[index]], old and [old[index]], [returns[index]])[0]

        refuse_nonfinite(self.model, loss, norm, [sample.id for sample in samples], alone)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # now, not before the next pass: the policy's update needs the memory
        return _Update(loss, norm, sum(len(value) for value in found), clipped, found)

    def _backward(
        self, samples: Sequence[TrainSample], old: Sequence[torch.Tensor] | None, returns: Sequence[torch.Tensor]
    ) -> tuple[float, int, list[torch.Tensor]]:
        """Adds the gradient of the loss over all of `samples`, pack by pack. -> (the loss, tokens whose loss the clip decided,
        values float32 of each sample).
        """
        config = self._config
        lengths = torch.tensor([len(sample.rollout_logprobs) for sample in samples])
        weights_T = token_weights(lengths, config.loss_aggregation, constant=config.most_response_tokens)
        weights = per_sample(samples, weights_T)

        def one_pass(members: list[int], backward: Backward) -> tuple[float, int, tuple[torch.Tensor, ...]]:
            chosen = [samples[index] for index in members]
            with explained_shortage(self.model.device, self._packing.tokens(chosen), self._packing.named(chosen)):
                values_T = self._values(chosen)
                device = values_T.device
                loss, cut = value_loss(
                    values_T,
                    values_T.detach() if old is None else torch.cat([old[index] for index in members]).to(device),
                    torch.cat([returns[index] for index in members]).to(device),
                    torch.cat([weights[index] for index in members]).to(device),
                    clip=config.critic.value_clip,
                )
                backward(loss)
            return float(loss.detach()), int(cut), per_sample(chosen, values_T.detach().cpu())

        packs, found = self._packing.passes(samples, one_pass, alone=not config.max_staleness)
        values = {
            i: value for members, (*_, own) in zip(packs, found, strict=True) for i, value in zip(members, own, strict=True)
        }
        in_order = [values[index] for index in range(len(samples))]
        return sum(loss for loss, *_ in found), sum(cut for _, cut, _ in found), in_order


def build_critic(config: RlConfig, checkpoint: Path | None) -> Critic | None:
    """The critic, where the configuration trains one; of a run resumed from `checkpoint` its state is still to be loaded."""
    if config.advantage != "gae":
        return None
    model, _ = trained_policy(config, checkpoint)
    return Critic(model, config)
