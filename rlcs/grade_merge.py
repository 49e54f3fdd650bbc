"""`rlcs grade merge`: several graders and human labels of the same problems become one pass rate and one tier. No torch.

GLM-4.1V-Thinking (arXiv 2507.01006, section 5.3) grades offline by pass@k of several models and earlier checkpoints and
combines it with people's labels of difficulty; it publishes no formula. Ours are `pooled`, `label_rates`, `fitted_weight` and
`combined`.

Axis suffixes: N problems, M graders, H weights tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import betaln

from rlcs.grade_agreement import Agreement, LabelFit, agreements, label_fits
from rlcs.grade_inputs import check_same, check_settings, read_grades, read_labels
from rlcs.grades import Grade, Tiers, graded_line, interval, raw_lines, refuse_lost_media, write_problems
from rlcs.problems import load_problems

_WEIGHTS = np.geomspace(0.25, 64.0, 33)  # answers a human label may be fitted to count as
_CLIP = 0.02  # as in rlcs.difficulty: a label whose other problems were all solved still does not promise the next


@dataclass(frozen=True, eq=False)
class Merged:
    """What a merge wrote, and what it found: `models` in the order of the files, how they and the labels agree, warnings."""

    lines: list[dict[str, Any]]
    models: list[str]
    agreements: list[Agreement]
    labels: list[LabelFit]
    warnings: list[str]


def merge_grades(
    paths: Sequence[Path],
    out: Path,
    *,
    tiers: Tiers,
    weights: Sequence[float] = (),
    human: Path | None = None,
    human_weight: float | None = None,
    keep_tiers: bool = False,
) -> Merged:
    """Merges the graded files `paths`, all of the same problems, into `out`: the lines of the first with a joint grade.

    `weights`: what an answer of each grader counts; all 1 unless given. `human`: JSON Lines with `id` and `tier`, people's
    labels, in words of their own; each counts as `human_weight` answers, which is fitted to the domain unless given. The
    pass rate is the graders', the tier that of the estimate in which the human label has its part. Raises ValueError
    saying what does not fit.
    """
    weights = list(weights) or [1.0] * len(paths)
    check_settings(paths, out, weights, human_weight)
    problems, *others = files = [load_problems(path) for path in paths]
    for path, other in zip(paths[1:], others, strict=True):
        check_same(paths[0], problems, path, other)
    refuse_lost_media(problems, paths[0], out)
    grades = [read_grades(path, file) for path, file in zip(paths, files, strict=True)]
    grades_NM = [[grader[problem.id] for grader in grades] for problem in problems]
    labels_N = read_labels(human, problems) if human else [None] * len(problems)

    right_NM = np.array([[grade.right for grade in row] for row in grades_NM], np.float64)
    k_NM = np.array([[grade.k for grade in row] for row in grades_NM], np.float64)
    rate_N, answers_N = pooled(right_NM, k_NM, np.array(weights))
    domains = [problem.domain for problem in problems]
    members = _by_label(domains, labels_N)
    others_N, behind_N = label_rates(rate_N, answers_N, list(members.values()))
    weight_N = np.zeros(len(problems))
    for domain in set(domains):
        mine = np.array([one == domain for one in domains])
        fitted = fitted_weight(rate_N[mine], answers_N[mine], others_N[mine])
        weight_N[mine] = fitted if human_weight is None else human_weight
    worth_N = np.minimum(weight_N, behind_N)
    estimate_N = combined(rate_N, answers_N, others_N, worth_N)

    lines = []
    for n, line in enumerate(raw_lines(paths[0])):
        rate, estimate = _known(rate_N[n]), _known(estimate_N[n])
        grade = _joint(grades_NM[n], weights, rate, float(answers_N[n]))
        if labels_N[n] is not None:
            grade |= {"human": labels_N[n], "human_weight": round(float(worth_N[n]), 4), "estimate": estimate}
        tier = None if estimate is None else tiers.of_rate(estimate)
        lines.append(graded_line(line, grade, rate, tier, keep_tier=keep_tiers))
    write_problems(out, lines)
    return Merged(
        lines,
        [", ".join(dict.fromkeys(grade.model for grade in grader.values())) for grader in grades],
        list(agreements(right_NM, k_NM, domains, tiers)),
        list(label_fits(rate_N, answers_N, others_N, weight_N, members)),
        [
            f"{paths[one]} and {paths[other]} hold the same counts of the same model; are they one grading?"
            for one, other in combinations(range(len(paths)), 2)
            if grades[one] == grades[other]
        ],
    )


def pooled(right_NM: np.ndarray, k_NM: np.ndarray, weight_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint pass rate [N], sum(w right) / sum(w k) over the graders (NaN where nobody has an answer), and the number of
    answers [N] it is worth.

    That is (sum(w k))^2 / sum(w^2 k), Kish's effective sample size: with equal weights all of them, otherwise fewer.
    """
    mass_N, square_N = k_NM @ weight_M, k_NM @ weight_M**2
    known = mass_N > 0
    rate_N = np.divide(right_NM @ weight_M, mass_N, out=np.full(len(k_NM), np.nan), where=known)
    return rate_N, np.divide(mass_N**2, square_N, out=np.zeros(len(k_NM)), where=known)


