"""Our objective as verl calls it, against `rlcs.objective` on the same numbers and verl's own loss where they agree."""

from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict

pytest.importorskip("verl", reason="the verl extra is not installed")

from verl.protocol import DataProto
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_add_to_batch
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories
from verl.utils import tensordict_utils as tu
from verl.utils.metric import Metric, reduce_metrics
from verl.utils.py_functional import append_to_dict, rename_dict
from verl.workers.config import ActorConfig, FSDPActorConfig, PolicyLossConfig
from verl.workers.utils.losses import ppo_loss

from rlcs.advantages import group_advantages
from rlcs.objective import LossStats, kl_estimate, masked_importance, policy_loss, token_weights, truncated_importance
from rlcs.rl_config import RlConfig
from rlcs.verl.objective import LOSS_WEIGHT, NAME, WeightedPolicyLoss, policy_metrics, row_weights

LOW, HIGH = 0.2, 0.28


def estimated(rewards: list[float], uids: list[str], *, normalise: bool) -> torch.Tensor:
    """Advantages [B] by verl's own call, rows of 1 to 5 tokens whose last carries the reward."""
    rng = np.random.default_rng(1)
    mask = torch.zeros(len(rewards), 5)
    scores = torch.zeros(len(rewards), 5)
    for row, reward in enumerate(rewards):
        length = int(rng.integers(1, 6))
        mask[row, :length] = 1
        scores[row, length - 1] = reward
    data = DataProto(
        batch=TensorDict({"token_level_rewards": scores, "response_mask": mask}, batch_size=len(rewards)),
        non_tensor_batch={"uid": np.array(uids, object)},
    )
    found = compute_advantage_for_multi_trajectories(
        data,
        batch_keys=[f"{uid}_{row}_0" for row, uid in enumerate(uids)],
        adv_estimator=NAME,
        config=OmegaConf.create({"norm_adv_by_std_in_grpo": normalise}),
    ).batch["advantages"]
    assert torch.equal(found, found[:, :1] * mask), "one value on every trained token, nothing elsewhere"
    return found[:, 0]


@pytest.mark.parametrize("normalise", [True, False])
def test_advantages_in_verl_are_the_local_engines_for_rows_in_any_order(normalise: bool) -> None:
    rng = np.random.default_rng(0)
    rewards_PG = rng.choice([0.0, 0.25, 1.0, np.nan], (12, 6))
    rewards_PG[3] = 0.9  # equal up to float32 rounding
    rewards_PG[4] = np.nan
    rows = [(f"uid{p}", rewards_PG[p, g], p, g) for p in range(12) for g in range(6)]
    order = rng.permutation(len(rows))
    shuffled = [rows[i] for i in order]
    got = estimated([reward for _, reward, _, _ in shuffled], [uid for uid, *_ in shuffled], normalise=normalise)
    rewards = torch.from_numpy(rewards_PG)
    want = group_advantages(rewards, ~rewards.isnan(), normalise=normalise)
    for value, (_, _, p, g) in zip(got.tolist(), shuffled, strict=True):
        assert value == pytest.approx(float(want[p, g]), abs=2e-7)
    assert not got[[p in (3, 4) for _, _, p, _ in shuffled]].any(), "no spread, no advantage"


def test_groups_may_lack_samples_that_failed_or_abstained() -> None:
    got = estimated([1.0, 0.0, 0.0, 0.5, 0.0], ["a", "a", "a", "b", "pad"], normalise=False)
    np.testing.assert_allclose(got.numpy(), [2 / 3, -1 / 3, -1 / 3, 0.0, 0.0], rtol=1e-6)


