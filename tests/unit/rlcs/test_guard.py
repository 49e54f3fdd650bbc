"""What the guard asks of its files, and how verifiers from outside come into a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rewards import known_verifiers
from rlcs.config import load_config
from rlcs.guard import paid_as_in_training
from rlcs.guard_config import GuardConfig
from rlcs.problems import Problem, load_problems
from rlcs.rl_config import RlConfig
from rlcs.scoring import score_row, scoring_pool


def problem(name: str, domain: str = "math", answer: Any = "1", **more: Any) -> dict[str, Any]:
    return {"id": name, "domain": domain, "messages": [{"role": "user", "content": "?"}], "answer": answer, **more}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def paid(
    tmp_path: Path, audit: list[dict[str, Any]], training: list[dict[str, Any]], as_trained: list[dict[str, Any]] | None = None
) -> tuple[list[Problem], list[Problem]]:
    audited, trained = (load_problems(write(tmp_path / f"{n}.jsonl", p)) for n, p in (("audit", audit), ("train", training)))
    named = write(tmp_path / "paid.jsonl", as_trained) if as_trained is not None else None
    settings = GuardConfig(problems=tmp_path / "audit.jsonl", as_trained=named)
    return audited, paid_as_in_training(audited, trained, settings)


def test_audit_answers_are_paid_by_the_verifier_that_the_domain_is_trained_with(tmp_path: Path) -> None:
    lenient = {"verifier": "ocr", "verifier_args": {"threshold": 0.5}}
    training = [problem("t1", "ocr", "ABC", **lenient), problem("t2", "ocr", "DEF", **lenient), problem("t3")]
    audit, found = paid(tmp_path, [problem("a1", "ocr", "GHI"), problem("a2")], training)
    assert (found[0].answer, found[0].verifier, found[0].verifier_args) == ("GHI", "ocr", {"threshold": 0.5})
    assert audit[0].verifier is None
    assert found[1] is audit[1]  # the same in both: scored once


def test_a_file_of_its_own_says_what_training_pays_by(tmp_path: Path) -> None:
    as_trained = [problem("a2", answer="4"), problem("a1", answer="3", verifier="stem"), problem("unused")]
    audit, found = paid(tmp_path, [problem("a1"), problem("a2")], [problem("t1"), problem("t2", verifier="stem")], as_trained)
    assert [(one.id, one.answer, one.verifier) for one in found] == [("a1", "3", "stem"), ("a2", "4", None)]
    assert [one.answer for one in audit] == ["1", "1"]


def test_what_training_pays_by_must_be_one_thing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'math' has 2 verifiers .* guard\.as_trained"):
        paid(tmp_path, [problem("a")], [problem("t1"), problem("t2", verifier="stem")])
    with pytest.raises(ValueError, match=r"'ocr' has 0 verifiers .* leave out domains that are not trained"):
        paid(tmp_path, [problem("a", "ocr", "A")], [problem("t")])
    with pytest.raises(ValueError, match=r"paid\.jsonl: 1 problems of .*audit\.jsonl are missing, 'a2' the first"):
        paid(tmp_path, [problem("a1"), problem("a2")], [problem("t")], [problem("a1")])
    with pytest.raises(ValueError, match=r"1 of 1 references are rejected"):
        paid(tmp_path, [problem("a", answer="x^2")], [problem("t", verifier="counting", answer="3")])


@pytest.mark.parametrize(
    "change", [{"false_alarms": 0}, {"false_alarms": 0.5}, {"every_steps": 0}, {"least_fall": 1}, {"on_collapse": "panic"}]
)
def test_settings_without_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        GuardConfig(problems=Path("audit.jsonl"), **change)


PLUGIN = """
from rewards.registry import Context, Outcome, verifier

@verifier("even-length", reference=lambda raw, args: raw)
def even_length(answer: str, reference: str, context: Context) -> Outcome:
    right = len(answer) % 2 == 0
    return Outcome(float(right), right, None if right else "odd")
"""


def test_a_configuration_brings_its_own_verifiers_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "verifiers_of_mine.py").write_text(PLUGIN)
    settings = {"model": "-", "problems": "-", "out": "-", "verifier_workers": 1, "verifier_plugins": ["verifiers_of_mine"]}
    with pytest.raises(ValidationError, match=r"'verifiers_of_mine' cannot be imported .* PYTHONPATH"):
        RlConfig(**settings)  # type: ignore[arg-type]
    monkeypatch.syspath_prepend(str(tmp_path))
    config = RlConfig(**settings)  # type: ignore[arg-type]
    assert "even-length" in known_verifiers()
    (one,) = load_problems(write(tmp_path / "mine.jsonl", [problem("p", answer="ab", verifier="even-length")]))
    with scoring_pool(config) as pool:  # in processes of its own, which must have imported it as well
        verdicts = pool.score_batch(
            [score_row(one, f"<think></think><|begin_of_box|>{said}<|end_of_box|>") for said in ("xy", "xyz")]
        )
    assert [verdict.correct for verdict in verdicts] == [True, False]


def test_a_guard_is_configured_from_the_command_line(tmp_path: Path) -> None:
    base = tmp_path / "rl.yaml"
    base.write_text("model: m\nproblems: p.jsonl\nout: o\n")
    config = load_config(RlConfig, base, ["guard.problems=audit.jsonl", "guard.on_collapse=stop"])
    assert config.guard is not None
    assert (config.guard.problems, config.guard.on_collapse) == (Path("audit.jsonl"), "stop")
    assert RlConfig(model="m", problems=Path("p"), out=Path("o")).guard is None
