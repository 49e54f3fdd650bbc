"""Our objective against TRL's GRPOTrainer on the same tensors, where both have it.

`make setup-test` installs TRL beside the environment, in .venv/trl: verl, where it finds a TRL, takes it for one of the time
when that had value heads, and its critic fails.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rlcs.objective import kl_estimate, policy_loss, token_weights, truncated_importance
from rollout.head import head_logprobs

TRL = Path(sys.prefix) / "trl"
SAMPLES, LONGEST = 12, 9

# Name -> (TRL's settings, ours).
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo": ({}, {}),
    "dual clip": ({"delta": 2.0}, {"dual_clip": 2.0}),
    "gspo": ({"importance_sampling_level": "sequence"}, {"surrogate": "gspo"}),
    # TRL's bound is the weight itself, and there is none below.
    "cispo": ({"loss_type": "cispo", "epsilon_high": 1.28}, {"surrogate": "cispo", "clip_low": 1.0, "aggregation": "token"}),
    "token mean": ({"loss_type": "bnpo"}, {"aggregation": "token"}),
    "dapo": ({"loss_type": "dapo"}, {"aggregation": "token"}),
    "dr. grpo": ({"loss_type": "dr_grpo"}, {"aggregation": "constant"}),
    "kl": ({"beta": 0.1}, {"kl_coef": 0.1}),
    "kl, token mean": ({"beta": 0.1, "loss_type": "dapo"}, {"kl_coef": 0.1, "aggregation": "token"}),
    "truncated importance": ({}, {"importance_cap": 1.5}),
}


@pytest.fixture(scope="module")
def rows() -> dict[str, torch.Tensor]:
    """Padded rows as TRL has them; half of the ratios are beyond a bound."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, LONGEST + 1, (SAMPLES,), generator=generator)
    mask = torch.arange(LONGEST) < lengths[:, None]
    old = -3 * torch.rand(mask.shape, generator=generator)
    return {
        "lengths": lengths,
        "mask": mask,
        "old": old,
        "new": old + 0.6 * torch.randn(mask.shape, generator=generator),
        "reference": old - 0.3 * torch.rand(mask.shape, generator=generator),
        "rollout": old + 0.4 * torch.randn(mask.shape, generator=generator),
        "advantages": torch.randn(SAMPLES, generator=generator),
    }


@pytest.fixture(scope="module")
def head() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden_TD, weight_VD = 3 * torch.randn(40, 16, generator=generator), torch.randn(500, 16, generator=generator) / 4
    targets_T = torch.randint(0, 500, (40,), generator=generator)
    return {"hidden_TD": hidden_TD, "weight_VD": weight_VD, "targets_T": targets_T, "logits_TV": hidden_TD @ weight_VD.T}


@pytest.fixture(scope="module")
def theirs(rows: dict[str, Any], head: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What TRL finds, by case."""
    if not TRL.is_dir():
        pytest.skip("TRL is not there; run make setup-test")
    folder = tmp_path_factory.mktemp("trl")
    cases: dict[str, Any] = {"head": head}
    for name, (settings, ours) in CASES.items():
        cap = ours.get("importance_cap")
        cases[name] = {
            **rows,
            "settings": settings,
            "importance": cap and truncated_importance(rows["old"], rows["rollout"], cap),
        }
    torch.save(cases, folder / "cases.pt")
    script = Path(__file__).with_name("trl_objective.py")
    done = subprocess.run(
        [sys.executable, script, folder / "cases.pt", folder / "found.pt"],
        env={**os.environ, "PYTHONPATH": str(TRL), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = torch.load(folder / "found.pt")
    return found


def our_loss(rows: dict[str, Any], settings: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """(loss, its gradient by the log-probabilities [T], metrics)."""
    settings = {"aggregation": "sample", "kl_coef": 0.0, "importance_cap": None, **settings}
    aggregation, kl_coef, cap = (settings.pop(name) for name in ("aggregation", "kl_coef", "importance_cap"))
    mask, lengths = rows["mask"], rows["lengths"]
    new_T, old_T = rows["new"][mask].requires_grad_(), rows["old"][mask]
    weights_T = token_weights(lengths, aggregation, constant=LONGEST)
    importance_T = cap and truncated_importance(old_T, rows["rollout"][mask], cap)
    advantages_T = rows["advantages"][:, None].expand_as(mask)[mask]
    loss, stats = policy_loss(new_T, old_T, advantages_T, weights_T, lengths=lengths, importance_T=importance_T, **settings)
    if kl_coef:
        loss = loss + kl_coef * (weights_T * kl_estimate(new_T, rows["reference"][mask], "k3")).sum()
    (gradient_T,) = torch.autograd.grad(loss, new_T)
    return loss.detach(), gradient_T, stats.metrics()


@pytest.mark.parametrize("name", CASES)
def test_losses_and_their_gradients(rows: dict[str, Any], theirs: dict[str, Any], name: str) -> None:
    loss, gradient_T, _ = our_loss(rows, CASES[name][1])
    torch.testing.assert_close(loss, theirs[name]["loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient_T, theirs[name]["gradient_T"], rtol=1e-5, atol=1e-7)
    assert float(gradient_T.abs().max()) > 1e-3


def test_every_case_is_a_loss_of_its_own(theirs: dict[str, Any]) -> None:
    """Else a setting that does nothing would go unnoticed on both sides. DAPO's loss is the mean over tokens."""
    losses = {name: float(theirs[name]["loss"]) for name in CASES if name != "dapo"}
    assert len({round(loss, 6) for loss in losses.values()}) == len(losses)


def test_clipped_tokens(rows: dict[str, Any], theirs: dict[str, Any]) -> None:
    _, _, metrics = our_loss(rows, {})
    for bound in ("low", "high"):
        assert metrics[f"clip_fraction_{bound}"] == pytest.approx(theirs["grpo"]["logged"][f"clip_ratio/{bound}_mean"])
        assert metrics[f"clip_fraction_{bound}"] > 0.05


def test_log_probabilities_and_entropies_from_hidden_states(head: dict[str, torch.Tensor], theirs: dict[str, Any]) -> None:
    layer = torch.nn.Linear(16, 500, bias=False)
    layer.weight.data = head["weight_VD"]
    logprobs_T, entropy_T = head_logprobs(layer, head["hidden_TD"], head["targets_T"], with_entropy=True, width=128)
    assert entropy_T is not None
    torch.testing.assert_close(logprobs_T.detach(), theirs["head"]["logprobs_T"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy_T.detach(), theirs["head"]["entropy_T"], rtol=1e-5, atol=1e-5)
