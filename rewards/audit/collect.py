"""Which probes an audit sends: the cheats of every family for every exemplar, and exemplars read from a user's file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards import registry
from rewards.api import check_reference, response_with
from rewards.audit import place_cheats, structure_cheats, text_cheats
from rewards.audit.bounds import bound
from rewards.audit.exemplars import EXEMPLARS
from rewards.audit.probes import RIGHT, Cheat, Exemplar, Probe, right_of

MAX_EXPENSIVE = 2
"""Exemplars of a verifier that are probed with expensive answers: what is slow does not depend on the reference much."""
_PROGRAMS = ("wrong answer", "empty", "program", "execution", "judge injection", "assertion")
"""Families that are tried on a verifier that runs programs: each probe starts processes."""
_WRONG = ("17.25", "no such thing", "并非如此")
"""Wrong answers for references that come without: of a number, a word, a Chinese text."""


def exemplars(names: Sequence[str], extra: Sequence[Exemplar] = ()) -> list[Exemplar]:
    """The exemplars of the verifiers called `names`, built in and extra. Raises ValueError for a verifier without any."""
    found = [item for item in (*EXEMPLARS, *extra) if item.verifier in names]
    missing = sorted(set(names) - {item.verifier for item in found})
    if missing:
        raise ValueError(
            f"no references to audit verifier {missing[0]!r} with; give a file of rows with domain, answer and verifier by "
            "--references, or name the verifiers to audit by --verifier"
        )
    return found


def probes(found: Sequence[Exemplar]) -> list[Probe]:
    """All probes for these exemplars."""
    seen: dict[str, int] = {}
    made: list[Probe] = []
    for exemplar in found:
        turn = seen[exemplar.verifier] = seen.get(exemplar.verifier, 0) + 1
        entry = registry.find(exemplar.domain or exemplar.verifier, exemplar.verifier)
        made.append(Probe(RIGHT, exemplar, response_with(exemplar.right, entry), 1.0))
        for cheat in _cheats(exemplar, turn):
            response = cheat.text if cheat.whole else response_with(cheat.text, entry)
            limit = cheat.at_most if cheat.whole else max(cheat.at_most, bound(exemplar, cheat.text))
            made.append(Probe(cheat.family, exemplar, response, limit))
    return made


def _cheats(found: Exemplar, turn: int) -> Iterator[Cheat]:
    own = (module.CHEATS.get(found.verifier) for module in (place_cheats, structure_cheats))
    every = [*text_cheats.answers(found), *(cheat for cheats in own if cheats is not None for cheat in cheats(found))]
    if found.verifier == "code":
        every = [cheat for cheat in every if cheat.family in (_PROGRAMS if turn == 1 else ("wrong answer", "program"))]
    if turn <= MAX_EXPENSIVE and found.verifier != "code":
        every += text_cheats.expensive()
    taken = {found.right.strip()}
    for cheat in every:
        if cheat.text.strip() not in taken:
            taken.add(cheat.text.strip())
            yield cheat
    if found.verifier != "code" or turn == 1:
        yield from text_cheats.responses(found)


def read_exemplars(path: Path) -> list[Exemplar]:
    """The exemplars of a JSON Lines file: rows of a problem file, or of `rlcs score`, perhaps with `right`, `wrong`, `at_most`.

    Raises ValueError naming line and mend for a row that cannot be used, also where the verifier refuses the reference.
    """
    found = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    found.append(_read(json.loads(line)))
                except (ValueError, TypeError, KeyError) as error:
                    problem = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
                    raise ValueError(f"{path}, line {number}: {problem}; correct or remove the line") from error
    if not found:
        raise ValueError(f"{path}: no rows; expected one JSON object a line, with domain and answer")
    return found


def _read(row: Any) -> Exemplar:
    if not isinstance(row, Mapping):
        raise ValueError("expected a JSON object with domain and answer")
    reference, domain, args = row["answer"], row["domain"], row.get("verifier_args") or {}
    entry = registry.find(domain, row.get("verifier"))
    reason = check_reference(reference, domain=domain, verifier=entry.name, args=args)
    if reason is not None and not reason.startswith(("no-judge", "judge-")):
        raise ValueError(f"verifier {entry.name!r} does not accept the reference ({reason})")
    wrong = row.get("wrong") or _wrong_for(row.get("right") or right_of(reference))
    return Exemplar(
        entry.name,
        reference,
        row.get("right") or right_of(reference),
        (wrong,) if isinstance(wrong, str) else tuple(map(str, wrong)),
        row.get("question"),
        args,
        float(row.get("at_most", 0.0)),
        domain,
    )


def _wrong_for(right: str) -> tuple[str, ...]:
    """A wrong answer of the right one's kind."""
    number, word, chinese = _WRONG
    if any("\u3400" <= char <= "\u9fff" for char in right):
        return (chinese,)
    return (word,) if any(char.isalpha() for char in right) else (number,)
