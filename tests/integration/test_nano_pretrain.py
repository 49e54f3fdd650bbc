"""Pre-training of the nano model, stopped between saves and run again, is the training that was never stopped."""

import json
from pathlib import Path

import pytest
import torch

from rlcs.nano import pretrain as module
from rlcs.nano.pretrain import Recipe, pretrain

pytestmark = pytest.mark.integration

RECIPE = Recipe(steps=5, tokens=300, warmup=2, decay=2, warm_vision=1, ramp=2)


class PowerCut(Exception):
    """Stands for whatever ends the process."""


def test_a_stopped_pretraining_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain(tmp_path / "whole", RECIPE, save_every=2)

    draw, drawn = module.draw_batch, []

    def cut_after_three(*arguments: object, **options: object) -> object:
        drawn.append(None)
        if len(drawn) == 5:  # the held-out batch, then three steps; step 3 is lost, step 2 was saved
            raise PowerCut
        return draw(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "draw_batch", cut_after_three)
        with pytest.raises(PowerCut):
            pretrain(tmp_path / "cut", RECIPE, save_every=2)
    pretrain(tmp_path / "cut", RECIPE, export=tmp_path / "model", save_every=2)

    whole, cut = (torch.load(tmp_path / name / "state.pt", weights_only=False) for name in ("whole", "cut"))
    assert whole["step"] == cut["step"] == RECIPE.steps
    assert all(torch.equal(whole["model"][name], cut["model"][name]) for name in whole["model"])
    last = [json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1]) for name in ("whole", "cut")]
    assert {k: v for k, v in last[0].items() if k.startswith("accuracy")} == {
        k: v for k, v in last[1].items() if k.startswith("accuracy")
    }
    assert (tmp_path / "model" / "model.safetensors").exists()