def label_rates(rate_N: np.ndarray, answers_N: np.ndarray, members: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What its human label says of each problem: the pass rate [N] of the other problems with that label (NaN where there
    are none), and the number of answers [N] behind that rate.

    `members`: the places of the problems of each label. A label so means what the graders find it to mean: people and
    models need not share a scale, and what is easy for people may be hard for a model.
    """
    right_N = np.nan_to_num(rate_N) * answers_N
    others_N, behind_N = np.full(len(rate_N), np.nan), np.zeros(len(rate_N))
    for places in members:
        answers = answers_N[places].sum() - answers_N[places]
        right = right_N[places].sum() - right_N[places]
        others_N[places] = np.divide(right, answers, out=np.full(len(places), np.nan), where=answers > 0)
        behind_N[places] = answers
    return others_N, behind_N


def fitted_weight(rate_N: np.ndarray, answers_N: np.ndarray, others_N: np.ndarray) -> float:
    """The number of answers h that a label is worth in a domain: the likeliest, of pass rates ~ Beta(h m, h (1 - m)).

    m is what the label says of a problem (`others_N`, in which the problem itself has no part). Where the problems of a label
    are alike h is large, where some are always and some never solved it is small. The likelihood of each problem's answers
    is beta-binomial; its binomial coefficient does not depend on h.
    """
    known = (answers_N > 0) & ~np.isnan(others_N)
    if not known.any():
        return float(_WEIGHTS[0])
    right_N = rate_N[known] * answers_N[known]
    mean_N = np.clip(others_N[known], _CLIP, 1.0 - _CLIP)
    alpha_HN, beta_HN = _WEIGHTS[:, None] * mean_N, _WEIGHTS[:, None] * (1.0 - mean_N)
    likelihood_H = (betaln(alpha_HN + right_N, beta_HN + answers_N[known] - right_N) - betaln(alpha_HN, beta_HN)).sum(1)
    return float(_WEIGHTS[likelihood_H.argmax()])


def combined(rate_N: np.ndarray, answers_N: np.ndarray, others_N: np.ndarray, worth_N: np.ndarray) -> np.ndarray:
    """(answers * rate + worth * others) / (answers + worth) [N]; NaN where neither grader nor label says anything."""
    total_N = answers_N + worth_N
    right_N = np.nan_to_num(rate_N) * answers_N + np.nan_to_num(others_N) * worth_N
    return np.divide(right_N, total_N, out=np.full(len(rate_N), np.nan), where=total_N > 0)


def _by_label(domains: Sequence[str], labels_N: Sequence[str | None]) -> dict[tuple[str, str], np.ndarray]:
    """(domain, label) -> places of its problems; a label of one domain says nothing of another."""
    members: dict[tuple[str, str], list[int]] = {}
    for n, (domain, label) in enumerate(zip(domains, labels_N, strict=True)):
        if label is not None:
            members.setdefault((domain, label), []).append(n)
    return {key: np.array(places) for key, places in members.items()}


def _joint(grades_M: Sequence[Grade], weights: Sequence[float], rate: float | None, answers: float) -> dict[str, Any]:
    """The joint grade of a problem as JSON: counts over all graders, each one's own, and how far their rates lie apart."""
    rates = [grade.rate for grade in grades_M if grade.rate is not None]
    modes: dict[str, dict[str, int]] = {}
    for grade in grades_M:
        for mode, (right, k) in grade.modes.items():
            total = modes.setdefault(mode, {"k": 0, "right": 0})
            total["k"], total["right"] = total["k"] + k, total["right"] + right
    return {
        "k": sum(grade.k for grade in grades_M),
        "right": sum(grade.right for grade in grades_M),
        "interval": None if rate is None else interval(rate * answers, answers),
        "abstained": sum(grade.abstained for grade in grades_M),
        "modes": modes,
        "spread": round(max(rates) - min(rates), 4) if rates else None,
        "graders": [
            {"model": grade.model, "k": grade.k, "right": grade.right, "weight": weight}
            for grade, weight in zip(grades_M, weights, strict=True)
        ],
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
