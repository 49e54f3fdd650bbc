"""`rlcs top`: what it shows of a run, at any width, whatever the policy has written."""

import io
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rlcs.dashboard.runs import Run
from rlcs.last_rollouts import last_rollouts
from rlcs.rollout_log import parquet_bytes
from rlcs.terminal_text import printable, response_text, sparkline
from rlcs.top import run_top
from rlcs.top_view import View
from sft.rundir import RunDir

STYLES = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "\x1b]0;gone\x07\x1b[2J\x1b[31mred\x9b5A\u202eevil\u202c\u200b[bold]x[/bold]\r\nnext\x00\ud800"


def row_of(step: int, domains: tuple[str, ...] = ("math", "ocr")) -> dict[str, float]:
    row: dict[str, float] = {"rollouts": 64.0, "rollouts_wasted": 16.0, "tokens": 6400.0, "tokens_wasted": 640.0}
    row |= {"groups_generated": 8.0, "groups_trained": 6.0, "mixed_fraction": 0.75, "seconds/step": 3.0, "pass_rate": 0.5}
    row |= {"tokens_per_s/generate": 2000.0, "tokens_per_s/train": 3000.0, "peak_memory_mb": 900.0}
    for domain in domains:
        row |= {f"{domain}/groups_generated": 4.0, f"{domain}/groups_trained": 3.0, f"{domain}/mixed_fraction": 0.75}
        row |= {f"{domain}/pass_rate": 0.25 + 0.01 * step, f"{domain}/rollouts": 32.0, f"{domain}/rollouts_wasted": 8.0}
        row |= {f"{domain}/tokens": 3200.0, f"{domain}/tokens_wasted": 320.0, f"{domain}/response_length": 100.0}
    return row


def rollout(domain: str, step: int, **changes: Any) -> dict[str, Any]:
    row = {"step": step, "domain": domain, "tier": "level-1", "question": "1 + 1?", "answer": '"2"', "reward": 1.0, "tokens": 7}
    row |= {
        "response": "<think>sum</think> so <|begin_of_box|>2<|end_of_box|>",
        "correct": True,
        "status": "ok",
        "reason": None,
    }
    return row | {"fate": "trained", "finish_reason": "stop"} | changes


def run_of(
    path: Path, steps: int, *, domains: tuple[str, ...] = ("math", "ocr"), rows: list[dict[str, Any]] | None = None
) -> Run:
    """A run directory as the trainer writes it -> looked at."""
    directory = RunDir(path, loggers=())
    directory.atomic_write("config.yaml", json.dumps({"steps": 40, "sampler": "rlcs", "advantage": "grpo", "engine": "local"}))
    for step in range(steps):
        directory.log(step, row_of(step, domains))
        table = pa.Table.from_pylist(rows or [rollout(domain, step) for domain in domains])
        directory.atomic_write(f"rollouts/step={step:06d}.parquet", parquet_bytes(table))
    directory.close()
    run = Run("run", path)
    run.refresh()
    return run


