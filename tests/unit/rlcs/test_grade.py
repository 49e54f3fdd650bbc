"""A grading end to end on a tiny model: counts recounted from the responses, and interruptions that change nothing.

A random policy solves nothing, so most tests replace the scoring by a rule that looks at every character of a response: right,
wrong and abstained answers then all occur, and counts agree only where the responses do.
"""

import io
import json
import shutil
import subprocess
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import rlcs.grade
from rewards import Verdict
from rlcs import cli
from rlcs.check import check_file
from rlcs.grade import run_grade
from rlcs.grade_batches import batches_of
from rlcs.grade_config import GradeConfig
from rlcs.grade_progress import weights_digest
from rlcs.grade_tables import summary_table
from rlcs.grades import DEFAULT_TIERS, Tiers
from rlcs.modes import thinking_mask
from rlcs.nano.build import build_model, build_processor
from rlcs.problems import Problem, ProblemFileError, load_problems
from rlcs.scoring import ScoredRollouts
from rollout.encoded import Prompt
from rollout.engine import Completion
from rollout.transformers_engine import TransformersEngine

QUIET = Console(quiet=True)
CONFIGS = Path(__file__).parents[3] / "configs"
BATCHES = 8  # of the gradings below: 7 problems, 3 samples, 2 modes, 8 sequences at once


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy")
    build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).save_pretrained(path)
    build_processor().save_pretrained(path)
    return path


def lines() -> list[dict[str, Any]]:
    """Seven problems of two domains, one of them with a picture."""
    picture = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "read"}]
    return [
        {
            "id": f"p{index}",
            "domain": "ocr" if index % 2 else "math",
            "messages": [{"role": "user", "content": picture if index == 1 else f"question {index}"}],
            "answer": str(index),
            "tier": f"level-{1 + index // 3}",
            "pass_rate": 0.5,
            "source": None,
        }
        for index in range(7)
    ]


def write(root: Path, rows: Sequence[dict[str, Any]]) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 56, 3), dtype=np.uint8)).save(root / "a.png")
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "train.jsonl"


def config(policy: Path, root: Path, **changes: Any) -> GradeConfig:
    fields = {"model": str(policy), "problems": root / "train.jsonl", "out": root / "graded.jsonl", "samples": 3}
    fields |= {"think_tokens": 4, "answer_tokens": 6, "threads": 1, "verifier_workers": 1, "rollout_batch": 8}
    return GradeConfig(**{**fields, **changes})  # type: ignore[arg-type]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


Responses = dict[tuple[str, str], list[bool | None]]


def _verdict(right: bool | None) -> Verdict:
    return Verdict.abstained("timeout") if right is None else Verdict(float(right), right, "ok")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Responses:
    """Replaces the scoring, and records its verdicts by (id, mode)."""
    found: Responses = defaultdict(list)

    def score(
        _: object,
        indices: np.ndarray,
        problems: Sequence[Problem],
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Completion]],
    ) -> ScoredRollouts:
        verdicts = []
        for problem, prompt, group in zip(problems, prompts, completions, strict=True):
            outcomes = [(None, True, False, True)[zlib.crc32(completion.text.encode()) % 4] for completion in group]
            found[problem.id, "thinking" if prompt.thinking else "nothink"] += outcomes
            verdicts.append([_verdict(right) for right in outcomes])
        return ScoredRollouts(indices, problems, prompts, completions, verdicts)

    monkeypatch.setattr(rlcs.grade, "score_rollouts", score)
    return found


