"""A step's metrics against a walk over its samples, one at a time."""

from typing import Any

import numpy as np
import pytest

from rewards import Verdict
from rlcs.problems import Problem
from rlcs.rollout_log import step_metrics
from rlcs.scoring import ScoredRollouts
from rollout.encoded import Encoded, Prompt
from rollout.engine import Completion

FATES = ["trained", "surplus", "all-right", "all-wrong", "abstained"]
VERDICTS = [
    Verdict(1.0, True, "ok"),
    Verdict(0.3, False, "ok", reason="close"),
    Verdict(0.0, False, "format_error", reason="no-box"),
    Verdict.abstained("timeout"),
]


def drawn(groups: int, seed: int = 0) -> tuple[ScoredRollouts, list[str]]:
    """Groups of 1 to 4 samples of 0 to 6 tokens, any of them forced."""
    rng = np.random.default_rng(seed)
    encoded = Encoded(np.arange(3), np.tile(np.arange(3), (3, 1)), np.zeros(3, bool), ())
    problems, completions, verdicts = [], [], []
    for index in range(groups):
        domain = str(rng.choice(["math", "ocr", "gui"]))
        problems.append(
            Problem(id=f"p{index}", domain=domain, messages=[{"role": "user", "content": "?"}], answer="1", tier="1")
        )
        completions.append([])
        for _ in range(rng.integers(1, 5)):
            length = int(rng.integers(0, 7))
            forced = rng.random(length) < 0.3
            logprobs = np.where(forced, 0, -rng.random(length)).astype(np.float32)
            reason: Any = rng.choice(["stop", "length", "repetition"])
            completions[-1].append(
                Completion(np.arange(length, dtype=np.int32), logprobs, forced, reason, "x", 0, float(rng.random()))
            )
        verdicts.append([VERDICTS[rng.integers(len(VERDICTS))] for _ in completions[-1]])
    prompts = [Prompt(encoded, "", bool(rng.random() < 0.5)) for _ in range(groups)]
    fates = [str(rng.choice(FATES)) for _ in range(groups)]
    return ScoredRollouts(np.arange(groups), problems, prompts, completions, verdicts), fates


def walked(rollouts: ScoredRollouts, fates: list[str], places: list[int]) -> dict[str, float]:
    """Metrics of the groups at these places."""
    seen: dict[str, list[float]] = {}
    counts = dict.fromkeys(["rollouts", "tokens", "rollouts_wasted", "tokens_wasted", "groups_trained"], 0.0)

    def note(name: str, value: float) -> None:
        seen.setdefault(name, []).append(float(value))

    for p in places:
        note("mixed_fraction", fates[p] in ("trained", "surplus"))
        counts["groups_trained"] += fates[p] == "trained"
        counts[f"groups/{fates[p]}"] = counts.get(f"groups/{fates[p]}", 0.0) + 1
        for completion, verdict in zip(rollouts.completions[p], rollouts.verdicts[p], strict=True):
            length = len(completion.token_ids)
            counts["rollouts"] += 1
            counts["tokens"] += length
            if fates[p] != "trained":
                counts["rollouts_wasted"] += 1
                counts["tokens_wasted"] += length
            note("response_length", length)
            note("seconds", completion.seconds)
            note("truncated_fraction", completion.finish_reason in ("length", "repetition"))
            note("repetition_fraction", completion.finish_reason == "repetition")
            note("forced_fraction", any(completion.forced.tolist()))
            note("format_error_fraction", verdict.status == "format_error")
            note("abstained_fraction", verdict.status == "abstained")
            for logprob, forced in zip(completion.logprobs.tolist(), completion.forced.tolist(), strict=True):
                if not forced:
                    note("entropy", -logprob)
            if verdict.score is not None and verdict.correct is not None:
                note("reward", verdict.score)
                note("pass_rate", verdict.correct)
                if any(completion.forced.tolist()):
                    note("forced_pass_rate", verdict.correct)
    seconds = sum(seen.pop("seconds"))
    means = {name: sum(values) / len(values) for name, values in seen.items()}
    return {**means, **counts, "groups_generated": float(len(places)), "speed": counts["tokens"] / max(seconds, 1e-9)}


@pytest.mark.parametrize(("groups", "seed"), [(400, 0), (7, 1), (1, 2), (1, 3), (2, 4)])
def test_metrics_are_those_of_a_walk_over_the_samples(groups: int, seed: int) -> None:
    rollouts, fates = drawn(groups, seed)
    found = step_metrics(rollouts, fates)
    parts: dict[str, list[int]] = {"": list(range(groups))}
    for p, (problem, prompt) in enumerate(zip(rollouts.problems, rollouts.prompts, strict=True)):
        parts.setdefault(problem.domain, []).append(p)
        parts.setdefault("thinking" if prompt.thinking else "nothink", []).append(p)
    expected: dict[str, float] = {}
    for label, places in parts.items():
        own = walked(rollouts, fates, places)
        expected["tokens_per_s/response" + (f"/{label}" if label else "")] = own.pop("speed")
        expected |= {f"{label}/{name}" if label else name: value for name, value in own.items()}
    assert found == pytest.approx(expected, rel=1e-12)  # the same names, too
    assert all(type(value) is float for value in found.values()), "what json writes"


def test_responses_without_a_token_leave_out_what_has_no_value() -> None:
    rollouts, _ = drawn(1)
    empty = Completion(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, bool), "length", "", 0)
    found = step_metrics(
        ScoredRollouts(rollouts.indices, rollouts.problems, rollouts.prompts, [[empty]], [[Verdict.abstained("timeout")]]),
        ["abstained"],
    )
    assert not found.keys() & {"reward", "pass_rate", "entropy", "forced_pass_rate"}
    assert found["tokens"] == found["response_length"] == 0.0 and found["abstained_fraction"] == 1.0