class Rows:
    """A training batch as verl's workers get it: B rows of 3 prompt and 1 to 9 response tokens, some of those forced, and a few
    rows that pad the batch."""

    def __init__(self, rows: int, padding: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.lengths = rng.integers(1, 10, rows + padding)
        self.masks = [torch.from_numpy((rng.random(length) < 0.8).astype(np.int64)) for length in self.lengths]
        for row in range(rows):
            self.masks[row][0] = 1
        for row in range(rows, rows + padding):
            self.masks[row][:] = 0
        self.old = [torch.from_numpy(rng.normal(-1, 0.3, length)).float() for length in self.lengths]
        self.rollout = [old + torch.from_numpy(rng.normal(0, 0.2, len(old))).float() for old in self.old]
        self.reference = [old + torch.from_numpy(rng.normal(0, 0.1, len(old))).float() for old in self.old]
        self.advantages = [torch.full((length,), float(rng.normal())) for length in self.lengths]
        sequences = [torch.from_numpy(rng.normal(-1, 0.4, 3 + length)).float() for length in self.lengths]
        self.flat = torch.cat(sequences).requires_grad_()
        self.entropy = [torch.from_numpy(rng.random(length)).float() for length in self.lengths]
        self.trained = torch.tensor([int(mask.sum()) for mask in self.masks])

    def tensors(self, chosen: np.ndarray, extra: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], TensorDict]:
        """(model output, data) of a micro-batch of the rows `chosen`."""
        ends = np.cumsum(3 + self.lengths)
        starts = ends - self.lengths - 3
        log_probs = [self.flat[starts[row] : ends[row]] for row in chosen]
        fields = {
            "prompts": [torch.zeros(3, dtype=torch.int64)] * len(chosen),
            "responses": [torch.zeros(int(self.lengths[row]), dtype=torch.int64) for row in chosen],
            "response_mask": [self.masks[row] for row in chosen],
            "old_log_probs": [self.old[row] for row in chosen],
            "rollout_log_probs": [self.rollout[row] for row in chosen],
            "ref_log_prob": [self.reference[row] for row in chosen],
            "advantages": [self.advantages[row] for row in chosen],
        }
        data = TensorDict(
            {name: torch.nested.as_nested_tensor(parts, layout=torch.jagged) for name, parts in fields.items()},
            batch_size=len(chosen),
        )
        for name, values in extra.items():
            data[name] = torch.nested.as_nested_tensor(list(values[torch.from_numpy(chosen)]), layout=torch.jagged)
        offsets = torch.tensor([0, *np.cumsum([3 + self.lengths[row] for row in chosen])])
        # A response token's value stands at the token before it, as in a model's output.
        entropies = [torch.cat([torch.zeros(2), self.entropy[row], torch.zeros(1)]) for row in chosen]
        output = {
            name: torch.nested.nested_tensor_from_jagged(torch.cat(parts), offsets)
            for name, parts in (("log_probs", log_probs), ("entropy", entropies))
        }
        return output, data

    def end_to_end(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """The trained tokens [T] of one value per response token."""
        return torch.cat([part[mask.bool()] for part, mask in zip(parts, self.masks, strict=True)])

    def logprobs(self) -> torch.Tensor:
        """The model's log-probability of every response token, row after row: of a token stands at the one before it."""
        ends = np.cumsum(3 + self.lengths)
        return self.end_to_end([self.flat[end - 1 - length : end - 1] for end, length in zip(ends, self.lengths, strict=True)])


def config(**changes: Any) -> RlConfig:
    return RlConfig(**{"model": "m", "problems": "p.jsonl", "out": "o", "clip_low": LOW, "clip_high": HIGH, **changes})


def local_loss(rows: Rows, settings: RlConfig) -> tuple[torch.Tensor, LossStats]:
    """`rlcs.objective` on all samples at once."""
    old, rollout = rows.end_to_end(rows.old), rows.end_to_end(rows.rollout)
    constant = settings.most_think_tokens + settings.answer_tokens + 4
    cap = settings.importance_cap
    weighted = {"truncate": truncated_importance, "mask": masked_importance}[settings.importance]
    weights = token_weights(rows.trained, settings.loss_aggregation, constant=constant)
    loss, stats = policy_loss(
        rows.logprobs(), old, rows.end_to_end(rows.advantages), weights, surrogate=settings.surrogate, clip_low=LOW,
        clip_high=HIGH, dual_clip=settings.dual_clip, lengths=rows.trained,
        importance_T=None if cap is None else weighted(old, rollout, cap),
    )  # fmt: skip
    kl_T = kl_estimate(rows.logprobs(), rows.end_to_end(rows.reference), settings.kl_estimator)
    loss = loss + settings.kl_coef * (weights * kl_T).sum()
    return loss - settings.entropy_coef * (weights * rows.end_to_end(rows.entropy)).sum(), stats


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss_aggregation": "token", "old_logprobs": "trainer"},
        {"loss_aggregation": "constant", "surrogate": "gspo"},
        {"surrogate": "cispo", "old_logprobs": "trainer", "importance_cap": 1.1, "importance": "mask"},
        {"kl_coef": 0.2, "kl_estimator": "k1"},
        {"kl_coef": 0.2, "kl_estimator": "k2", "loss_aggregation": "token"},
        {"kl_coef": 0.2, "kl_estimator": "k3", "loss_aggregation": "constant"},
        {"dual_clip": 1.5, "old_logprobs": "trainer", "importance_cap": 1.1, "entropy_coef": 0.3},
    ],
)
def test_loss_and_gradient_are_the_local_engines_however_rows_are_cut(changes: dict[str, Any]) -> None:
    rows, settings = Rows(29, padding=3), config(**changes)
    weights = {LOSS_WEIGHT: row_weights(rows.trained, np.zeros(32, np.int64), settings)}
    loss_of = WeightedPolicyLoss(settings)
    ranks, rng = 2, np.random.default_rng(2)
    total, per_rank = torch.zeros(()), []
    for mine in np.array_split(rng.permutation(32), ranks):
        seen: dict[str, Any] = {}
        for chosen in np.split(mine, [3, 4, 10]):
            output, data = rows.tensors(chosen, weights)
            tu.assign_non_tensor(data, dp_size=ranks)
            part, metrics = loss_of(output, data)
            total = total + part / ranks  # as verl averages gradients over ranks
            append_to_dict(seen, metrics)
        per_rank.append(seen)

    want, stats = local_loss(rows, settings)
    assert float(total) == pytest.approx(float(want), rel=1e-5)
    (gradient,) = torch.autograd.grad(want, rows.flat, retain_graph=True)
    (got,) = torch.autograd.grad(total, rows.flat)
    np.testing.assert_allclose(got.numpy(), gradient.numpy(), rtol=1e-5, atol=1e-8)

    merged = {name: [Metric.aggregate_dp([rank[name] for rank in per_rank])] for name in per_rank[0]}
    found = policy_metrics(reduce_metrics(rename_dict(merged, "actor/")))
    for name, value in stats.metrics().items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    old, rollout = rows.end_to_end(rows.old), rows.end_to_end(rows.rollout)
    gap = (old if settings.old_logprobs == "trainer" else rows.logprobs().detach()) - rollout
    assert found["logprob_gap_mean"] == pytest.approx(float(gap.abs().mean()), rel=1e-5)
    assert found["logprob_gap_max"] == pytest.approx(float(gap.abs().max()), rel=1e-5)
    assert found["rollout_kl"] == pytest.approx(float((gap.exp() - 1 - gap).mean()), rel=1e-4)
    assert found["entropy"] == pytest.approx(float(rows.end_to_end(rows.entropy).mean()), rel=1e-5)
    if settings.kl_coef:
        kl = kl_estimate(rows.logprobs().detach(), rows.end_to_end(rows.reference), settings.kl_estimator)
        assert found["reference_kl"] == pytest.approx(float(kl.mean()), rel=1e-5)
    if settings.importance_cap is not None:
        cut = float(((old - rollout).exp() > settings.importance_cap).float().mean())
        assert found["importance_capped_fraction"] == pytest.approx(cut) and 0 < cut < 1