def grade_until(batches: int, settings: GradeConfig, monkeypatch: pytest.MonkeyPatch, *, resume: bool = False) -> None:
    """Grades until so many batches are done, and is then interrupted while it generates the next."""
    generate: Callable[..., Any] = TransformersEngine.generate
    left = [batches]

    def interrupted(*args: Any, **options: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return generate(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "generate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_grade(settings, resume=resume, console=QUIET)


def test_counts_rates_and_tiers_are_those_of_the_responses(policy: Path, tmp_path: Path, judged: Responses) -> None:
    write(tmp_path, lines())
    rows = read(run_grade(config(policy, tmp_path), console=QUIET))
    assert [row["id"] for row in rows] == [f"p{i}" for i in range(7)]
    assert all(len(judged[f"p{i}", mode]) == 3 for i in range(7) for mode in ("thinking", "nothink"))
    assert {right for found in judged.values() for right in found} == {True, False, None}, "the rule must give every outcome"
    for row in rows:
        by_mode = {mode: judged[row["id"], mode] for mode in ("thinking", "nothink")}
        every = [*by_mode["thinking"], *by_mode["nothink"]]
        known = [right for right in every if right is not None]
        grade = row["grade"]
        assert (grade["k"], grade["right"], grade["abstained"]) == (len(known), sum(known), len(every) - len(known))
        for mode, found in by_mode.items():
            answers = [right for right in found if right is not None]
            assert grade["modes"][mode] == {"k": len(answers), "right": sum(answers)}
        assert row["pass_rate"] == sum(known) / len(known)
        assert grade["model"] == str(policy)
        assert row["tier"] == Tiers.of(DEFAULT_TIERS).of_rate(row["pass_rate"])


def test_the_rest_of_each_line_stays_as_it_was(policy: Path, tmp_path: Path, judged: Responses) -> None:
    write(tmp_path, lines())
    rows = read(run_grade(config(policy, tmp_path), console=QUIET))
    for row, given in zip(rows, lines(), strict=True):
        assert {key: row[key] for key in given if key not in ("tier", "pass_rate")} == {
            key: value for key, value in given.items() if key not in ("tier", "pass_rate")
        }


def test_with_the_real_verifiers_a_random_policy_solves_nothing_and_the_file_is_sound(policy: Path, tmp_path: Path) -> None:
    write(tmp_path, lines())
    out = run_grade(config(policy, tmp_path, modes=["nothink"]), console=QUIET)
    z = 1.959964
    for row in read(out):
        assert row["grade"] | {"model": ""} == {
            "model": "",
            "k": 3,
            "right": 0,
            "interval": [0.0, pytest.approx(z * z / (3 + z * z), abs=1e-4)],
            "abstained": 0,
            "modes": {"nothink": {"k": 3, "right": 0}},
        }
        assert (row["pass_rate"], row["tier"]) == (0.0, "very hard")
    assert check_file(out, console=QUIET).ok
    assert [problem.pass_rate for problem in load_problems(out)] == [0.0] * 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "graded.jsonl", "train.jsonl"]


@pytest.mark.parametrize(("batches", "left"), [(0, 14), (1, 12), (BATCHES - 1, 1)])
def test_an_interrupted_grading_ends_as_one_that_never_stopped(
    policy: Path, tmp_path: Path, judged: Responses, monkeypatch: pytest.MonkeyPatch, batches: int, left: int
) -> None:
    write(tmp_path, lines())
    whole = run_grade(config(policy, tmp_path, out=tmp_path / "whole.jsonl"), console=QUIET).read_bytes()
    settings = config(policy, tmp_path)
    grade_until(batches, settings, monkeypatch)
    assert not settings.out.exists()
    judged.clear()
    assert run_grade(settings, resume=True, console=QUIET).read_bytes() == whole
    assert sum(len(found) for found in judged.values()) == 3 * left, "what was done is not done again"


def test_a_grading_interrupted_at_every_batch_ends_the_same(
    policy: Path, tmp_path: Path, judged: Responses, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, lines())
    whole = run_grade(config(policy, tmp_path, out=tmp_path / "whole.jsonl"), console=QUIET).read_bytes()
    settings = config(policy, tmp_path)
    for turn in range(BATCHES):
        grade_until(1 if turn else 0, settings, monkeypatch, resume=turn > 0)
    assert run_grade(settings, resume=True, console=QUIET).read_bytes() == whole


def test_a_progress_file_cut_off_anywhere_is_resumed_to_the_same_end(
    policy: Path, tmp_path: Path, judged: Responses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill or a power cut would leave it."""
    write(tmp_path, lines())
    whole = run_grade(config(policy, tmp_path, out=tmp_path / "whole.jsonl"), console=QUIET).read_bytes()
    settings = config(policy, tmp_path)
    progress = tmp_path / "graded.jsonl.progress"
    grade_until(BATCHES - 1, settings, monkeypatch)
    content = progress.read_bytes()
    header = content.index(b"\n") + 1
    cuts = {header, header + 1, len(content) - 1, len(content), *np.random.default_rng(0).integers(header, len(content), 3)}
    for cut in sorted(int(cut) for cut in cuts):
        progress.write_bytes(content[:cut])
        assert run_grade(settings, resume=True, console=QUIET).read_bytes() == whole, cut
        settings.out.unlink()


def test_a_kill_after_the_output_was_written_is_resumed_to_the_same_end(
    policy: Path, tmp_path: Path, judged: Responses, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, lines())
    settings = config(policy, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(rlcs.grade.ProgressFile, "remove", lambda self: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run_grade(settings, console=QUIET)
    whole = settings.out.read_bytes()
    judged.clear()
    assert run_grade(settings, resume=True, console=QUIET).read_bytes() == whole
    assert not judged and not (tmp_path / "graded.jsonl.progress").exists()


def test_resuming_where_nothing_was_begun_begins(policy: Path, tmp_path: Path, judged: Responses) -> None:
    write(tmp_path, lines())
    assert run_grade(config(policy, tmp_path), resume=True, console=QUIET).exists()


def test_the_order_of_the_file_and_the_other_mode_change_no_count(policy: Path, tmp_path: Path, judged: Responses) -> None:
    write(tmp_path, lines())
    found = {row["id"]: row["grade"] for row in read(run_grade(config(policy, tmp_path), console=QUIET))}
    write(tmp_path, lines()[::-1])
    turned = read(run_grade(config(policy, tmp_path, out=tmp_path / "turned.jsonl"), console=QUIET))
    assert [row["id"] for row in turned] == [f"p{i}" for i in range(6, -1, -1)]
    assert {row["id"]: row["grade"] for row in turned} == found
    alone = read(run_grade(config(policy, tmp_path, out=tmp_path / "alone.jsonl", modes=["nothink"]), console=QUIET))
    assert {row["id"]: row["grade"]["modes"]["nothink"] for row in alone} == {
        id: grade["modes"]["nothink"] for id, grade in found.items()
    }
    other = read(run_grade(config(policy, tmp_path, out=tmp_path / "other.jsonl", seed=1), console=QUIET))
    assert {row["id"]: row["grade"] for row in other} != found


def test_no_two_batches_and_no_two_policies_draw_from_the_same_stream(policy: Path, tmp_path: Path) -> None:
    write(tmp_path, lines())
    batches = batches_of(load_problems(tmp_path / "train.jsonl"), config(policy, tmp_path))
    assert len(batches) == BATCHES
    assert len({batch.seed(seed, weights) for batch in batches for seed in range(3) for weights in ("0a", "0b")}) == 6 * BATCHES


def test_a_checkpoint_draws_the_same_wherever_it_lies_and_another_one_otherwise(policy: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(policy, copy)
    assert weights_digest(copy) == weights_digest(policy)
    (copy / "optimizer.pt").write_bytes(b"no part of the policy")
    assert weights_digest(copy) == weights_digest(policy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert weights_digest(copy) != weights_digest(policy)


def test_a_ratio_poses_each_problem_in_the_mode_that_rl_would(policy: Path, tmp_path: Path, judged: Responses) -> None:
    write(tmp_path, lines())
    settings = config(policy, tmp_path, nothink_ratio=0.4, seed=3)
    rows = read(run_grade(settings, console=QUIET))
    expected = thinking_mask(load_problems(settings.problems), 0.4, np.random.default_rng([3, 2]))  # as in rlcs/rl.py
    assert [list(row["grade"]["modes"]) for row in rows] == [["thinking"] if thinks else ["nothink"] for thinks in expected]
    assert 0 < expected.sum() < 7
    assert all(row["grade"]["k"] + row["grade"]["abstained"] == 3 for row in rows)


def test_a_problem_of_which_nothing_is_known_gets_no_pass_rate_and_no_tier(
    policy: Path, tmp_path: Path, judged: Responses, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, lines())
    scored = rlcs.grade.score_rollouts

    def abstains(*args: Any) -> ScoredRollouts:
        found = scored(*args)
        verdicts = [
            [Verdict.abstained("timeout")] * 3 if problem.id == "p2" else group
            for problem, group in zip(found.problems, found.verdicts, strict=True)
        ]
        return ScoredRollouts(found.indices, found.problems, found.prompts, found.completions, verdicts)

    monkeypatch.setattr(rlcs.grade, "score_rollouts", abstains)
    console = Console(width=100, file=io.StringIO(), record=True)
    row = read(run_grade(config(policy, tmp_path), console=console))[2]
    assert row["grade"]["k"] == row["grade"]["right"] == 0 and row["grade"]["abstained"] == 6
    assert row["grade"]["interval"] is None
    assert "pass_rate" not in row and "tier" not in row, "an old rate beside the new grade would belong to another policy"
    assert "1 of 7 problems have no pass rate" in console.export_text()


def test_tiers_can_be_kept(policy: Path, tmp_path: Path, judged: Responses) -> None:
    write(tmp_path, lines())
    rows = read(run_grade(config(policy, tmp_path, keep_tiers=True), console=QUIET))
    assert [row["tier"] for row in rows] == [line["tier"] for line in lines()]


def test_nothing_that_is_there_is_overwritten(
    policy: Path, tmp_path: Path, judged: Responses, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, lines())
    settings = config(policy, tmp_path)
    grade_until(1, settings, monkeypatch)
    with pytest.raises(FileExistsError, match=r"graded.jsonl.progress holds a grading that was not finished.*--resume"):
        run_grade(settings, console=QUIET)
    run_grade(settings, resume=True, console=QUIET)
    for resume in (False, True):
        with pytest.raises(FileExistsError, match=r"graded.jsonl exists already; delete it"):
            run_grade(settings, resume=resume, console=QUIET)


def test_resuming_another_grading_is_refused_and_says_what_differs(
    policy: Path, tmp_path: Path, judged: Responses, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, lines())
    own = tmp_path / "policy"
    own.mkdir()
    for path in policy.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    grade_until(1, config(own, tmp_path), monkeypatch)
    for changes, message in (
        ({"samples": 4}, r"samples was 3, is 4\. Resume with"),
        ({"seed": 1, "temperature": 0.5}, r"seed was 0, is 1; temperature was 1.0, is 0.5"),
        ({"model": str(policy)}, rf"checkpoint was {own}, is {policy}\."),
    ):
        with pytest.raises(ValueError, match=message):
            run_grade(config(own, tmp_path, **changes), resume=True, console=QUIET)
    weights = own / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"the files in {own} have changed"):
        run_grade(config(own, tmp_path), resume=True, console=QUIET)
    weights.write_bytes(content)
    write(tmp_path, lines()[:-1])
    with pytest.raises(ValueError, match="the problem file has changed"):
        run_grade(config(own, tmp_path), resume=True, console=QUIET)
    write(tmp_path, lines())
    run_grade(config(own, tmp_path, tiers=["hard", 0.5, "easy"], verifier_workers=2), resume=True, console=QUIET)
    assert {row["tier"] for row in read(tmp_path / "graded.jsonl")} <= {"hard", "easy"}, "what changes no response may change"


@pytest.mark.parametrize(
    ("number", "text", "message"),
    [
        (1, "{}", r"progress, line 1: .*expected the settings of a grading; delete the file"),
        (2, '{"mode": "thinking", "batch": 0}', r"progress, line 2: .*delete the line"),
        (3, '{"mode": "thinking", "batch": 99, "counts": {}}', r"progress, line 3: .*delete the line"),
        (3, '{"mode": "thinking", "batch": 1, "counts": {"p0": [1, 3, 0]}}', r"progress, line 3: .*delete the line"),
        (2, '{"mode": "thinking", "batch": 0, "counts": {"p0": [1]}}', r"progress, line 2: .*delete the line"),
        (2, "[", r"progress, line 2: found b'\['; expected the results of a batch"),
    ],
)
def test_a_damaged_line_of_the_progress_file_is_named(
    policy: Path, tmp_path: Path, judged: Responses, monkeypatch: pytest.MonkeyPatch, number: int, text: str, message: str
) -> None:
    write(tmp_path, lines())
    settings = config(policy, tmp_path)
    grade_until(2, settings, monkeypatch)
    progress = tmp_path / "graded.jsonl.progress"
    kept = progress.read_text().splitlines()
    kept[number - 1] = text
    progress.write_text("".join(line + "\n" for line in kept))
    with pytest.raises(ValueError, match=message):
        run_grade(settings, resume=True, console=QUIET)


def test_problems_that_cannot_be_graded_are_refused_before_anything_is_written(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    rows = lines()
    write(tmp_path, rows)
    moved = config(policy, tmp_path, out=tmp_path / "elsewhere" / "graded.jsonl")
    with pytest.raises(ValueError, match=r"id 'p1': its image a.png is named relative to the file.*out=.*train.graded.jsonl"):
        run_grade(moved, console=QUIET)
    rows[2]["answer"] = "1/0"
    write(tmp_path, rows)
    with pytest.raises(ValueError, match=r"1 of 7 references are rejected by their own verifier.*\n  p2: answer \"1/0\""):
        run_grade(config(policy, tmp_path), console=QUIET)
    write(tmp_path, [*rows, rows[0]])
    with pytest.raises(ProblemFileError, match="the same id stands on line 1"):
        run_grade(config(policy, tmp_path), console=QUIET)
    with pytest.raises(FileNotFoundError, match="expected a Hugging Face checkpoint"):
        write(tmp_path, lines())
        run_grade(config(tmp_path / "none", tmp_path), console=QUIET)
    assert sorted(path.name for path in tmp_path.rglob("*.json*")) == ["train.jsonl"]


def test_problems_without_media_may_be_written_elsewhere(policy: Path, tmp_path: Path, judged: Responses) -> None:
    write(tmp_path, [line for line in lines() if line["id"] != "p1"])
    out = run_grade(config(policy, tmp_path, out=tmp_path / "new" / "graded.jsonl"), console=QUIET)
    assert len(load_problems(out)) == 6


def test_a_grade_in_a_problem_file_is_an_object(tmp_path: Path) -> None:
    write(tmp_path, [{**lines()[0], "grade": {"k": 8}}])
    assert load_problems(tmp_path / "train.jsonl")[0].grade == {"k": 8}
    write(tmp_path, [{**lines()[0], "grade": 0.5}])
    with pytest.raises(ProblemFileError, match=r"field 'grade': found 0.5; expected an object"):
        load_problems(tmp_path / "train.jsonl")


def test_the_summary_counts_each_domain_and_tier_the_hardest_first_within_80_columns() -> None:
    def row(domain: str, tier: str | None, right: int, k: int = 4, abstained: int = 0) -> dict[str, Any]:
        rate = {"pass_rate": right / k} if k else {}
        return {"domain": domain, "tier": tier, "grade": {"k": k, "right": right, "abstained": abstained}, **rate}

    rows = [
        row("math", "very easy", 4),
        row("math", "hard", 1),
        row("math", "hard", 2),
        row("math", None, 0, 0, 4),
        row("ocr", "x", 0),
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(rows, Tiers.of(DEFAULT_TIERS)))
    shown = [line.split() for line in console.export_text().splitlines() if line.strip()][3:]
    assert shown[0][:2] == ["math", "all"]
    assert [line[0] for line in shown[1:4]] == ["hard", "very", "-"]
    # mean of 1, 1/4, 1/2 is 7/12; half the t interval over three problems exceeds 41.7, so it is cut at 0 and 100.
    assert shown[0][2:] == ["4", "58.3", "±58.3", "0", "1", "3.0", "4"]
    assert shown[3] == ["-", "1", "-", "0", "0", "0.0", "4"]


def test_the_command_grades_without_naming_run_and_refuses_what_is_not_asked_for(policy: Path, tmp_path: Path) -> None:
    write(tmp_path, lines()[2:4])
    settings = {**config(policy, tmp_path).model_dump(mode="json"), "modes": ["nothink"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    planned = CliRunner().invoke(cli.app, ["grade", str(tmp_path / "c.yaml"), "samples=5", "--dry-run"], env={"COLUMNS": "120"})
    assert planned.exit_code == 0 and not (tmp_path / "graded.jsonl").exists()
    assert "2 nothink" in planned.output and "2: 1 math, 1 ocr" in planned.output and " 10 " in planned.output
    done = CliRunner().invoke(cli.app, ["grade", str(tmp_path / "c.yaml"), "samples=2", "--resume"], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert f"written: {tmp_path / 'graded.jsonl'}" in done.output and "very hard" in done.output and "level-1" in done.output
    assert [row["grade"]["k"] for row in read(tmp_path / "graded.jsonl")] == [2, 2]
    again = CliRunner().invoke(cli.app, ["grade", "run", str(tmp_path / "c.yaml"), "samples=2"])
    assert isinstance(again.exception, FileExistsError)


@pytest.mark.parametrize("arguments", [["grade"], ["grade", "x.yaml"], ["grade", "merge"]])
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rlcs.cli import app\n"
        f"found = CliRunner().invoke(app, {[*arguments, '--help']})\n"
        "assert found.exit_code == 0, found.output\nimport rlcs.grade_merge, rlcs.grade_tables, rlcs.grade_batches\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
