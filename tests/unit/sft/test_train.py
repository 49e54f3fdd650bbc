"""The SFT run as a whole, on a model of a moment: what it logs, evaluates, saves, rejects and refuses."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from rich.console import Console
from safetensors.torch import load_file
from sft_lines import Line, Write, example

from sft.checkpoint import resolve_model
from sft.config import SftConfig
from sft.data import DataError
from sft.train import run_sft


@pytest.fixture
def settings(base: Path, write: Write, lines: list[Line], tmp_path: Path) -> dict[str, Any]:
    """A run of six steps, each of four of six examples."""
    return {
        "model": str(base),
        "data": write(lines),
        "out": tmp_path / "run",
        "steps": 6,
        "batch_size": 4,
        "lr": 3e-3,
        "warmup_steps": 2,
        "token_budget": 200,
        "nothink_ratio": 0.5,
    }


def train(settings: dict[str, Any], *, resume: bool = False, **changes: Any) -> Path:
    return run_sft(SftConfig(**{**settings, **changes}), resume=resume, console=Console(quiet=True))


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out)]


def test_every_step_logs_losses_by_domain_and_mode_speed_and_memory(settings: dict[str, Any]) -> None:
    train(settings)
    logged = rows(settings["out"])
    assert [row["step"] for row in logged] == list(range(6))
    for row in logged:
        assert row["lr"] > 0 and row["grad_norm"] > 0 and row["tokens_per_s"] > 0 and row["peak_memory_mb"] > 100
        assert row["target_tokens"] < row["packed_tokens"]
    assert any({"math/loss", "ocr/loss", "thinking/loss", "nothink/loss"} <= row.keys() for row in logged)
    assert [row["lr"] for row in logged[:3]] == [1.5e-3, 3e-3, 3e-3]
    assert logged[-1]["loss"] < logged[0]["loss"]
    fractions = [row["nothink_fraction"] for row in logged]
    # Two epochs of six: 2 of the 5 with a thought are rewritten in each (2.5 rounds to even), one has none of its own.
    assert sum(fractions[:3]) * 4 == sum(fractions[3:]) * 4 == 6


def test_held_out_examples_are_evaluated_on_schedule_and_at_the_end(settings: dict[str, Any]) -> None:
    train(settings, steps=5, eval_data=settings["data"], eval_every=2)
    evaluated = {row["step"] for row in rows(settings["out"]) if "eval/loss" in row}
    assert evaluated == {1, 3, 4}
    last = rows(settings["out"])[-1]
    for domain in ("math", "ocr"):
        for mode in ("thinking", "nothink"):
            assert last[f"eval/{domain}/{mode}/loss"] > 0
        assert 0 <= last[f"eval/{domain}/exact_match"] <= last[f"eval/{domain}/token_accuracy"] <= 1


def test_evaluation_happens_only_at_the_end_without_a_schedule_and_in_one_form_without_rewriting(
    settings: dict[str, Any],
) -> None:
    train(settings, steps=2, eval_data=settings["data"], eval_every=0, nothink_ratio=0)
    logged = rows(settings["out"])
    assert ["eval/loss" in row for row in logged] == [False, True]
    assert "eval/ocr/thinking/loss" in logged[1] and "eval/ocr/nothink/loss" not in logged[1]
    assert "eval/math/nothink/loss" in logged[1]  # the example without a thought


def test_evaluating_does_not_change_training(settings: dict[str, Any], tmp_path: Path) -> None:
    train(settings)
    train(settings, out=tmp_path / "evaluated", eval_data=settings["data"], eval_every=1)
    assert losses(tmp_path / "evaluated") == losses(settings["out"])


def test_rejects_are_counted_on_the_console_and_listed_in_the_run(
    settings: dict[str, Any], write: Write, lines: list[Line]
) -> None:
    broken = {**example("broken"), "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "2"}]}
    settings["data"] = write([*lines, broken, example("long", think="very " * 60)])
    screen = io.StringIO()
    run_sft(SftConfig(**settings, max_length=150), console=Console(file=screen, width=200))
    assert "6 examples; rejected: 1 no-think, 1 over-max-length" in screen.getvalue()
    listed = json.loads((settings["out"] / "rejected.json").read_text())
    assert listed == {"data": {"no-think": ["broken"], "over-max-length": ["long"]}, "eval_data": {}}


def test_a_run_of_which_every_example_is_too_long_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no example has at most 5 tokens; raise max_length"):
        train(settings, max_length=5)
    assert not (settings["out"] / "metrics.jsonl").exists()


def test_checkpoints_come_on_schedule_and_at_the_end_and_the_latest_are_kept(settings: dict[str, Any]) -> None:
    final = train(settings, steps=5, save_every=2, keep_checkpoints=2)
    assert final.name == "step-000005" and resolve_model(settings["out"]) == final
    assert sorted(path.name for path in final.parent.iterdir()) == ["step-000004", "step-000005"]
    assert yaml.safe_load((settings["out"] / "config.yaml").read_text())["steps"] == 5


def test_another_run_starts_from_the_last_checkpoint_of_this_one(settings: dict[str, Any], tmp_path: Path) -> None:
    train(settings)
    train(settings, model=str(settings["out"]), out=tmp_path / "second")
    assert losses(tmp_path / "second")[0] < losses(settings["out"])[0]


def test_a_directory_with_a_run_is_refused_unless_resuming(settings: dict[str, Any]) -> None:
    final = train(settings, steps=1)
    with pytest.raises(FileExistsError, match="--resume"):
        train(settings, steps=1)
    before = (settings["out"] / "metrics.jsonl").read_bytes()
    assert train(settings, steps=1, resume=True) == final
    assert (settings["out"] / "metrics.jsonl").read_bytes() == before


def test_a_resumed_run_computes_what_an_unbroken_one_does(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = train(settings, min_lr_ratio=1)
    broken = tmp_path / "broken"
    train(settings, out=broken, steps=3, min_lr_ratio=1)
    resumed = train(settings, out=broken, min_lr_ratio=1, resume=True)
    assert losses(broken) == losses(settings["out"])
    first, second = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_without_a_checkpoint_begins_anew_when_resumed(settings: dict[str, Any]) -> None:
    train(settings, steps=2)
    expected = losses(settings["out"])
    (settings["out"] / "checkpoints").rename(settings["out"] / "lost")
    train(settings, steps=2, resume=True)
    assert losses(settings["out"]) == expected


def test_a_run_is_resumed_only_with_its_own_examples(settings: dict[str, Any], write: Write, lines: list[Line]) -> None:
    train(settings, steps=1)
    write([*lines[:-1], example("o2", "changed")])
    with pytest.raises(ValueError, match="data: 1 changed: o2"):
        train(settings, steps=2, resume=True)
    assert len(rows(settings["out"])) == 1


def test_the_cache_changes_no_loss_and_the_seed_does(settings: dict[str, Any], tmp_path: Path) -> None:
    train(settings)
    train(settings, out=tmp_path / "uncached", cache_mb=0)
    train(settings, out=tmp_path / "other", seed=1)
    assert losses(tmp_path / "uncached") == losses(settings["out"]) != losses(tmp_path / "other")


def test_the_console_has_a_line_every_few_steps(settings: dict[str, Any]) -> None:
    screen = io.StringIO()
    run_sft(SftConfig(**settings, log_every=4, eval_data=settings["data"]), console=Console(file=screen, width=200))
    shown = [line.split()[1] for line in screen.getvalue().splitlines() if line.startswith("step ")]
    assert shown == ["0", "4", "5"]
    assert "held out, step 5" in screen.getvalue() and "tok/s" in screen.getvalue()


def test_events_are_written_only_when_asked_for(settings: dict[str, Any], tmp_path: Path) -> None:
    train(settings, steps=1)
    train(settings, steps=1, out=tmp_path / "plain", loggers=[])
    assert (settings["out"] / "events").is_dir() and not (tmp_path / "plain" / "events").exists()


def test_parameters_train_in_the_type_asked_for(settings: dict[str, Any]) -> None:
    final = train(settings, steps=1, dtype="bfloat16")
    assert {value.dtype for value in load_file(final / "model.safetensors").values()} == {torch.bfloat16}


def test_threads_are_set_when_given(settings: dict[str, Any]) -> None:
    before = torch.get_num_threads()
    try:
        train(settings, steps=1, threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_epochs_become_steps_unless_steps_are_given() -> None:
    paths = {"model": "m", "data": "d", "out": "o"}
    assert SftConfig(**paths, epochs=1.5, batch_size=4).total_steps(6) == 3
    assert SftConfig(**paths, epochs=1, batch_size=4).total_steps(6) == 2
    assert SftConfig(**paths, epochs=1, steps=7).total_steps(6) == 7


@pytest.mark.parametrize("change", [{"learning_rate": 1.0}, {"nothink_ratio": 1.5}, {"steps": 0}, {"betas": [0.9, 1.0]}])
def test_unknown_keys_and_bad_values_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SftConfig(**{"model": "m", "data": "d", "out": "o", **change})


def test_every_setting_has_its_line_of_documentation() -> None:
    assert all(field.description for field in SftConfig.model_fields.values())


def test_the_shipped_configuration_is_valid() -> None:
    path = Path(__file__).parents[3] / "configs" / "sft" / "nano.yaml"
    assert SftConfig(**yaml.safe_load(path.read_text())).model == "assets/nano"
