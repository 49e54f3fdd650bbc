"""A report is written from evaluation and run directories alone."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console
from scipy import stats

from rewards import Verdict
from rlcs.difficulty import Difficulty
from rlcs.eval_config import EvalConfig
from rlcs.evaluate import Evaluation, response_rows, write_evaluation
from rlcs.plots import difficulty_png, pass_rates_png, training_png
from rlcs.problems import Problem
from rlcs.report import Comparison, write_report
from rlcs.rl_config import RlConfig
from rlcs.rollout_log import difficulty_table, parquet_bytes, step_metrics
from rlcs.samplers import CurriculumSampler
from rlcs.scoring import ScoredRollouts, group_fates
from rollout.encoded import Encoded, Prompt
from rollout.engine import Completion
from sft.rundir import RunDir

DOMAINS, LEVELS = ("gui", "math", "ocr"), 3
QUIET = Console(quiet=True)


def make_problems(each: int, levels: int = LEVELS, root: Path = Path()) -> list[Problem]:
    """`each` problems of each domain and level; those of ocr show a picture."""
    found = []
    for domain in DOMAINS:
        for index in range(each * levels):
            content: str | list[dict[str, str]] = f"question {index} of {domain}?"
            if domain == "ocr":
                content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": content}]
            found.append(
                Problem(
                    id=f"{domain}-{index}",
                    domain=domain,
                    messages=[{"role": "user", "content": content}],
                    answer=str(index),
                    tier=f"level-{1 + index % levels}",
                    root=root,
                )
            )
    return found


def pass_rate(problem: Problem, skill: float) -> float:
    return float(1 / (1 + np.exp(1.4 * int(str(problem.tier)[-1]) - skill)))


def fake_rollouts(problems: list[Problem], skill: float, n: int, rng: np.random.Generator, thinking: bool) -> ScoredRollouts:
    """`n` responses to each problem: right ones at a rate that falls with the level, the rest wrong or out of format."""
    encoded = Encoded(np.arange(3), np.tile(np.arange(3), (3, 1)), np.zeros(3, bool), ())
    verdicts, completions = [], []
    for problem in problems:
        right = rng.random(n) < pass_rate(problem, skill)
        broken = rng.random(n) < 0.03
        verdicts.append(
            [
                Verdict.format_error("no-box") if b else Verdict(float(r), bool(r), "ok", "x", None if r else "different")
                for r, b in zip(right, broken, strict=True)
            ]
        )
        lengths = rng.integers(6, 40, n)
        completions.append(
            [
                Completion(
                    np.arange(length, dtype=np.int32),
                    -rng.exponential(0.3, length).astype(np.float32),
                    np.zeros(length, bool),
                    "stop",
                    f"<think>```{verdict.reason}</think>\n<|begin_of_box|>x<|end_of_box|>",
                    0,
                )
                for length, verdict in zip(lengths, verdicts[-1], strict=True)
            ]
        )
    prompts = [Prompt(encoded, "", thinking)] * len(problems)
    return ScoredRollouts(np.arange(len(problems)), problems, prompts, completions, verdicts)


def fake_eval(out: Path, problems: list[Problem], skill: float, seed: int, **changes: object) -> Evaluation:
    config = EvalConfig(model="m", problems=problems[0].root / "heldout.jsonl", out=out, samples=4, **changes)  # type: ignore[arg-type]
    rng, rows = np.random.default_rng(seed), []
    for mode in config.modes:
        for n, greedy in ((4, False), *([(1, True)] if config.greedy else [])):
            rows += response_rows(fake_rollouts(problems, skill, n, rng, mode == "thinking"), mode, greedy=greedy)
    return write_evaluation(config, rows, model=f"runs/{out.name}", costs={"seconds": {"total": 12.0}})


def fake_run(out: Path, problems: list[Problem], steps: int) -> Path:
    """An RL run in which the policy gets better by a steady amount a step."""
    config = RlConfig(model="m", problems=Path("train.jsonl"), out=out, steps=steps, group_size=8)
    difficulty = Difficulty([p.domain for p in problems], [p.tier for p in problems], [None] * len(problems))
    sampler = CurriculumSampler([p.domain for p in problems], difficulty, group_size=8, seed=0)
    run, rng = RunDir(out), np.random.default_rng(0)
    run.atomic_write("config.yaml", yaml.safe_dump(config.model_dump(mode="json")))
    for step in range(steps):
        indices = sampler.draw(9)
        chosen = [problems[index] for index in indices]
        rollouts = fake_rollouts(chosen, 2 + 2.5 * step / steps, 8, rng, True)
        fates = group_fates(rollouts, sampler, 9)
        sampler.observe(indices, rollouts.outcomes_PG, policy_version=step)
        if step % 5 == 0:
            table = difficulty_table(problems, sampler.snapshot(), step)
            run.atomic_write(f"difficulty/step={step:06d}.parquet", parquet_bytes(table))
        spent = {"seconds/generate": 3.0, "seconds/train": 1.0, "seconds/step": 4.5, "policy/packed_tokens": 900.0}
        run.log(step, step_metrics(rollouts, fates) | spent)
    run.close()
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    Image.new("RGB", (8, 8)).save(root / "a.png")
    problems = make_problems(12, root=root)
    fake_eval(root / "before", problems, 2.0, 0)
    fake_eval(root / "after", problems, 4.5, 1)
    fake_run(root / "rl", make_problems(20), 11)
    return root


@pytest.fixture(scope="module")
def report(runs: Path) -> Path:
    return write_report(runs / "report", before=runs / "before", after=runs / "after", rl_run=runs / "rl", console=QUIET)


def figures_of(text: str, start: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(start)).strip("| ").split(" | ")


def test_the_change_of_a_domain_is_scipys_paired_interval_over_problems(runs: Path, report: Path) -> None:
    """Recomputed from the responses, without the code under test."""
    means = []
    for name in ("before", "after"):
        rows = [row for row in Evaluation.read(runs / name).responses.to_pylist() if row["sample"] >= 0]
        ids = sorted({row["id"] for row in rows if row["domain"] == "math"})
        means.append(np.array([np.mean([row["correct"] for row in rows if row["id"] == id]) for id in ids]))
    expected = stats.ttest_rel(means[1], means[0]).confidence_interval(0.95)
    cells = figures_of(report.read_text(), "| math | both |")
    change = f"{100 * (means[1] - means[0]).mean():+.1f} [{100 * expected.low:+.1f}, {100 * expected.high:+.1f}]"
    assert cells[2] == "36" and cells[5] == change
    assert cells[3].startswith(f"{100 * means[0].mean():.1f} [") and cells[4].startswith(f"{100 * means[1].mean():.1f} [")


def test_the_headline_averages_domains(report: Path) -> None:
    text = report.read_text()
    rows = [figures_of(text, f"| {domain} | both |") for domain in DOMAINS]
    before, after = (np.mean([float(row[column].split()[0]) for row in rows]) for column in (3, 4))
    mean = figures_of(text, "| **mean** | both |")
    assert float(mean[3]) == pytest.approx(before, abs=0.11) and float(mean[4]) == pytest.approx(after, abs=0.11)
    assert f"{mean[3]}% → {mean[4]}%" in text and mean[5].strip("*") in text


def test_every_mode_and_level_has_its_row(report: Path) -> None:
    text = report.read_text()
    for domain in DOMAINS:
        assert all(f"\n| {domain} | {mode} | 36 |" in text for mode in ("both", "thinking", "nothink"))
        assert all(f"\n| {domain} | level-{level} | 12 |" in text for level in range(1, LEVELS + 1))


def test_figures_of_the_run_are_sums_over_its_steps(runs: Path, report: Path) -> None:
    text = report.read_text()
    rows = [yaml.safe_load(line) for line in (runs / "rl" / "metrics.jsonl").read_text().splitlines()]
    groups = sum(row["groups_generated"] for row in rows)
    mixed = sum(row["mixed_fraction"] * row["groups_generated"] for row in rows) / groups
    assert figures_of(text, "| steps |")[1] == "11"
    assert figures_of(text, "| rollouts |")[1] == f"{8 * groups:,.0f} in {groups:,.0f} groups of 8"
    assert figures_of(text, "| mixed groups")[1].startswith(f"{100 * mixed:.1f}% (gui ")
    assert figures_of(text, "| seconds |")[1] == "50: generate 33 (67%), train 11 (22%)"


def test_the_sft_run_before_it_is_counted_up_to_its_last_held_out_loss(runs: Path, tmp_path: Path) -> None:
    sft = RunDir(tmp_path / "sft", loggers=())
    sft.atomic_write("config.yaml", "lr: 0.001")
    for step, loss in enumerate([float("nan"), 0.5, 0.25]):
        sft.log(step, {"packed_tokens": 1000.0, "seconds/step": 2.0} | ({"eval/loss": loss} if step != 1 else {}))
    evals = {"before": runs / "before", "after": runs / "after"}
    path = write_report(tmp_path / "r", **evals, rl_run=runs / "rl", sft_run=tmp_path / "sft", console=QUIET)
    found = figures_of(path.read_text(), "| SFT before it |")[1]
    assert found == "3 steps, 3,000 tokens, 6 seconds, held-out loss 0.250 nats a token"


def test_one_mode_without_greedy_responses_makes_a_report_too(runs: Path, tmp_path: Path) -> None:
    settings = {"modes": ["thinking"], "greedy": False}
    for name, skill in (("before", 2.0), ("after", 4.5)):
        fake_eval(tmp_path / name, make_problems(4), skill, 0, **settings)
    path = write_report(tmp_path / "r", before=tmp_path / "before", after=tmp_path / "after", rl_run=runs / "rl", console=QUIET)
    text = path.read_text()
    assert "| both |" not in text and "first samples were wrong before" in text and "Flips" not in text


def test_up_to_three_flipped_responses_of_each_domain_are_quoted_with_their_picture(report: Path) -> None:
    text = report.read_text()
    section = text[text.index("## From wrong to right") :]
    assert section.count("\nAfter: right:") == 3 * len(DOMAINS)
    assert section.count("\nBefore: different:") + section.count("\nBefore: no-box:") == 3 * len(DOMAINS)
    assert section.count("![a.png](images/ocr-") == 3 and (report.parent / "images" / "ocr-1-0.png").is_file()
    assert "````text\n<think>```None</think>" in section  # a fence longer than the backticks it holds


def test_every_picture_the_page_shows_exists(report: Path) -> None:
    links = [part.split(")")[0] for part in report.read_text().split("](")[1:]]
    assert {"pass_rate.png", "difficulty.png", "training.png"} <= set(links)
    for link in links:
        Image.open(report.parent / link).verify()


def test_the_headline_table_is_printed(runs: Path, report: Path, tmp_path: Path) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    write_report(tmp_path / "r", before=runs / "before", after=runs / "after", rl_run=runs / "rl", console=console)
    assert figures_of(report.read_text(), "| **mean** | both |")[5].strip("*") in console.export_text()


def test_a_loss_is_reported_as_it_is(runs: Path, tmp_path: Path) -> None:
    path = write_report(tmp_path / "r", before=runs / "after", after=runs / "before", rl_run=runs / "rl", console=QUIET)
    assert figures_of(path.read_text(), "| math | both |")[5].startswith("-")


def test_a_missing_file_is_named_with_the_command_that_makes_it(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing/eval.json is missing; make it with: rlcs eval"):
        write_report(tmp_path / "r", before=runs / "nothing", after=runs / "after", rl_run=runs / "rl")
    with pytest.raises(FileNotFoundError, match=r"nothing/config.yaml is missing; make it with: rlcs rl"):
        write_report(tmp_path / "r", before=runs / "before", after=runs / "after", rl_run=runs / "nothing")
    shutil.copytree(runs / "rl", tmp_path / "rl", ignore=shutil.ignore_patterns("difficulty"))
    with pytest.raises(FileNotFoundError, match=r"holds no step=\*.parquet"):
        write_report(tmp_path / "r", before=runs / "before", after=runs / "after", rl_run=tmp_path / "rl")
    assert not (tmp_path / "r").exists()


def test_evaluations_that_differ_by_more_than_the_policy_are_refused(runs: Path, tmp_path: Path) -> None:
    problems = make_problems(12)
    fake_eval(tmp_path / "hotter", problems, 2.0, 0, temperature=1.3)
    with pytest.raises(ValueError, match=r"temperature=1.0.*temperature=1.3"):
        Comparison.read(runs / "before", tmp_path / "hotter")
    fake_eval(tmp_path / "fewer", problems[1:], 2.0, 0)
    with pytest.raises(ValueError, match="1 are in one alone, such as gui-0"):
        Comparison.read(runs / "before", tmp_path / "fewer")


def pngs(domains: int) -> Iterator[bytes]:
    names = [f"domain {index}" for index in range(domains)]
    beliefs = {name: {0: np.array([0.5])} for name in names}
    yield difficulty_png(beliefs, None)
    yield training_png([{"step": 0}], names)


@pytest.mark.parametrize("domains", [1, 2, 7])
def test_figures_take_any_number_of_domains_and_a_run_of_one_step(domains: int, runs: Path) -> None:
    assert all(png.startswith(b"\x89PNG") for png in pngs(domains))
    comparison = Comparison.read(runs / "before", runs / "after")
    pair = comparison.pair(comparison.old.domains == "math")
    assert pass_rates_png({}, {f"domain {index}": pair for index in range(domains)}).startswith(b"\x89PNG")
