"""Merging graders and human labels, against numbers computed by hand, by brute force or by scipy."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import betabinom, binomtest, spearmanr
from typer.testing import CliRunner

from rlcs import cli
from rlcs.grade_merge import Merged, combined, fitted_weight, label_rates, merge_grades, pooled
from rlcs.grade_tables import merge_tables
from rlcs.grades import DEFAULT_TIERS, Grade, Tiers
from rlcs.problems import ProblemFileError, load_problems

TIERS = Tiers.of(DEFAULT_TIERS)
Counts = dict[str, tuple[int, int]]


def write(path: Path, counts: Counts, model: str = "a", **fields: Any) -> Path:
    """A graded file: id -> (right, k). The part of an id before "-" is its domain."""
    rows = [
        {
            "id": id,
            "domain": id.partition("-")[0],
            "messages": [{"role": "user", "content": f"question {id}"}],
            "answer": "1",
            "grade": Grade(model, k, right, 0, {"thinking": (right, k)}).to_json(),
            **fields,
        }
        for id, (right, k) in counts.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def merge(root: Path, *graders: Counts, labels: dict[str, str | None] | None = None, **options: Any) -> Merged:
    paths = [write(root / f"{n}.jsonl", counts, model=f"model {n}") for n, counts in enumerate(graders)]
    if labels is not None:
        rows = [{"id": id, "tier": label} for id, label in labels.items()]
        (root / "human.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        options["human"] = root / "human.jsonl"
    return merge_grades(paths, root / "merged.jsonl", **{"tiers": TIERS, **options})


def by_id(root: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in map(json.loads, (root / "merged.jsonl").read_text().splitlines())}


def test_counts_are_pooled_with_wilsons_interval(tmp_path: Path) -> None:
    merged = merge(tmp_path, {"math-1": (3, 4), "math-2": (0, 8)}, {"math-1": (1, 8), "math-2": (8, 8)})
    rows = by_id(tmp_path)
    assert rows == {row["id"]: row for row in merged.lines}
    first, second = rows["math-1"], rows["math-2"]
    assert first["pass_rate"] == pytest.approx(4 / 12) and first["tier"] == "hard"
    assert second["pass_rate"] == 0.5 and second["tier"] == "medium"
    assert (first["grade"]["k"], first["grade"]["right"], first["grade"]["spread"]) == (12, 4, 0.625)
    expected = binomtest(4, 12).proportion_ci(0.95, method="wilson")
    assert first["grade"]["interval"] == pytest.approx([expected.low, expected.high], abs=1e-4)
    assert first["grade"]["modes"] == {"thinking": {"k": 12, "right": 4}}
    assert first["grade"]["graders"] == [
        {"model": "model 0", "k": 4, "right": 3, "weight": 1.0},
        {"model": "model 1", "k": 8, "right": 1, "weight": 1.0},
    ]
    assert "human" not in first["grade"]
    assert load_problems(tmp_path / "merged.jsonl")[1].pass_rate == 0.5


def test_a_weight_says_what_an_answer_of_a_grader_counts(tmp_path: Path) -> None:
    merge(tmp_path, {"math-1": (3, 4)}, {"math-1": (1, 8)}, weights=[1.0, 2.0])
    row = by_id(tmp_path)["math-1"]
    assert row["pass_rate"] == pytest.approx((3 + 2 * 1) / (4 + 2 * 8))
    n, p, z = (4 + 16) ** 2 / (4 + 4 * 8), 0.25, 1.959964
    centre, half = (p + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n * n)) ** 0.5
    assert row["grade"]["interval"] == pytest.approx([centre - half, centre + half], abs=1e-4)
    assert (row["grade"]["k"], row["grade"]["right"]) == (12, 4), "counts stay counts"


def test_the_answers_a_weighted_rate_is_worth_give_its_sampling_variance() -> None:
    """Simulated: graders of one pass rate and unequal weights."""
    rng, p, weight_M, k_M = np.random.default_rng(0), 0.3, np.array([1.0, 3.0, 0.5]), np.array([8, 4, 16])
    right_NM = rng.binomial(k_M, p, (200_000, 3)).astype(float)
    rate_N, answers_N = pooled(right_NM, np.broadcast_to(k_M, right_NM.shape).astype(float), weight_M)
    assert rate_N.mean() == pytest.approx(p, abs=1e-3)
    assert rate_N.var() == pytest.approx(p * (1 - p) / answers_N[0], rel=0.02)
    _, equal_N = pooled(right_NM[:1], k_M[None].astype(float), np.full(3, 7.0))
    assert equal_N == pytest.approx(28), "equal weights lose no answer, whatever their size"


def test_who_abstained_from_everything_counts_for_nothing(tmp_path: Path) -> None:
    merge(tmp_path, {"math-1": (0, 0), "math-2": (0, 0)}, {"math-1": (2, 8), "math-2": (0, 0)})
    rows = by_id(tmp_path)
    assert rows["math-1"]["pass_rate"] == 0.25 and rows["math-1"]["grade"]["spread"] == 0
    assert rows["math-2"].keys().isdisjoint({"pass_rate", "tier"})
    assert rows["math-2"]["grade"]["interval"] is None and rows["math-2"]["grade"]["spread"] is None


def test_a_human_label_counts_as_answers_at_the_rate_of_the_other_problems_with_it(tmp_path: Path) -> None:
    counts = {"math-1": (1, 8), "math-2": (6, 8), "math-3": (4, 8), "math-4": (8, 8), "ocr-1": (8, 8)}
    labels = {"math-1": "school", "math-2": "school", "math-3": "school", "ocr-1": "school"}
    merge(tmp_path, counts, labels=labels, human_weight=4.0)
    rows = by_id(tmp_path)
    # Of math-1 the others with its label have (6 + 4) / 16; it counts as 4 answers: (1 + 4 * 0.625) / (8 + 4).
    assert rows["math-1"]["grade"]["estimate"] == pytest.approx((1 + 4 * 10 / 16) / 12)
    assert rows["math-2"]["grade"]["estimate"] == pytest.approx((6 + 4 * 5 / 16) / 12)
    assert rows["math-1"]["grade"]["human"] == "school"
    assert (rows["math-1"]["pass_rate"], rows["math-1"]["tier"]) == (0.125, "hard"), "the rate stays what was measured"
    assert rows["math-4"]["tier"] == "very easy" and "human" not in rows["math-4"]["grade"]
    assert rows["ocr-1"]["grade"]["estimate"] == 1.0, "a label says nothing across domains"


def test_a_label_decides_alone_where_no_answer_could_be_judged(tmp_path: Path) -> None:
    merge(
        tmp_path,
        {"math-1": (0, 0), "math-2": (6, 8), "math-3": (7, 8)},
        labels=dict.fromkeys(["math-1", "math-2", "math-3"], "x"),
    )
    row = by_id(tmp_path)["math-1"]
    assert row["tier"] == "easy" and row["grade"]["estimate"] == pytest.approx(13 / 16)
    assert "pass_rate" not in row


def test_a_label_is_worth_no_more_than_the_answers_behind_it(tmp_path: Path) -> None:
    counts = {"math-1": (0, 8), "math-2": (2, 2), "math-3": (4, 8)}
    merge(tmp_path, counts, labels={"math-1": "x", "math-2": "x", "math-3": "nobody else's"}, human_weight=4.0)
    rows = by_id(tmp_path)
    assert [rows[id]["grade"]["human_weight"] for id in counts] == [2, 4, 0]
    assert [rows[id]["grade"]["estimate"] for id in counts] == pytest.approx([2 / 10, 2 / 6, 0.5])


def test_what_a_label_says_leaves_the_problem_itself_out() -> None:
    others_N, behind_N = label_rates(np.array([0.0, 1.0, 0.5]), np.array([8.0, 2.0, 8.0]), [np.array([0, 1]), np.array([2])])
    assert others_N[:2].tolist() == [1.0, 0.0] and np.isnan(others_N[2])
    assert behind_N.tolist() == [2.0, 8.0, 0.0]


def drawn(strength: float, rng: np.random.Generator, k: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """2,000 problems under four labels: true pass rates ~ Beta(strength m, strength (1 - m)), rates of k answers, k, label."""
    label_N = np.repeat(np.arange(4), 500)
    mean_N = np.array([0.15, 0.4, 0.6, 0.9])[label_N]
    true_N = rng.beta(strength * mean_N, strength * (1 - mean_N))
    return true_N, rng.binomial(k, true_N) / k, np.full(2000, float(k)), label_N


@pytest.mark.parametrize("strength", [0.5, 3.0, 20.0])
def test_the_weight_of_labels_is_found_from_how_alike_their_problems_are(strength: float) -> None:
    true_N, rate_N, answers_N, label_N = drawn(strength, np.random.default_rng(0))
    others_N, behind_N = label_rates(rate_N, answers_N, [np.flatnonzero(label_N == label) for label in range(4)])
    weight = fitted_weight(rate_N, answers_N, others_N)
    assert weight == pytest.approx(strength, rel=0.3)

    def error(weight: float) -> float:
        estimate_N = combined(rate_N, answers_N, others_N, np.minimum(weight, behind_N))
        return float(np.mean((estimate_N - true_N) ** 2))

    assert error(weight) < error(0.0) and error(weight) < 1.02 * min(error(w) for w in np.geomspace(0.1, 100, 60))


def test_the_fitted_weight_is_the_likeliest_by_scipys_beta_binomial() -> None:
    _, rate_N, answers_N, label_N = drawn(4.0, np.random.default_rng(3))
    chosen = np.random.default_rng(0).permutation(2000)[:60]
    rate_N, answers_N, label_N = rate_N[chosen], answers_N[chosen], label_N[chosen]
    others_N, _ = label_rates(rate_N, answers_N, [np.flatnonzero(label_N == label) for label in range(4)])
    found = fitted_weight(rate_N, answers_N, others_N)

    def log_likelihood(weight: float) -> float:
        return float(betabinom.logpmf(np.rint(rate_N * 8), 8, weight * others_N, weight * (1 - others_N)).sum())

    assert ((others_N > 0.02) & (others_N < 0.98)).all(), "nothing is clipped"
    near = [found * factor for factor in (0.8, 2**-0.25, 1.0, 2**0.25, 1.25)]
    assert max(map(log_likelihood, near)) == log_likelihood(found)


def test_each_domain_has_a_weight_of_its_own(tmp_path: Path) -> None:
    alike = {f"math-{n}": (4, 8) for n in range(10)}
    apart = {f"ocr-{n}": (8 * (n % 2), 8) for n in range(10)}
    merged = merge(tmp_path, alike | apart, labels=dict.fromkeys(alike | apart, "x"))
    weights = {fit.domain: fit.weight for fit in merged.labels}
    assert weights["math"] == 64 and weights["ocr"] < 1
    assert by_id(tmp_path)["ocr-1"]["grade"]["human_weight"] == pytest.approx(weights["ocr"], abs=1e-4)


def test_without_human_weight_labels_are_noted_and_change_nothing(tmp_path: Path) -> None:
    counts = {"math-1": (1, 8), "math-2": (6, 8)}
    merge(tmp_path, counts, labels={"math-1": "x", "math-2": "x"}, human_weight=0.0)
    assert {id: row["grade"]["estimate"] for id, row in by_id(tmp_path).items()} == {"math-1": 1 / 8, "math-2": 6 / 8}


def test_agreement_is_that_of_scipy_and_a_count_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    one = {f"math-{n}": (int(right), 8) for n, right in enumerate(rng.integers(0, 9, 40))}
    two = {id: (int(np.clip(right + rng.integers(-3, 4), 0, 8)), 8) for id, (right, _) in one.items()}
    two["math-0"], one["math-1"] = (0, 0), (8, 8)
    two["math-1"] = (0, 8)
    (found,) = merge(tmp_path, one, two).agreements
    both = [id for id in one if two[id][1]]
    first, second = ([counts[id][0] / 8 for id in both] for counts in (one, two))
    assert (found.domain, found.first, found.second, found.problems) == ("math", 0, 1, 39)
    assert found.rates == pytest.approx((np.mean(first), np.mean(second)))
    assert found.difference == pytest.approx(np.mean(np.abs(np.subtract(first, second))))
    assert found.correlation == pytest.approx(spearmanr(first, second).statistic)
    assert found.same_tier == np.mean([TIERS.of_rate(a) == TIERS.of_rate(b) for a, b in zip(first, second, strict=True)])

    def bounds(right: float) -> tuple[float, float]:
        interval = binomtest(round(right * 8), 8).proportion_ci(0.95, method="wilson")
        return interval.low, interval.high

    apart = [
        max(x, y)
        for a, b in zip(first, second, strict=True)
        for x, y in [(bounds(a)[0] - bounds(b)[1], bounds(b)[0] - bounds(a)[1])]
    ]
    assert found.apart == sum(gap > 0 for gap in apart) >= 1


def test_a_grader_that_rates_all_alike_has_no_order_to_agree_with(tmp_path: Path) -> None:
    (found,) = merge(tmp_path, {"math-1": (8, 8), "math-2": (8, 8)}, {"math-1": (1, 8), "math-2": (8, 8)}).agreements
    assert found.correlation is None and found.same_tier == 0.5


def test_agreement_is_by_domain_and_pair(tmp_path: Path) -> None:
    counts = {"math-1": (1, 8), "ocr-1": (2, 8)}
    found = merge(tmp_path, counts, counts, counts).agreements
    assert [(a.domain, a.first, a.second) for a in found] == [
        (domain, *pair) for domain in ("math", "ocr") for pair in ((0, 1), (0, 2), (1, 2))
    ]


def test_labels_at_odds_with_what_was_measured_are_counted(tmp_path: Path) -> None:
    counts = {f"math-{n}": (8, 8) for n in range(5)} | {"math-5": (0, 8)}
    (fit,) = merge(tmp_path, counts, labels=dict.fromkeys(counts, "easy")).labels
    # math-5 has at most 0.32, the others 1. Of each other, the rest have 32 of 40, inside its [0.68, 1].
    assert (fit.domain, fit.label, fit.problems, fit.rate, fit.at_odds) == ("math", "easy", 6, pytest.approx(5 / 6), 1)


def test_the_order_of_a_graders_lines_plays_no_part(tmp_path: Path) -> None:
    one, two = {"math-1": (1, 8), "math-2": (2, 8)}, {"math-1": (5, 8), "math-2": (6, 8)}
    expected = merge(tmp_path, one, two).lines
    assert merge(tmp_path, one, dict(reversed(two.items()))).lines == expected


def test_tiers_of_the_first_file_can_be_kept_and_a_scale_given(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.jsonl", {"math-1": (1, 8)}, model=str(n), tier=f"t{n}") for n in (0, 1)]
    kept = merge_grades(paths, tmp_path / "kept.jsonl", tiers=TIERS, keep_tiers=True)
    assert kept.lines[0]["tier"] == "t0"
    scaled = merge_grades(paths, tmp_path / "scaled.jsonl", tiers=Tiers.of(["low", 0.1, "high"]))
    assert scaled.lines[0]["tier"] == "high"


def test_one_grading_given_twice_is_pointed_out(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"math-1": (1, 8)})
    write(tmp_path / "b.jsonl", {"math-1": (1, 8)})
    write(tmp_path / "c.jsonl", {"math-1": (1, 8)}, model="another")
    paths = [tmp_path / f"{name}.jsonl" for name in "abc"]
    (warning,) = merge_grades(paths, tmp_path / "o.jsonl", tiers=TIERS).warnings
    assert "a.jsonl" in warning and "b.jsonl" in warning and "one grading?" in warning


def test_graders_of_different_problems_are_refused_by_id(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"0.jsonl and .*1.jsonl are of different problems: 1 \('math-1'\) only in the first, 2 "
    ):
        merge(tmp_path, {"math-1": (1, 8), "math-2": (1, 8)}, {"math-2": (1, 8), "math-3": (1, 8), "math-4": (1, 8)})
    assert not (tmp_path / "merged.jsonl").exists()


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [("answer", "2", '"2"'), ("verifier", "ocr", '"ocr"'), ("verifier_args", {"rtol": 0.1}, "rtol")],
)
def test_graders_whose_problems_differ_under_one_id_are_refused(tmp_path: Path, field: str, value: Any, shown: str) -> None:
    paths = [write(tmp_path / "a.jsonl", {"math-1": (1, 8)}), write(tmp_path / "b.jsonl", {"math-1": (1, 8)}, **{field: value})]
    with pytest.raises(ValueError, match=rf"b.jsonl, id 'math-1', field '{field}': found .*{shown}.*a.jsonl has"):
        merge_grades(paths, tmp_path / "o.jsonl", tiers=TIERS)


def test_inputs_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"{name}.jsonl", {"math-1": (1, 8)}, model=name) for name in "ab")
    out = tmp_path / "o.jsonl"
    for paths, options, message in (
        ([one, one], {}, "graded files, each once"),
        ([one, two], {"out": two}, "is one of the graders"),
        ([one, two], {"weights": [1.0]}, "one number above 0 for each"),
        ([one, two], {"weights": [1.0, 0.0]}, "one number above 0 for each"),
        ([one, two], {"human_weight": float("nan")}, "expected a number of answers"),
    ):
        with pytest.raises(ValueError, match=message):
            merge_grades(paths, options.pop("out", out), tiers=TIERS, **options)
    merge_grades([one, two], out, tiers=TIERS)
    with pytest.raises(ValueError, match=r"o.jsonl, id 'math-1': the grade is merged already"):
        merge_grades([one, out], tmp_path / "p.jsonl", tiers=TIERS)
    write(tmp_path / "c.jsonl", {"math-1": (1, 8)}, grade=None)
    with pytest.raises(ValueError, match=r"c.jsonl, id 'math-1': no grade; expected one as `rlcs grade` writes it"):
        merge_grades([one, tmp_path / "c.jsonl"], out, tiers=TIERS)
    (tmp_path / "d.jsonl").write_text(one.read_text() * 2)
    with pytest.raises(ProblemFileError, match="the same id stands on line 1"):
        merge_grades([one, tmp_path / "d.jsonl"], out, tiers=TIERS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"id": "math-9", "tier": "x"}], r"human.jsonl, line 1, id 'math-9', field 'id': no graded problem has this id"),
        ([{"id": "math-1", "teir": "x"}], r"field 'tier': missing; found the fields id, teir"),
        ([{"id": "math-1", "tier": 3}], r"field 'tier': found 3; expected text"),
        ([{"id": 1, "tier": "x"}], r"field 'id': found 1; expected text"),
        ([{"id": "math-1", "tier": "x"}, {"id": "math-1", "tier": "y"}], r"line 2, id 'math-1'.*stands on line 1"),
        (["x"], r"line 1: found text; expected an object"),
    ],
)
def test_faulty_human_labels_are_named(tmp_path: Path, lines: list[Any], message: str) -> None:
    graded = write(tmp_path / "a.jsonl", {"math-1": (1, 8)})
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ProblemFileError, match=message):
        merge_grades([graded], tmp_path / "o.jsonl", tiers=TIERS, human=tmp_path / "human.jsonl")


def test_media_named_relative_to_the_first_file_keep_the_output_beside_it(tmp_path: Path) -> None:
    content = [{"type": "image", "image": "a.png"}]
    paths = [
        write(tmp_path / f"{name}.jsonl", {"math-1": (1, 8)}, model=name, messages=[{"role": "user", "content": content}])
        for name in "ab"
    ]
    with pytest.raises(ValueError, match="named relative to the file"):
        merge_grades(paths, tmp_path / "elsewhere" / "o.jsonl", tiers=TIERS)


def test_tables_fit_80_columns_and_list_the_widest_disagreement_first(tmp_path: Path) -> None:
    one = {f"math-{n}": (n, 8) for n in range(8)}
    two = {**one, "math-2": (8, 8), "math-7": (3, 8)}
    merged = merge(tmp_path, one, two, labels={"math-1": "level-10", "math-2": "level-9", "math-3": None})
    console = Console(width=80, record=True, file=io.StringIO())
    for table in merge_tables(merged):
        console.print(table)
    text = console.export_text()
    assert "…" not in text
    assert text.index("math-2") < text.index("math-7") and "2/8, 8/8" in text
    assert text.index("level-9") < text.index("level-10")


def test_the_command_merges_with_weights_and_human_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"math-1": (3, 4), "math-2": (1, 4)}, model="a")
    write(tmp_path / "b.jsonl", {"math-1": (1, 8), "math-2": (1, 8)}, model="b")
    (tmp_path / "human.jsonl").write_text('{"id": "math-1", "tier": "x"}\n')
    arguments = [
        str(tmp_path / "a.jsonl"),
        str(tmp_path / "b.jsonl"),
        "--weight",
        "1",
        "--weight",
        "2",
        "-o",
        str(tmp_path / "o.jsonl"),
    ]
    options = ["--human", str(tmp_path / "human.jsonl"), "--human-weight", "2", "--tiers", "low,0.2,high"]
    done = CliRunner().invoke(cli.app, ["grade", "merge", *arguments, *options], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["pass_rate"] for row in rows] == [0.25, pytest.approx(3 / 20)] and [row["tier"] for row in rows] == [
        "high",
        "low",
    ]
    assert rows[0]["grade"]["human"] == "x"
    for shown in ("agreement of graders", "widest apart", "human labels", "by domain and tier", "written:"):
        assert shown in done.output
    refused = CliRunner().invoke(cli.app, ["grade", "merge", *arguments, "--tiers", "low,high"])
    assert isinstance(refused.exception, ValueError) and "expected names and rising" in str(refused.exception)
