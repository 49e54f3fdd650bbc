"""A real run whose training answers are wrong in one domain: the guard accuses that domain, quarantines it, and survives a
resume.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig

pytestmark = pytest.mark.integration

EACH = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Training problems and, by other ids, audit problems with right answers and as training pays them. The right answer is 1
    throughout; training pays 2 in domain math. In ocr it asks for what the policy never says, so that nothing is learned.
    """
    root, found = tmp_path_factory.mktemp("guard"), {}
    for name, answers in (
        ("train", {"math": "2", "ocr": "7"}),
        ("paid", {"math": "2", "ocr": "7"}),
        ("audit", {"math": "1", "ocr": "7"}),
    ):
        kind = "t" if name == "train" else "a"
        lines = [
            {
                "id": f"{kind}-{domain}-{i}",
                "domain": domain,
                "messages": [{"role": "user", "content": f"pick {i}"}],
                "answer": answer,
            }
            for domain, answer in answers.items()
            for i in range(EACH)
        ]
        found[name] = root / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return found


def config(policy: Path, files: dict[str, Path], out: Path, guard: dict[str, Any] | None, **changes: Any) -> RlConfig:
    settings: dict[str, Any] = {
        "model": str(policy),
        "problems": files["train"],
        "out": out,
        "threads": 1,
        "steps": 8,
        "save_every": 3,
        "groups_per_step": 8,
        "group_size": 4,
        "think_tokens": 4,
        "answer_tokens": 8,
        "nothink_ratio": 0.0,
        "lr": 2e-3,
        "token_budget": 1024,
        "sampler": "uniform",
        "verifier_workers": 1,
        "table_every": 0,
        "loggers": [],
    }
    if guard is not None:
        settings["guard"] = {
            "problems": files["audit"],
            "as_trained": files["paid"],
            "every_steps": 2,
            "samples": 2,
            "false_alarms": 0.05,
        } | guard
    return RlConfig(**(settings | changes))


