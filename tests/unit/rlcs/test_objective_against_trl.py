"""Our objective against TRL's GRPOTrainer on the same tensors, where both have it.

TRL works its advantages out amid generating; its losses and penalties are in `_compute_loss`, which is called here on given
log-probabilities.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlcs.objective import kl_estimate, policy_loss, token_weights, truncated_importance
from rollout.head import head_logprobs

pytest.importorskip("trl")

from trl import GRPOTrainer
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

SAMPLES, LONGEST, LOW, HIGH = 12, 9, 0.2, 0.28


@pytest.fixture(scope="module")
def rows() -> SimpleNamespace:
    """Padded rows as TRL has them; half of the ratios are beyond a bound, some beyond 3."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, LONGEST + 1, (SAMPLES,), generator=generator)
    mask = torch.arange(LONGEST) < lengths[:, None]
    old = -3 * torch.rand(mask.shape, generator=generator)
    drift = 0.6 * torch.randn(mask.shape, generator=generator)
    return SimpleNamespace(
        lengths=lengths,
        mask=mask,
        old=old,
        new=old + drift,
        reference=old - 0.3 * torch.rand(mask.shape, generator=generator),
        rollout=old + 0.4 * torch.randn(mask.shape, generator=generator),
        advantages=torch.randn(SAMPLES, generator=generator),
    )


def trl_loss(rows: SimpleNamespace, importance: torch.Tensor | None = None, **settings: Any) -> tuple[Any, Any, Any]:
    """(loss, its gradient by the log-probabilities of the rows' tokens, what TRL logs)."""
    new = rows.new.clone().requires_grad_()
    trainer = SimpleNamespace(
        **{
            "loss_type": "grpo",
            "importance_sampling_level": "token",
            "epsilon_low": LOW,
            "epsilon_high": HIGH,
            "beta": 0.0,
            "top_entropy_quantile": 1.0,
            "off_policy_mask_threshold": None,
            "use_vllm": importance is not None,
            "vllm_importance_sampling_correction": True,
            "max_completion_length": LONGEST,
            "aux_loss_enabled": False,
            "_entropy_bonus_enabled": False,
            **{name: value for name, value in settings.items() if name != "delta"},
        },
        args=SimpleNamespace(delta=settings.get("delta"), use_bias_correction_kl=False),
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(num_processes=1, reduce=lambda x, reduction: x, gather=lambda x: x),
        _metrics={"eval": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, torch.zeros_like(new), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(SAMPLES, 1, dtype=torch.long),
        "prompt_mask": torch.ones(SAMPLES, 1, dtype=torch.long),
        "completion_ids": torch.zeros(SAMPLES, LONGEST, dtype=torch.long),
        "completion_mask": rows.mask.long(),
        "advantages": rows.advantages,
        "old_per_token_logps": rows.old,
        "ref_per_token_logps": rows.reference,
        "num_items_in_batch": rows.mask.sum(),
        "importance_sampling_ratio": importance,
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    (gradient,) = torch.autograd.grad(loss, new)
    return loss.detach(), gradient[rows.mask], {name: values[0] for name, values in trainer._metrics["eval"].items()}


def our_loss(rows: SimpleNamespace, aggregation: Any = "sample", kl_coef: float = 0.0, **settings: Any) -> tuple[Any, Any, Any]:
    new_T = rows.new[rows.mask].requires_grad_()
    weights_T = token_weights(rows.lengths, aggregation, constant=LONGEST)
    bounds = {"clip_low": LOW, "clip_high": HIGH, **settings}
    advantages_T = rows.advantages[:, None].expand_as(rows.mask)[rows.mask]
    loss, stats = policy_loss(new_T, rows.old[rows.mask], advantages_T, weights_T, lengths=rows.lengths, **bounds)
    if kl_coef:
        loss = loss + kl_coef * (weights_T * kl_estimate(new_T, rows.reference[rows.mask], "k3")).sum()
    (gradient_T,) = torch.autograd.grad(loss, new_T)
    return loss.detach(), gradient_T, stats.metrics()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"delta": 2.0}, {"dual_clip": 2.0}),
        ({"importance_sampling_level": "sequence"}, {"surrogate": "gspo"}),
        # TRL's bound is the weight itself, and there is none below.
        ({"loss_type": "cispo", "epsilon_high": 1.0 + HIGH}, {"surrogate": "cispo", "clip_low": 1.0, "aggregation": "token"}),
        ({"loss_type": "bnpo"}, {"aggregation": "token"}),
        ({"loss_type": "dapo"}, {"aggregation": "token"}),
        ({"loss_type": "dr_grpo"}, {"aggregation": "constant"}),
        ({"beta": 0.1}, {"kl_coef": 0.1}),
        ({"beta": 0.1, "loss_type": "dapo"}, {"kl_coef": 0.1, "aggregation": "token"}),
    ],
    ids=["grpo", "dual clip", "gspo", "cispo", "token mean", "dapo", "dr. grpo", "kl", "kl, token mean"],
)
def test_losses_and_their_gradients(rows: SimpleNamespace, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    loss, gradient_T, _ = trl_loss(rows, **theirs)
    our, our_gradient_T, _ = our_loss(rows, **ours)
    torch.testing.assert_close(our, loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(our_gradient_T, gradient_T, rtol=1e-5, atol=1e-7)
    assert float(gradient_T.abs().max()) > 1e-3


def test_truncated_importance_weights(rows: SimpleNamespace) -> None:
    importance = truncated_importance(rows.old, rows.rollout, 1.5)
    assert float(importance.max()) == 1.5 > float(importance.min())
    loss, gradient_T, _ = trl_loss(rows, importance)
    our, our_gradient_T, _ = our_loss(rows, importance_T=importance[rows.mask])
    torch.testing.assert_close(our, loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(our_gradient_T, gradient_T, rtol=1e-5, atol=1e-7)


def test_clipped_tokens(rows: SimpleNamespace) -> None:
    _, _, logged = trl_loss(rows)
    _, _, metrics = our_loss(rows)
    assert metrics["clip_fraction_low"] == pytest.approx(logged["clip_ratio/low_mean"]) and metrics["clip_fraction_low"] > 0.05
    assert (
        metrics["clip_fraction_high"] == pytest.approx(logged["clip_ratio/high_mean"]) and metrics["clip_fraction_high"] > 0.05
    )


def test_log_probabilities_and_entropies_from_hidden_states() -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(16, 500)
    hidden_TD, targets_T = 3 * torch.randn(40, 16, generator=generator), torch.randint(0, 500, (40,), generator=generator)
    logprobs_T, entropy_T = head_logprobs(head, hidden_TD, targets_T, with_entropy=True, width=128)
    logits_TV = head(hidden_TD)
    torch.testing.assert_close(logprobs_T, selective_log_softmax(logits_TV, targets_T), rtol=1e-5, atol=1e-5)
    assert entropy_T is not None
    torch.testing.assert_close(entropy_T, entropy_from_logits(logits_TV), rtol=1e-5, atol=1e-5)
