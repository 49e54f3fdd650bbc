"""An evaluation end to end on a tiny model, and its figures recomputed by hand from its responses."""

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from pydantic import ValidationError
from rich.console import Console

from rlcs.eval_config import EvalConfig
from rlcs.eval_summary import RESPONSES, Scores, console_tables, natural, summarise
from rlcs.evaluate import Evaluation, choose, run_eval
from rlcs.nano.build import build_model, build_processor
from rlcs.problems import Problem
from rlcs.rl_config import RlConfig

QUIET = Console(quiet=True)
CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy")
    build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1).save_pretrained(path)
    build_processor().save_pretrained(path)
    return path


def lines() -> list[dict[str, Any]]:
    """Five problems of two domains, one of them with a picture."""
    picture = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "read"}]
    return [
        {
            "id": f"p{index}",
            "domain": "ocr" if index % 2 else "math",
            "messages": [{"role": "user", "content": picture if index == 1 else f"question {index}"}],
            "answer": str(index),
            "tier": f"level-{1 + index // 3}",
        }
        for index in range(5)
    ]


def write(root: Path, rows: list[dict[str, Any]]) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 56, 3), dtype=np.uint8)).save(root / "a.png")
    (root / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "heldout.jsonl"


def config(policy: Path, problems: Path, out: Path, **changes: Any) -> EvalConfig:
    fields = {"model": str(policy), "problems": problems, "out": out, "samples": 3, "think_tokens": 4, "answer_tokens": 6}
    return EvalConfig(**{**fields, "threads": 1, "verifier_workers": 1, "rollout_batch": 8, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def evaluation(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    root = tmp_path_factory.mktemp("eval")
    return run_eval(config(policy, write(root, lines()), root / "out"), console=QUIET)


def test_every_problem_has_its_samples_and_a_greedy_response_in_both_modes(evaluation: Evaluation) -> None:
    rows = evaluation.responses.to_pylist()
    found = {(row["id"], row["mode"], row["sample"]) for row in rows}
    assert len(rows) == len(found) == 5 * (3 + 1) * 2
    assert found == {(f"p{i}", mode, n) for i in range(5) for mode in ("thinking", "nothink") for n in (-1, 0, 1, 2)}
    assert all(row["response"].startswith("<think></think>\n") for row in rows if row["mode"] == "nothink")
    assert {tuple(row["media"]) for row in rows if row["id"] == "p1"} == {("a.png",)}


def test_responses_stay_within_the_budgets(evaluation: Evaluation) -> None:
    for row in evaluation.responses.to_pylist():
        assert row["tokens"] <= (6 if row["mode"] == "nothink" else 4 + 6 + 4)
        assert row["finish_reason"] in ("stop", "length")


def test_the_files_are_what_was_returned(evaluation: Evaluation) -> None:
    read = Evaluation.read(evaluation.config.out)
    assert read.responses.equals(evaluation.responses) and read.config == evaluation.config
    assert read.summary == json.loads(json.dumps(evaluation.summary))
    assert {path.name for path in evaluation.config.out.iterdir()} == {"config.yaml", "eval.json", "responses.parquet"}


def test_the_same_seed_gives_the_same_responses_whatever_the_order_of_the_file(
    policy: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    again = run_eval(config(policy, write(tmp_path, lines()[::-1]), tmp_path / "out"), console=QUIET)
    assert again.responses.equals(evaluation.responses)
    assert again.summary["groups"] == evaluation.summary["groups"]
    other = run_eval(config(policy, tmp_path / "heldout.jsonl", tmp_path / "other", seed=1), console=QUIET)
    assert other.responses["response"] != evaluation.responses["response"]
    greedy = [
        {row["id"]: row["response"] for row in e.responses.to_pylist() if row["sample"] == -1} for e in (evaluation, other)
    ]
    assert greedy[0] == greedy[1]


def test_one_mode_alone_draws_what_it_draws_beside_the_other(policy: Path, evaluation: Evaluation, tmp_path: Path) -> None:
    settings = config(policy, write(tmp_path, lines()), tmp_path / "out", modes=["nothink"], greedy=False)
    alone = run_eval(settings, console=QUIET).responses.to_pylist()
    assert alone == [row for row in evaluation.responses.to_pylist() if row["mode"] == "nothink" and row["sample"] >= 0]
    assert {group["mode"] for group in Evaluation.read(tmp_path / "out").summary["groups"]} == {"nothink"}


def test_a_reference_its_own_verifier_rejects_is_an_error_before_anything_is_generated(policy: Path, tmp_path: Path) -> None:
    rows = lines()
    rows[2]["answer"] = "1/0"
    with pytest.raises(ValueError, match=r"1 of 5 references are rejected.*rlcs check") as error:
        run_eval(config(policy, write(tmp_path, rows), tmp_path / "out"), console=QUIET)
    assert '\n  p2: answer "1/0": undefined' in str(error.value)
    assert not (tmp_path / "out").exists()


def table(*outcomes: tuple[str, str, str, int, bool | None], tokens: int = 10) -> pa.Table:
    """Responses from (id, tier, mode, sample, correct); None abstained; a wrong one with sample 1 broke the format."""
    rows = []
    for id, tier, mode, sample, correct in outcomes:
        broken = correct is False and sample == 1
        status = "abstained" if correct is None else "format_error" if broken else "ok"
        rows.append(
            {"id": id, "domain": "math", "tier": tier, "mode": mode, "sample": sample, "correct": correct, "status": status}
            | {"score": None if correct is None else float(correct), "tokens": tokens, "finish_reason": "stop", "forced": False}
            | {"question": "", "media": [], "answer": "", "response": ""}
        )
    return pa.Table.from_pylist(rows, schema=RESPONSES)


def test_pass_at_1_in_the_summary_is_that_of_the_responses() -> None:
    """On random outcomes with abstentions, recomputed with dictionaries alone."""
    rng = np.random.default_rng(0)
    drawn = [
        (f"p{p}", f"level-{p % 3}", mode, sample, None if rng.random() < 0.15 else bool(rng.random() < 0.4))
        for p in range(30)
        for mode in ("thinking", "nothink")
        for sample in range(4)
    ]
    groups = summarise(Scores.of(table(*drawn)), [1])
    for group in groups:
        by_problem = defaultdict(lambda: defaultdict(list))  # type: ignore[var-annotated]
        for id, tier, mode, _, correct in drawn:
            if group["tier"] in (None, tier) and group["mode"] in ("both", mode) and correct is not None:
                by_problem[id][mode].append(correct)
        means = [np.mean([np.mean(known) for known in modes.values()]) for modes in by_problem.values()]
        assert group["pass_at"]["1"]["mean"] == pytest.approx(np.mean(means))
        assert group["pass_at"]["1"]["se"] == pytest.approx(np.std(means, ddof=1) / len(means) ** 0.5)
        assert group["pass_at"]["1"]["n"] == len(means)
    assert len(groups) == 4 * 3
    assert sum(g["abstained"] for g in groups if g["tier"] is None and g["mode"] != "both") == sum(
        row[4] is None for row in drawn
    )


def test_an_abstained_response_is_counted_and_never_wrong() -> None:
    mode = "thinking"
    scores = Scores.of(
        table(
            *[("a", "t", mode, n, correct) for n, correct in enumerate([True, None, None])],
            *[("b", "t", mode, n, correct) for n, correct in enumerate([True, False, False])],
            *[("c", "t", mode, n, None) for n in range(3)],
            ("a", "t", mode, -1, True),
            ("b", "t", mode, -1, None),
            ("c", "t", mode, -1, False),
        )
    )
    group = summarise(scores, [1, 3])[0]
    assert (group["problems"], group["samples"], group["abstained"]) == (3, 9, 5)
    assert group["pass_at"]["1"]["mean"] == pytest.approx((1 + 1 / 3) / 2) and group["pass_at"]["1"]["n"] == 2
    assert group["pass_at"]["3"]["mean"] == 1.0 and group["pass_at"]["3"]["n"] == 1, "only b has three known samples"
    assert group["greedy"]["mean"] == 0.5 and group["greedy"]["n"] == 2
    assert group["well_formed"] == pytest.approx(8 / 9)
    assert group["reward"]["mean"] == pytest.approx((1 + 1 / 3) / 2)


def test_a_domain_of_which_nothing_is_known_has_null_figures_and_is_shown() -> None:
    groups = summarise(Scores.of(table(*[("a", "", "thinking", n, None) for n in range(2)])), [1, 2])
    assert groups[0]["pass_at"]["1"]["mean"] is None and groups[0]["abstained"] == 2
    json.dumps(groups, allow_nan=False)
    console = Console(width=80, record=True, file=io.StringIO())
    for shown in console_tables(groups):
        console.print(shown)
    assert "abst." in console.export_text()


def test_tables_for_the_console_fit_80_columns(evaluation: Evaluation) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    for shown in console_tables(evaluation.summary["groups"]):
        console.print(shown)
    text = console.export_text()
    assert "…" not in text and "thinking" in text and "level-2" in text and "pass@3" in text


def problems(sizes: dict[tuple[str, str], int]) -> list[Problem]:
    return [
        Problem(id=f"{domain}-{tier}-{n}", domain=domain, messages=[], answer="1", tier=tier)
        for (domain, tier), size in sizes.items()
        for n in range(size)
    ]


def test_a_limit_takes_evenly_from_the_tiers_and_small_tiers_give_what_they_have() -> None:
    everything = problems({("math", "1"): 2, ("math", "2"): 50, ("math", "3"): 50, ("ocr", "1"): 5})
    chosen = choose(everything, 21, seed=0)
    counts = defaultdict(int)  # type: ignore[var-annotated]
    for problem in chosen:
        counts[problem.domain, problem.tier] += 1
    assert counts == {("math", "1"): 2, ("math", "2"): 10, ("math", "3"): 9, ("ocr", "1"): 5}
    ids = [problem.id for problem in chosen]
    assert ids == [problem.id for problem in choose(everything[::-1], 21, seed=0)], "the order of the file plays no part"
    assert ids != [problem.id for problem in choose(everything, 21, seed=1)]
    assert ids == [problem.id for problem in choose(everything, 22, seed=0) if problem.id in ids], (
        "a larger limit adds problems"
    )


def test_levels_sort_by_number() -> None:
    assert sorted(["level-10", "level-9", "a", "level-1"], key=natural) == ["a", "level-1", "level-9", "level-10"]


def test_settings_shared_with_training_have_the_same_defaults() -> None:
    shared = EvalConfig.model_fields.keys() & RlConfig.model_fields.keys()
    assert {"temperature", "top_p", "think_tokens", "answer_tokens", "rollout_batch"} <= shared
    for name in shared:
        assert EvalConfig.model_fields[name].default == RlConfig.model_fields[name].default, name


def test_the_shipped_configuration_samples_as_its_training_does() -> None:
    found = EvalConfig(**yaml.safe_load((CONFIGS / "eval" / "nano.yaml").read_text()))
    training = RlConfig(**yaml.safe_load((CONFIGS / "rl" / "nano.yaml").read_text()))
    for name in ("temperature", "top_p", "think_tokens", "answer_tokens", "dtype"):
        assert getattr(found, name) == getattr(training, name), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pass_k": [1, 5]}, r"expected numbers from 1 to 4"),
        ({"pass_k": [0]}, r"expected numbers from 1 to 4"),
        ({"modes": ["thinking", "thinking"]}, "each mode once"),
        ({"modes": []}, "at least 1 item"),
        ({"modes": ["fast"]}, "'thinking' or 'nothink'"),
        ({"sample": 3}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvalConfig(**{"model": "m", "problems": "p", "out": "o", **changes})


def test_pass_at_1_and_at_all_samples_are_reported_unless_told_otherwise() -> None:
    fields: dict[str, Any] = {"model": "m", "problems": "p", "out": "o", "samples": 8}
    assert EvalConfig(**fields).pass_k == [1, 8]
    assert EvalConfig(**fields, pass_k=[4, 2]).pass_k == [1, 2, 4]
    assert EvalConfig(**{**fields, "samples": 1}).pass_k == [1]


def test_every_setting_is_documented() -> None:
    assert all(field.description for field in EvalConfig.model_fields.values())


def test_responses_are_readable_by_any_parquet_reader(evaluation: Evaluation) -> None:
    assert pq.read_schema(evaluation.config.out / "responses.parquet").equals(RESPONSES)