def test_every_update_of_a_step_is_a_mean_over_its_own_samples() -> None:
    rows = Rows(10, padding=2)
    update_B = np.array([0] * 5 + [1] * 7)
    weights_B = row_weights(rows.trained, update_B, config())[:, 0]
    for update, samples in ((0, 5), (1, 5)):
        mine = torch.from_numpy(update_B == update)
        assert float((weights_B * rows.trained)[mine].sum()) == pytest.approx(1.0, rel=1e-6)
        assert float((weights_B * rows.trained)[mine].max()) == pytest.approx(1 / samples, rel=1e-6)
    assert not weights_B[10:].any()


@pytest.mark.parametrize(("surrogate", "mode"), [("ppo", "vanilla"), ("gspo", "gspo")])
def test_without_padding_the_loss_is_verls_own_per_sample_loss(surrogate: str, mode: str) -> None:
    rows, settings = Rows(16, padding=0), config(surrogate=surrogate)
    actor: ActorConfig = FSDPActorConfig(
        strategy="fsdp2", rollout_n=4, ppo_mini_batch_size=4, use_dynamic_bsz=True, loss_agg_mode="seq-mean-token-mean",
        clip_ratio_low=LOW, clip_ratio_high=HIGH, clip_ratio_c=1e9, policy_loss=PolicyLossConfig(loss_mode=mode),
    )  # fmt: skip
    output, data = rows.tensors(np.arange(16), {LOSS_WEIGHT: row_weights(rows.trained, np.zeros(16, np.int64), settings)})
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=int(rows.trained.sum()), global_batch_size=16)
    want, _ = ppo_loss(actor, output, data)
    got, _ = WeightedPolicyLoss(settings)(output, data)
    assert float(got) == pytest.approx(float(want), rel=1e-5)