def shown(run: Run, width: int = 120, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(View(run))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_run_is_shown_with_its_figures_and_a_rollout_of_each_domain(tmp_path: Path) -> None:
    text = shown(run_of(tmp_path / "run", 10))
    assert "step 10 of 40" in text and "rlcs grpo local" in text
    assert "640 rollouts, 25% wasted; 64,000 tokens, 10% wasted; 2,000 tokens/s generated, 3,000 trained; 3.0 s a step" in text
    (math,) = [line for line in text.splitlines() if line.startswith("math ") and "%" in line]
    assert "32.0%" in math  # the mean of the last five steps, 0.30 to 0.34
    assert "75.0%" in math and "25%" in math and "100" in math
    assert text.count("reward 1.00") == 2 and text.count("1 + 1?") == 2
    assert "held out" not in text  # nothing is held out


def test_held_out_rates_stand_beside_their_change_since_the_first(tmp_path: Path) -> None:
    run_of(tmp_path / "run", 4)
    looks = [
        {
            "updates": updates,
            "rollouts": 64 * updates,
            "tokens": 1,
            "seconds": 1.0,
            "pass_rate": {"math": rate},
            "responses": {"math": 200},
        }
        for updates, rate in ((0, 0.3), (2, 0.4), (4, 0.7))
    ]
    (tmp_path / "run" / "heldout.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks))
    run = Run("run", tmp_path / "run")
    run.refresh()
    text = shown(run)
    assert "held out" in text and "70.0% (+40.0)" in text and "earning in math" in text


def test_what_the_sampler_believes_of_all_problems_stands_beside_what_it_draws(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 4)
    (tmp_path / "run" / "difficulty").mkdir()
    for step, means in ((0, [0.2, 0.4, 0.5]), (3, [0.5, 0.7, 0.25])):
        table = pa.table({"domain": ["math", "math", "ocr"], "mean": means})
        (tmp_path / "run" / "difficulty" / f"step={step:06d}.parquet").write_bytes(parquet_bytes(table))
    run.refresh()
    text = shown(run)
    assert "60.0% (+30.0)" in text and "25.0% (-25.0)" in text
    (tmp_path / "run" / "difficulty" / "step=000004.parquet").write_bytes(b"PAR1 torn")
    run.refresh()
    assert "believed" not in shown(run)


def test_alerts_are_told_with_their_steps(tmp_path: Path) -> None:
    directory = RunDir(tmp_path / "run", loggers=())
    for step in range(8):
        directory.log(step, row_of(step) | {"math/mixed_fraction": 0.0, "math/groups/all-wrong": 4.0})
    run = Run("run", tmp_path / "run")
    run.refresh()
    assert "! steps 0-7 math no-signal: no mixed group in 8 steps (32 all-wrong)" in shown(run, 200)


def test_a_run_without_a_step_and_one_that_is_gone_are_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = Run("run", tmp_path / "run")
    run.refresh()
    assert "no step has been logged yet" in shown(run)
    (tmp_path / "run").rmdir()
    run.refresh()
    assert "gone" in shown(run)


@pytest.mark.parametrize("width", [30, 60, 80, 120, 200])
def test_nothing_that_a_policy_or_a_data_file_says_reaches_the_terminal_as_a_command(tmp_path: Path, width: int) -> None:
    said = HOSTILE.encode("utf-8", "ignore").decode()  # Parquet holds no lone surrogate
    domain = f"math{said}"
    hostile = rollout(domain, 0, question=said, answer=said, response=said * 50, reason=said, tier=said, fate=said)
    text = shown(
        run_of(tmp_path / "run", 3, domains=(domain,), rows=[hostile]), width, force_terminal=True, color_system="standard"
    )
    bare = STYLES.sub("", text)
    assert {character for character in bare if unicodedata.category(character)[0] == "C"} == {"\n"}
    assert "[bold]x[/bold]" in bare.replace("\n", "") or width < 60  # markup is text
    assert max(len(line) for line in bare.splitlines()) <= width
    assert "\u202e" not in bare and "evil" in bare


def test_a_terminal_without_unicode_gets_none(tmp_path: Path) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    Console(file=file, width=100).print(View(run_of(tmp_path / "run", 12, rows=[rollout("math", 0, response="né\n∑…")])))
    file.flush()
    assert b"n? / ?..." in raw.getvalue()


@pytest.mark.parametrize("name", ["run", *("r" * length for length in range(20, 60, 7))])
def test_without_a_terminal_it_is_printed_once_and_no_path_breaks_its_lines(tmp_path: Path, name: str) -> None:
    run_of(tmp_path / name, 2)
    console = Console(file=io.StringIO(), width=100)
    run_top(tmp_path / name, console=console)
    assert console.file.getvalue().count("step 2 of 40") == 1  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError, match="expected a run directory"):
        run_top(tmp_path / "none", console=console)


def test_the_newest_rollout_of_each_domain_is_found_whatever_lies_beside_it(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 6, domains=("math",))
    folder = tmp_path / "run" / "rollouts"
    for step, domains in ((3, ["ocr", "math"]), (4, ["gui", "ocr"]), (5, ["math"])):
        table = pa.Table.from_pylist([rollout(domain, step, tokens=place) for place, domain in enumerate(domains * 100)])
        (folder / f"step={step:06d}.parquet").write_bytes(parquet_bytes(table))
    (folder / "step=000006.parquet").write_bytes(b"PAR1 torn")
    run.refresh()
    found = last_rollouts(run.files["rollouts"], ["gui", "math", "none", "ocr"])
    assert [(row["domain"], row["step"], row["tokens"]) for row in found] == [("gui", 4, 0), ("math", 5, 0), ("ocr", 4, 1)]
    for file in folder.iterdir():
        file.unlink()
    assert last_rollouts(run.files["rollouts"], ["math"]) == []


@given(st.text(), st.one_of(st.none(), st.integers(3, 40)))
def test_printable_text_is_one_line_without_control_or_format_characters(text: str, most: int | None) -> None:
    line = printable(text, most)
    assert all(unicodedata.category(character)[0] not in "C" for character in line) and "\u2028" not in line
    assert not re.search(r"[^\S ]", line)
    assert printable(line) == line
    assert printable(text, most, ascii_only=True).isascii()


def test_of_a_long_text_the_end_stays_and_of_piled_marks_two() -> None:
    assert printable("a" * 60 + "b" * 60, 30) == "a" * 10 + " … " + "b" * 20
    assert printable("z" + "\u0301" * 40 + "algo") == "z\u0301\u0301algo"


def test_a_thought_is_dim_and_a_box_bold_even_where_they_never_end() -> None:
    text = response_text("<think>why</think> so <|begin_of_box|>2")
    assert [(str(span.style), text.plain[span.start : span.end]) for span in text.spans] == [
        ("dim", "<think>why</think>"),
        ("bold", "<|begin_of_box|>2"),
    ]


def test_a_sparkline_has_a_bar_for_each_part_and_a_blank_for_the_unknown() -> None:
    assert sparkline(list(np.linspace(0, 1, 800)), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0, None, 1.0], 8) == "▁ █"
    assert sparkline([0.500, 0.505, 0.502], 8) == "▁▁▁"  # half a point is no curve
    assert sparkline([], 8) == sparkline([None, float("nan")], 8) == ""
    assert sparkline([0.0, 1.0], 8, ascii_only=True).isascii()
