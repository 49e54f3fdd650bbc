import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from written_run import DOMAINS, WrittenRun

from rlcs.dashboard.metric_log import MetricLog, Thinned, read_rows
from rlcs.dashboard.overview import overview
from rlcs.dashboard.runs import Run, named_runs
from rlcs.dashboard.verdict import rate_change
from rlcs.estimates import wilson_interval
from sft.rundir import RunDir


def fresh(path: Path) -> Run:
    run = Run("rl", path)
    run.refresh()
    return run


def test_the_curves_are_the_rows_of_the_metrics(written: WrittenRun) -> None:
    found = overview(fresh(written.path))
    assert found["step"] == list(range(6)) and found["rows"] == 6 and found["thinned"] == 1
    for domain in ("", *DOMAINS):
        prefix = f"{domain}/" if domain else ""
        for name, metric in (("pass_rate", "pass_rate"), ("mixed", "mixed_fraction"), ("rollouts", "rollouts")):
            wanted = [row.get(prefix + metric, 0.0 if name == "rollouts" else None) for row in written.metrics]
            assert found["training"][domain][name] == wanted
        shares = [found["training"][domain][name] for name in ("mixed", "all_right", "all_wrong", "abstained_groups")]
        sums = [sum(parts) for parts in zip(*shares, strict=True) if None not in parts]
        assert sums == pytest.approx([1.0] * len(sums))
    assert found["totals"]["tokens"] == sum(row["tokens"] for row in written.rollouts)
    assert found["totals"]["domains"]["gui"]["rollouts_wasted"] == sum(
        row["domain"] == "gui" and row["fate"] != "trained" for row in written.rollouts
    )
    assert found["policy"]["loss"] == [None] * 6


def test_the_interval_of_a_step_counts_its_groups(written: WrittenRun) -> None:
    training = overview(fresh(written.path))["training"]["gui"]
    for rate, groups, low, high in zip(
        training["pass_rate"], training["groups"], training["low"], training["high"], strict=True
    ):
        if rate is not None:
            wanted = wilson_interval(rate * groups, groups)
            assert (low, high) == pytest.approx((wanted.low, wanted.high))


