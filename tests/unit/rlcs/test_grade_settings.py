"""Tiers, grades as they stand in a problem file, and the settings of a grading."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from rlcs.config import ConfigError, load_config
from rlcs.grade_config import GradeConfig
from rlcs.grades import DEFAULT_TIERS, Grade, Tiers
from rlcs.rl_config import RlConfig

CONFIGS = Path(__file__).parents[3] / "configs"


def test_a_rate_on_a_bound_belongs_to_the_tier_nearer_the_middle() -> None:
    """Every rate of up to 20 answers, in exact fractions."""
    tiers = Tiers.of(DEFAULT_TIERS)
    for k in range(1, 21):
        for right in range(k + 1):
            rate = Fraction(right, k)
            if rate < Fraction(1, 10):
                expected = "very hard"
            elif rate < Fraction(7, 20):
                expected = "hard"
            elif rate <= Fraction(13, 20):
                expected = "medium"
            elif rate <= Fraction(9, 10):
                expected = "easy"
            else:
                expected = "very easy"
            assert tiers.of_rate(right / k) == expected, rate


def test_tiers_are_written_as_names_and_bounds_by_turns() -> None:
    assert Tiers.parse("hard, 0.25,easy") == Tiers.of(["hard", 0.25, "easy"]) == Tiers(("hard", "easy"), (0.25,))
    assert Tiers.of(["all"]).of_rate(0.3) == "all"
    for axis in (
        ["hard", 0.3],
        [0.3, "easy"],
        ["a", 0.5, "b", 0.4, "c"],
        ["a", 0.0, "b"],
        ["a", 1.0, "b"],
        ["a", "b", "c"],
        [" "],
        [],
    ):
        with pytest.raises(ValueError, match="expected names and rising pass rates"):
            Tiers.of(axis)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="each name once"):
        Tiers.parse("a,0.5,a")


def test_a_grade_reads_back_as_it_was_written() -> None:
    grade = Grade("m", 6, 4, 2, {"thinking": (3, 3), "nothink": (1, 3)})
    assert Grade.from_json(json.loads(json.dumps(grade.to_json()))) == grade
    assert Grade.from_json({"model": "other tool", "k": 4, "right": 1}) == Grade("other tool", 4, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no grade"),
        ({"k": 1, "right": 1}, "model is null; expected text"),
        ({"model": "m", "k": 4}, "right is null; expected a whole number"),
        ({"model": "m", "k": 4.5, "right": 1}, "k is 4.5; expected a whole number"),
        ({"model": "m", "k": True, "right": 1}, "k is true; expected a whole number"),
        ({"model": "m", "k": 4, "right": 5}, "5 right of 4"),
        ({"model": "m", "k": 4, "right": 1, "modes": {"thinking": {"k": 4}}}, "thinking: right is null"),
        ({"model": "m", "k": 4, "right": 1, "modes": [1]}, "expected an object of objects"),
    ],
)
def test_a_grade_that_cannot_be_meant_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grade.from_json(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modes": ["thinking", "thinking"]}, "each mode once"),
        ({"modes": ["thinking"], "nothink_ratio": 0.5}, "leave out one of the two"),
        ({"tiers": ["hard", 1.5, "easy"]}, "expected names and rising pass rates"),
        ({"out": "./p"}, "out is the problem file itself"),
        ({"samples": 0}, "greater than or equal to 1"),
        ({"sample": 3}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GradeConfig(**{"model": "m", "problems": "p", "out": "o", **changes})


def test_tiers_in_a_configuration_file_are_a_list(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: m\nproblems: p\nout: o\n")
    assert load_config(GradeConfig, path, ["tiers=[hard, 0.5, easy]"]).tiers == ["hard", 0.5, "easy"]
    with pytest.raises(ConfigError, match="expected names and rising pass rates"):
        load_config(GradeConfig, path, ["tiers=[1, 0.5, 2]"])


def test_settings_shared_with_training_have_the_same_defaults() -> None:
    shared = GradeConfig.model_fields.keys() & RlConfig.model_fields.keys() - {"nothink_ratio"}
    assert {"temperature", "top_p", "think_tokens", "answer_tokens", "rollout_batch", "rollout"} <= shared
    for name in shared:
        assert GradeConfig.model_fields[name].default == RlConfig.model_fields[name].default, name
    assert all(field.description for field in GradeConfig.model_fields.values())


def test_the_shipped_configuration_samples_as_its_training_does() -> None:
    found = GradeConfig(**yaml.safe_load((CONFIGS / "grade" / "nano.yaml").read_text()))
    training = RlConfig(**yaml.safe_load((CONFIGS / "rl" / "nano.yaml").read_text()))
    for name in ("temperature", "top_p", "think_tokens", "answer_tokens", "dtype", "problems"):
        assert getattr(found, name) == getattr(training, name), name
