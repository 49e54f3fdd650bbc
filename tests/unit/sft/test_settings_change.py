"""Which settings a resumed run may change."""

from pathlib import Path
from typing import Any

import pytest

from rlcs.rl_config import RlConfig
from rlcs.run_identity import FIXED, FREE
from sft.config import SftConfig
from sft.settings_change import refuse_changes
from sft.train import FIXED as SFT_FIXED
from sft.train import FREE as SFT_FREE

CHECKPOINT = Path("run/checkpoints/step-000010")


def config(**changes: Any) -> RlConfig:
    return RlConfig(**{"model": "m", "problems": "p.jsonl", "out": "o", **changes})


def changes(old: dict[str, Any], new: dict[str, Any], **saved: Any) -> str | None:
    before = config(**old).model_dump(mode="json") | saved
    return refuse_changes(before, config(**new), CHECKPOINT, fixed=FIXED | {"curriculum"}, free=FREE)


def test_nothing_is_said_of_settings_that_change_no_result() -> None:
    assert changes({}, {}) is None
    assert changes({}, {"save_every": 3, "loggers": [], "out": "elsewhere", "vllm": {"gpu_memory": 0.5}}) is None


def test_settings_that_the_state_was_made_under_are_refused_by_name_with_old_and_new() -> None:
    new = {"group_size": 4, "seed": 7, "curriculum": {"window": [0.1, 0.9]}, "lr": 1e-3}
    with pytest.raises(ValueError, match="Resume with the old values") as refused:
        changes({}, new)
    said = str(refused.value)
    assert "group_size 8 -> 4" in said and "seed 0 -> 7" in said and "curriculum.window" in said and str(CHECKPOINT) in said
    assert "lr " not in said  # which may change


def test_settings_that_may_change_are_named() -> None:
    said = changes({}, {"lr": 1e-3, "think_tokens": [3, 9]})
    assert said is not None and "lr 0.0005 -> 0.001" in said and "think_tokens 192 -> [3, 9]" in said and "step-000010" in said


def test_an_optional_section_that_comes_or_goes_counts_as_changed() -> None:
    for old, new in (({}, {"lora": {"rank": 4}}), ({"lora": {"rank": 4}}, {})):
        with pytest.raises(ValueError, match=r"lora"):
            changes(old, new)


def test_settings_of_another_version_of_the_program_are_passed_over() -> None:
    saved = config().model_dump(mode="json")
    del saved["seed"]
    assert refuse_changes(saved | {"gone": 1}, config(seed=3), CHECKPOINT, fixed=FIXED, free=FREE) is None


@pytest.mark.parametrize(("names", "model"), [(FIXED | FREE, RlConfig), (SFT_FIXED | SFT_FREE, SftConfig)])
def test_the_lists_name_settings_that_there_are(names: set[str], model: Any) -> None:
    assert names <= model.model_fields.keys()
    assert not FIXED & FREE and not SFT_FIXED & SFT_FREE