def rows(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def learned(run: Path) -> list[Any]:
    return [(row.get("policy/loss"), row["rollouts"], row.get("math/reward")) for row in rows(run, "metrics.jsonl")]


def drawn(run: Path, step: int) -> Counter[str]:
    return Counter(pq.read_table(run / f"rollouts/step={step:06d}.parquet")["domain"].to_pylist())


@pytest.fixture(scope="module")
def quarantined(coin_policy: Path, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out, console = tmp_path_factory.mktemp("runs") / "quarantined", Console(record=True, width=240)
    run_rl(config(coin_policy, files, out, {"on_collapse": "quarantine"}), console=console)
    return out, console.export_text()


def test_a_gamed_domain_is_accused_and_drawn_no_more(quarantined: tuple[Path, str]) -> None:
    run, said = quarantined
    (alert,) = rows(run, "alerts.jsonl")
    assert (alert["kind"], alert["domain"]) == ("collapse", "math")
    assert alert["audit_now"] < alert["audit_before"] and alert["reward_now"] > alert["reward_before"]
    assert alert["sentence"] in said
    assert "quarantined: math" in said
    assert drawn(run, alert["step"])["math"] > 0
    for step in range(alert["step"] + 1, 8):
        assert drawn(run, step) == {"ocr": 32}

    looks = rows(run, "guard.jsonl")
    assert [look["updates"] for look in looks] == [0, 2, 4, 6, 8]
    assert [look["domains"]["math"]["quarantined"] for look in looks] == [look["updates"] >= alert["updates"] for look in looks]
    assert not any(look["domains"]["ocr"]["quarantined"] for look in looks)
    metrics = rows(run, "metrics.jsonl")
    for look in looks[1:]:
        for name in ("audit", "reward", "passed_wrongly", "p_collapse"):
            assert metrics[look["updates"] - 1][f"guard/math/{name}"] == look["domains"]["math"][name]
    for look in looks:  # the files hold the responses that the rates are made of
        table = pq.read_table(run / f"audit/step={look['updates']:06d}.parquet").to_pandas()
        math = table[table.domain == "math"]
        assert len(math) == 2 * EACH
        assert math.correct.mean() == pytest.approx(look["domains"]["math"]["audit"])
        assert math.reward.mean() == pytest.approx(look["domains"]["math"]["reward"])
        assert (math.passed & ~math.correct).mean() == pytest.approx(look["domains"]["math"]["passed_wrongly"])
        assert ((math.extracted == "2") == (math.reward == 1)).all()
        assert ((math.extracted == "1") == math.correct).all()


def test_a_guard_that_only_warns_leaves_training_as_it_is(
    coin_policy: Path, files: dict[str, Path], quarantined: tuple[Path, str], tmp_path: Path
) -> None:
    run_rl(config(coin_policy, files, tmp_path / "none", None), console=Console(quiet=True))
    run_rl(config(coin_policy, files, tmp_path / "warned", {"on_collapse": "warn"}), console=Console(quiet=True))
    assert learned(tmp_path / "none") == learned(tmp_path / "warned")
    run, _ = quarantined
    (accused,), (warned,) = (rows(path, "alerts.jsonl") for path in (run, tmp_path / "warned"))
    assert accused == warned
    assert learned(run)[: accused["updates"]] == learned(tmp_path / "warned")[: accused["updates"]]
    assert drawn(tmp_path / "warned", 7)["math"] > 0


def test_a_run_that_generates_ahead_drops_the_domain_once_what_was_under_way_is_done(
    coin_policy: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    settings = config(coin_policy, files, tmp_path / "ahead", {"on_collapse": "quarantine"}, max_staleness=1)
    run_rl(settings, console=Console(quiet=True))
    (alert,) = rows(tmp_path / "ahead", "alerts.jsonl")
    assert (alert["kind"], alert["domain"]) == ("collapse", "math")
    assert drawn(tmp_path / "ahead", alert["step"] + 1)["math"] > 0  # had been drawn before the alarm
    for step in range(alert["step"] + 2, 8):
        assert drawn(tmp_path / "ahead", step) == {"ocr": 32}


def test_a_guarded_run_resumed_from_any_checkpoint_is_the_whole_run(
    coin_policy: Path, files: dict[str, Path], quarantined: tuple[Path, str], tmp_path: Path
) -> None:
    """Cut by a crash of the step after each checkpoint, before and after the alarm, not by an end, which would have a look."""
    whole, _ = quarantined
    for cut in (3, 6):
        settings = config(coin_policy, files, tmp_path / str(cut), {"on_collapse": "quarantine"})
        with pytest.raises(KeyboardInterrupt):
            run_rl(settings, console=InterruptedAt(cut + 1))
        run_rl(settings, resume=True, console=Console(quiet=True))
        for name in ("guard.jsonl", "alerts.jsonl"):
            assert (settings.out / name).read_text() == (whole / name).read_text()
        assert learned(settings.out) == learned(whole)
        assert [drawn(settings.out, step) for step in range(8)] == [drawn(whole, step) for step in range(8)]


class InterruptedAt(Console):
    """A console that interrupts the run, as Ctrl-C would, when it has printed so many steps' lines."""

    def __init__(self, steps: int) -> None:
        super().__init__(quiet=True)
        self._steps = steps

    def print(self, *objects: Any, **options: Any) -> None:
        if objects and str(objects[0]).startswith("step") and "reward" in str(objects[0]):
            self._steps -= 1
            if not self._steps:
                raise KeyboardInterrupt


def test_a_stopped_run_has_a_checkpoint_and_can_be_resumed(
    coin_policy: Path, files: dict[str, Path], quarantined: tuple[Path, str], tmp_path: Path
) -> None:
    (alert,) = rows(quarantined[0], "alerts.jsonl")
    stopped = config(coin_policy, files, tmp_path / "run", {"on_collapse": "stop"})
    final = run_rl(stopped, console=Console(quiet=True))
    assert final.name == f"step-{alert['updates']:06d}"
    run_rl(
        config(coin_policy, files, tmp_path / "run", {"on_collapse": "quarantine"}), resume=True, console=Console(quiet=True)
    )
    assert rows(tmp_path / "run", "alerts.jsonl") == [alert]
    for step in range(alert["updates"], 8):
        assert drawn(tmp_path / "run", step) == {"ocr": 32}
    other = files["audit"].with_name("other.jsonl")
    other.write_text("".join(files["audit"].read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ValueError, match=r"guard\.problems: 1 removed: a-math-0"):
        run_rl(
            config(coin_policy, files, tmp_path / "run", {"problems": other}, steps=9), resume=True, console=Console(quiet=True)
        )