def test_a_long_curve_is_thinned_to_weighted_means_and_sums(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rate, groups = rng.uniform(size=1001), rng.integers(1, 9, 1001)
    rate[17] = math.nan
    run = RunDir(tmp_path, loggers=())
    lines = [json.dumps({"step": s, "a": None if np.isnan(rate[s]) else rate[s], "n": int(groups[s])}) for s in range(1001)]
    run.atomic_write("metrics.jsonl", "\n".join(lines) + "\n")
    log = MetricLog(tmp_path / "metrics.jsonl")
    log.refresh()
    curves = Thinned(log, 100)
    assert curves.every == 11 and curves.first_K[1] == 11 and curves.last_K[-1] == 1000
    means, sums = curves.mean("a", "n"), curves.sum("n")
    assert means is not None and sums is not None
    for k in range(len(sums)):
        part = slice(11 * k, 11 * k + 11)
        known = ~np.isnan(rate[part])
        assert sums[k] == groups[part].sum()
        assert means[k] == pytest.approx(np.average(rate[part][known], weights=groups[part][known]))


def test_a_metrics_file_is_followed_through_torn_lines_and_a_rewind(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricLog(path)
    assert not log.refresh() and len(log) == 0
    path.write_bytes(b'{"step": 0, "a": 1.0}\n{"step": 1, "a": null, "b": 2}\n{"step": 2, "a"')
    assert log.refresh() and log.steps_S.tolist() == [0, 1]
    with path.open("ab") as file:
        file.write(b': 3.0}\nnot json\n["step"]\n{"step": true}\n')
    assert log.refresh() and log.steps_S.tolist() == [0, 1, 2] and log.broken == 3
    np.testing.assert_array_equal(log.column("a"), [1.0, math.nan, 3.0])
    np.testing.assert_array_equal(log.column("b"), [math.nan, 2.0, math.nan])
    assert log.names == ["a", "b"] and log.column("c") is None
    assert not log.refresh() and log.generation == 0
    replaced = tmp_path / "new"
    replaced.write_bytes(b'{"step": 0, "a": 5.0}\n')
    replaced.replace(path)
    assert log.refresh() and log.generation == 1
    np.testing.assert_array_equal(log.column("a"), [5.0])
    path.unlink()
    assert log.refresh() and len(log) == 0 and log.generation == 2


def test_a_run_that_goes_on_is_rewound_or_vanishes_is_followed(growing: WrittenRun) -> None:
    run = fresh(growing.path)
    assert run.step == 1 and list(run.files["rollouts"]) == [0, 1] and not run.refresh()
    growing.step(2)
    assert run.refresh() and run.step == 2 and list(run.files["rollouts"]) == [0, 1, 2] and run.generation == 0
    RunDir(growing.path, resume=True, loggers=()).rewind(1)
    assert run.refresh() and run.step == 0 and list(run.files["difficulty"]) == [0] and run.generation > 0
    assert run.status() in ("running", "stopped")
    growing.path.rename(growing.path.with_name("elsewhere"))
    assert run.refresh() and run.status() == "gone" and run.summary()["note"]
    assert not run.refresh()
    growing.path.with_name("elsewhere").rename(growing.path)
    assert run.refresh() and run.exists and run.step == 0


def test_held_out_problems_decide_whether_it_learns(growing: WrittenRun) -> None:
    rows = [
        {
            "updates": u,
            "rollouts": 24 * u,
            "tokens": 9,
            "seconds": 1.0,
            "pass_rate": {"gui": p, "math": 0.5},
            "responses": {"gui": 200, "math": 200},
        }
        for u, p in ((0, 0.2), (2, 0.6))
    ]
    (growing.path / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = overview(fresh(growing.path))
    curve = found["heldout"]["domains"]["gui"]
    assert found["heldout"]["step"] == [-1, 1] and curve["pass_rate"] == [0.2, 0.6] and found["heldout"]["mean"] == [0.35, 0.55]
    assert curve["low"][1] == pytest.approx(wilson_interval(120, 200).low)
    verdict = found["verdict"]["domains"]
    assert (verdict["gui"]["kind"], verdict["gui"]["basis"]) == ("up", "heldout")
    assert (verdict["math"]["kind"], verdict["math"]["basis"]) == ("flat", "heldout")
    assert found["verdict"]["sentence"].startswith("Learning in gui;")


def test_what_a_curriculum_draws_does_not_tell_whether_it_learns(tmp_path: Path) -> None:
    """A rate that falls from 0.9 to 0.1 is a decline under even draws; under a curriculum the sampler's estimate is told."""
    lines = [{"step": s, "m/pass_rate": 0.9 if s < 50 else 0.1, "m/groups_generated": 20, "rollouts": 1} for s in range(100)]
    RunDir(tmp_path, loggers=()).atomic_write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    kinds = {}
    for sampler in ("uniform", "rlcs"):
        (tmp_path / "config.yaml").write_text(f"sampler: {sampler}\n")
        verdict = overview(fresh(tmp_path), {"m": (0.4, 0.62)})["verdict"]
        kinds[sampler] = verdict["domains"]["m"]["kind"]
        if sampler == "rlcs":
            assert "cannot be told: no held-out problems are answered" in verdict["sentence"]
            assert "went in m 40% to 62%" in verdict["sentence"]
            once = {"updates": 0, "rollouts": 0, "tokens": 0, "seconds": 0.0, "pass_rate": {"m": 0.4}, "responses": {"m": 200}}
            (tmp_path / "heldout.jsonl").write_text(json.dumps(once) + "\n")
            said = overview(fresh(tmp_path))["verdict"]["sentence"]
            assert "cannot be told: held-out problems were not answered twice yet" in said
    assert kinds == {"uniform": "down", "rlcs": "unknown"}


def test_the_guards_audit_decides_where_nothing_is_held_out(growing: WrittenRun) -> None:
    looks = [
        {"updates": u, "domains": {"gui": {"audit": rate, "reward": 0.5, "passed_wrongly": 0.1}}}
        for u, rate in ((0, 0.7), (2, 0.2))
    ]
    (growing.path / "guard.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks))
    (growing.path / "audit").mkdir()
    ids = [f"a-{i}" for i in range(80) for _ in range(2)]
    pq.write_table(pa.table({"id": ids, "domain": ["gui"] * 160}), growing.path / "audit" / "step=000002.parquet")
    found = overview(fresh(growing.path))
    assert found["guard"]["domains"]["gui"]["problems"] == [80, 80]
    verdict = found["verdict"]["domains"]["gui"]
    assert (verdict["kind"], verdict["basis"], verdict["last"]["n"]) == ("down", "guard", 80)
    assert verdict["last"]["low"] == pytest.approx(wilson_interval(16, 80).low)


def test_a_verifier_that_is_gamed_is_said_first(growing: WrittenRun) -> None:
    alert = {"step": 1, "domain": "gui", "kind": "collapse", "sentence": "its audit fell"}
    (growing.path / "alerts.jsonl").write_text(json.dumps(alert) + "\n")
    found = overview(fresh(growing.path))["verdict"]["sentence"]
    assert found.startswith("The verifier of gui is being gamed, says the guard")


def test_the_interval_of_a_change_is_newcombes() -> None:
    """Table II of Newcombe 1998, Statistics in Medicine 17: 56/70 against 48/80, method 10: 0.0524 to 0.3339."""
    mean, low, high = rate_change(wilson_interval(48, 80), wilson_interval(56, 70))
    assert (mean, low, high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_runs_get_short_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a/rl", "b/rl", "c d"):
        (tmp_path / name / "rollouts").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    names = list(named_runs([tmp_path / "a/rl", tmp_path / "b/rl", tmp_path / "c d"]))
    assert names == ["a-rl", "b-rl", "c-d"]
    with pytest.raises(FileNotFoundError, match=r"empty: a directory without config\.yaml"):
        named_runs([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match="no such directory"):
        named_runs([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="named twice"):
        named_runs([tmp_path / "c d", tmp_path / "c d"])


def test_paths_of_the_configuration_are_found_from_the_run_directory(written: WrittenRun) -> None:
    run = fresh(written.path)
    assert run.setting_path("data/problems.jsonl") == written.path.parents[1] / "data" / "problems.jsonl"
    assert run.setting_path("/x/y") == Path("/x/y") and run.setting_path(None) is None and run.setting_path("a\x00") is None


def test_rows_that_are_none_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b'{"a": 1}\n\xff\n[1]\n{"b": 2}')
    assert read_rows(tmp_path / "rows") == [{"a": 1}, {"b": 2}] and read_rows(tmp_path / "none") == []
