"""Do our verifiers agree with reasoning-gym's own scores?

    python benchmarks/reasoning_gym/agreement.py [--responses runs/reasoning_gym/eval-sft/responses.parquet] [--each 5]

Scored both ways are what a policy answered (the responses of an `rlcs eval`), and for some problems of every level the
reference, the reference rewritten, the references of other problems and the task repeated. Prints how often both say right,
both wrong, and some disagreements of each kind; writes benchmarks/results/reasoning_gym_agreement.json.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from problems import FAMILIES, ROOT, Question, problem_line, question_of_id, questions

from rewards import parse_response, score

RESULTS = ROOT / "benchmarks" / "results" / "reasoning_gym_agreement.json"
KINDS = ("both right", "both wrong", "ours only", "theirs only")
_EXAMPLES = 3  # of each kind of disagreement, dataset and origin


def rewritten(answer: str) -> dict[str, str]:
    """The reference in other words, by the name of the change. Whether it still is right is for the verifiers to say."""
    changes = {
        "padded": f"  {answer} ",
        "upper case": answer.upper(),
        "full stop": f"{answer}.",
        "sentence": f"The answer is {answer}",
        "twice": f"{answer} {answer}",
        "two answers": f"{answer} or 7",
    }
    if answer.lstrip("-").isdigit():
        changes |= {"decimal": f"{answer}.0", "leading zero": f"0{answer}", "plus one": str(int(answer) + 1)}
    if ", " in answer:
        changes |= {"no spaces": answer.replace(", ", ","), "reversed": ", ".join(reversed(answer.split(", ")))}
    return changes


def verdicts(question: Question, answer: str) -> tuple[bool | None, bool]:
    """(our verdict, whether reasoning-gym gives its full score) of the text of an answer box; ours None where it abstains."""
    import reasoning_gym

    line = problem_line(question)
    response = f"<think></think>\n<|begin_of_box|>{answer}<|end_of_box|>"
    args = line.get("verifier_args", {})
    ours = score(response, line["answer"], domain=line["verifier"], question=question.text, args=args)
    theirs = reasoning_gym.get_score_answer_fn(question.family.dataset)(answer, dict(question.entry))
    return ours.correct, float(theirs) >= 1.0


def sampled(path: Path, seed: int) -> Iterator[tuple[Question, str]]:
    """Question and boxed answer of each response in an evaluation's `responses.parquet`; those without one box are left out."""
    known: dict[str, Question] = {}
    for row in pq.read_table(path, columns=["id", "response"]).to_pylist():
        question = known.setdefault(row["id"], question_of_id(row["id"], seed))
        boxed = parse_response(row["response"]).boxed
        if boxed is not None:
            yield question, boxed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=Path, help="parquet file of an evaluation on problems of problems.py")
    parser.add_argument("--each", type=int, default=5, help="problems of each level")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    cells = [
        list(questions(family, level, 4 * options.each, options.seed, set()))[: options.each]
        for family in FAMILIES
        for level in range(1, len(family.levels) + 1)
    ]
    pairs: list[tuple[str, Question, str]] = []
    for cell in cells:
        for question in cell:
            pairs.append(("reference", question, question.answer))
            pairs += [(name, question, text) for name, text in rewritten(question.answer).items()]
            pairs.append(("task repeated", question, question.text.split(":")[-1].strip(" =")))
            pairs += [("another's reference", question, other.answer) for other in cell if other.answer != question.answer]
    if options.responses:
        pairs += [("sampled", question, text) for question, text in sampled(options.responses, options.seed)]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    shown: dict[str, list[dict[str, str]]] = {}
    for origin, question, answer in pairs:
        ours, theirs = verdicts(question, answer)
        kind = "abstained" if ours is None else KINDS[(0 if theirs else 2) if ours else (3 if theirs else 1)]
        for key in (origin, f"all/{question.family.dataset}"):
            counts[key][kind] += 1
        if kind not in KINDS[:2]:
            rows = shown.setdefault(f"{question.family.dataset}, {origin}: {kind}", [])
            if len(rows) < _EXAMPLES:
                rows.append({"answer": answer, "reference": question.answer})
    for key, found in counts.items():
        print(f"{key:28s}", "  ".join(f"{kind} {found[kind]}" for kind in (*KINDS, "abstained") if found[kind]))
    for key, rows in shown.items():
        print(f"{key}: ", "; ".join(f"{row['answer']!r} for {row['reference']!r}" for row in rows))
    report = {"pairs": len(pairs), "counts": {key: dict(found) for key, found in counts.items()}, "disagreements": shown}
    RESULTS.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