def test_importance_weights_of_a_correction_of_verls_own_are_taken_over() -> None:
    rows, settings, cap = Rows(20, padding=2), config(old_logprobs="trainer"), 1.1
    old, rollout, mask = (
        torch.nested.as_nested_tensor(parts, layout=torch.jagged).to_padded_tensor(0)
        for parts in (rows.old, rows.rollout, rows.masks)
    )
    batch = TensorDict({"old_log_probs": old, "rollout_log_probs": rollout, "response_mask": mask}, batch_size=22)
    correction = OmegaConf.create({"rollout_is": "token", "rollout_is_threshold": cap})
    corrected, _ = compute_rollout_correction_and_add_to_batch(DataProto(batch=batch), correction)  # type: ignore[arg-type]
    theirs = corrected.batch["rollout_is_weights"]
    output, data = rows.tensors(np.arange(22), {LOSS_WEIGHT: row_weights(rows.trained, np.zeros(22, np.int64), settings)})
    tu.assign_non_tensor(data, dp_size=1)
    parts = [theirs[row, : rows.lengths[row]] for row in range(22)]
    data["rollout_is_weights"] = torch.nested.as_nested_tensor(parts, layout=torch.jagged)
    got, _ = WeightedPolicyLoss(settings)(output, data)
    want, _ = local_loss(rows, config(old_logprobs="trainer", importance_cap=cap))
    assert float(got) == pytest.approx(float(want), rel=1e-5)


def test_an_entropy_bonus_without_entropies_is_refused() -> None:
    rows, settings = Rows(2, padding=0), config(entropy_coef=0.1)
    output, data = rows.tensors(np.arange(2), {LOSS_WEIGHT: row_weights(rows.trained, np.zeros(2, np.int64), settings)})
    tu.assign_non_tensor(data, dp_size=1)
    with pytest.raises(ValueError, match="entropy_coef needs the entropy"):
        WeightedPolicyLoss(settings)({"log_probs": output["log_probs"]}, data)


def test_a_micro_batch_of_padding_alone_has_a_loss_of_zero_with_a_gradient() -> None:
    rows, settings = Rows(6, padding=2), config(surrogate="gspo")
    output, data = rows.tensors(np.array([6, 7]), {LOSS_WEIGHT: row_weights(rows.trained, np.zeros(8, np.int64), settings)})
    tu.assign_non_tensor(data, dp_size=2)
    loss, metrics = WeightedPolicyLoss(settings)(output, data)
    assert float(loss) == 0.0
    (gradient,) = torch.autograd.grad(loss, rows.flat)  # sharded engines run backward on all ranks
    assert not gradient.any()
    assert all(np.isfinite(value.aggregate()) for value in metrics.values())
