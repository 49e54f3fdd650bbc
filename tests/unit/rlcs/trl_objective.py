"""TRL's side of test_objective_against_trl.py, in a process of its own: what GRPOTrainer makes of given log-probabilities.

    PYTHONPATH=(where TRL is) python trl_objective.py IN OUT      both torch files: cases by name, what was found by name

A case holds padded rows [B, L] (`new`, `old`, `reference`, `mask`), `advantages` [B], `importance` [B, L] or None, and TRL's
`settings`. TRL works its advantages out amid generating; its losses and penalties are in `_compute_loss`.
"""

import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from trl import GRPOTrainer
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

DEFAULTS = {
    "loss_type": "grpo",
    "importance_sampling_level": "token",
    "epsilon_low": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.0,
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "vllm_importance_sampling_correction": True,
    "aux_loss_enabled": False,
    "_entropy_bonus_enabled": False,
}


def loss(case: dict[str, Any]) -> dict[str, Any]:
    """Loss, its gradient by the log-probabilities of the rows' tokens [T], what TRL logs."""
    new, mask, settings = case["new"].clone().requires_grad_(), case["mask"], dict(case["settings"])
    delta = settings.pop("delta", None)
    trainer = SimpleNamespace(
        **{**DEFAULTS, **settings},
        use_vllm=case["importance"] is not None,
        max_completion_length=mask.shape[1],
        args=SimpleNamespace(delta=delta, use_bias_correction_kl=False),
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(num_processes=1, reduce=lambda x, reduction: x, gather=lambda x: x),
        _metrics={"eval": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, torch.zeros_like(new), None),
    )
    inputs = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": case["advantages"],
        "old_per_token_logps": case["old"],
        "ref_per_token_logps": case["reference"],
        "num_items_in_batch": mask.sum(),
        "importance_sampling_ratio": case["importance"],
    }
    found = GRPOTrainer._compute_loss(trainer, None, inputs)
    (gradient,) = torch.autograd.grad(found, new)
    logged = {name: values[0] for name, values in trainer._metrics["eval"].items()}
    return {"loss": found.detach(), "gradient_T": gradient[mask], "logged": logged}


def main() -> None:
    cases = torch.load(sys.argv[1])
    head = cases.pop("head")
    found: dict[str, Any] = {name: loss(case) for name, case in cases.items()}
    found["head"] = {
        "logprobs_T": selective_log_softmax(head["logits_TV"], head["targets_T"]),
        "entropy_T": entropy_from_logits(head["logits_TV"]),
    }
    torch.save(found, sys.argv[2])


if __name__ == "__main__":
    main()
