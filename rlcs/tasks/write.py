"""Writes procedural problems as JSON Lines and PNG: training and held-out problems for RL, reference conversations for SFT.

Training and held-out files never share content: every sample falls on one side by a hash of its content (the
expression of math, the string of ocr, the target and its place of gui), whatever its seed and however it is rendered.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from rlcs.tasks.base import Family, Sample, Working, check_level
from rlcs.tasks.families import FAMILIES

HELD_OUT_SHARE = 0.25  # of the content space; the rest is for training
_PATIENCE = 20  # draws without a new sample, for each one found, after which a level is called exhausted
_LEAST_DRAWS = 2000


def is_held_out(sample: Sample) -> bool:
    """Whether this content belongs to the held-out side; a function of the content alone."""
    digest = hashlib.sha256(sample.content.encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64


def draw_distinct(family: Family, level: int, count: int, *, held_out: bool, rng: np.random.Generator) -> list[Sample]:
    """`count` samples of one level on one side of the split, no two with the same question, answer and pixels.

    There are fewer when the level has no more: some have few contents (one-digit sums).
    """
    found: dict[bytes, Sample] = {}
    misses = 0
    while len(found) < count and misses < max(_LEAST_DRAWS, _PATIENCE * len(found)):
        sample = family.generate(rng, level)
        misses += 1
        if is_held_out(sample) == held_out:
            pixels = sample.image.tobytes() if sample.image is not None else b""
            key = f"{sample.question}\n{sample.boxed}\n".encode() + pixels
            if key not in found:
                found[key], misses = sample, 0
    return list(found.values())


def write_tasks(
    out: Path,
    *,
    domains: Sequence[str] | None = None,
    levels: Sequence[int] | None = None,
    train: int = 1000,
    heldout: int = 300,
    sft: int = 1000,
    sft_heldout: int = 100,
    sft_level_ratio: float = 1.0,
    sft_quick_share: float = 0.0,
    sft_answer_share: float = 0.0,
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, int]:
    """Writes problems (`train.jsonl`, `heldout.jsonl`), examples (`sft.jsonl`, `sft_heldout.jsonl`) and `images/` in `out`.

    Counts are per domain and are spread evenly over its levels; what a level has too few distinct samples for comes from the
    next. Every draw comes from (seed, file, domain, level), so that a file does not change with the sizes of the others.
    `sft_level_ratio` below 1 gives each level of the SFT files that many examples for each of the level before: a cold start
    of mostly easy examples, that knows every form of answer and leaves the hard levels to RL.
    `sft_quick_share` of the SFT examples answer after a quick thought without any working, and `sft_answer_share` do not think
    and show the working in the answer part; the others work in the thought. So the policy knows more than one way of
    answering in either mode, and RL can find out which pays.
    Nothing appears in `out` before all is written, and nothing is left behind on failure.

    Returns lines written by file name. Raises FileExistsError for an existing `out`, ValueError for an unknown domain or level,
    a negative count, and when the last level has too few distinct samples.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; delete it or name another directory")
    console = console or Console()
    families = [_family(domain) for domain in dict.fromkeys(domains or FAMILIES)]
    counts = {"train": train, "heldout": heldout, "sft": sft, "sft_heldout": sft_heldout}
    if not 0 < sft_level_ratio <= 1:
        raise ValueError(f"sft_level_ratio is {sft_level_ratio}; expected a number above 0 and at most 1")
    if not 0 <= sft_quick_share <= 1:
        raise ValueError(f"sft_quick_share is {sft_quick_share}; expected a number from 0 to 1")
    if not 0 <= sft_answer_share <= 1 - sft_quick_share:
        raise ValueError(f"sft_answer_share is {sft_answer_share}; expected from 0 to what sft_quick_share leaves of 1")
    ratios = {"train": 1.0, "heldout": 1.0, "sft": sft_level_ratio, "sft_heldout": sft_level_ratio}
    shares = {
        name: [_shares(family, levels, name, count, ratios[name]) for family in families] for name, count in counts.items()
    }
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "images").mkdir(parents=True)
        for serial, name in enumerate(counts):
            with (partial / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                jobs = [job for of_family in shares[name] for job in of_family]
                missing = 0
                for family, level, share in track(jobs, f"{name}.jsonl", console=console):
                    source = [seed, serial, list(FAMILIES).index(family.domain), level]
                    rng, style_rng = np.random.default_rng(source), np.random.default_rng([*source, 1])
                    wanted = share + missing
                    samples = draw_distinct(family, level, wanted, held_out=name.endswith("heldout"), rng=rng)
                    missing = wanted - len(samples)
                    for place, sample in enumerate(samples):
                        line = _line(sample, family.domain, level, f"{name}-{family.domain}-{level}-{place:04d}", partial)
                        if name.startswith("sft"):
                            working = _draw_working(style_rng, sft_quick_share, sft_answer_share)
                            line = _as_example(line, sample, working)
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    if missing:
                        _report_shortage(name, family, level, len(samples), missing, jobs, console)
                file.flush()
                os.fsync(file.fileno())
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return {f"{name}.jsonl": count * len(families) for name, count in counts.items()}


def _report_shortage(
    name: str, family: Family, level: int, found: int, missing: int, jobs: Sequence[tuple[Family, int, int]], console: Console
) -> None:
    """Says that the next level makes up for what is missing. Raises ValueError when there is none."""
    side = "held-out" if name.endswith("heldout") else "training"
    what = f"{name}.jsonl: {family.domain} level {level} has no more than {found} distinct {side} problems"
    later = [other for of, other, _ in jobs if of is family]
    if level == later[-1]:
        raise ValueError(f"{what}, {missing} more were asked for; ask for fewer, or for more levels")
    console.print(f"{what}; {missing} more come from level {later[later.index(level) + 1]}", highlight=False, soft_wrap=True)


def _family(domain: str) -> Family:
    if domain not in FAMILIES:
        raise ValueError(f"unknown domain {domain!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[domain]


def _shares(family: Family, levels: Sequence[int] | None, name: str, count: int, ratio: float) -> list[tuple[Family, int, int]]:
    """(family, level, samples) with `count` spread so that each level has `ratio` of the one before; the first levels take
    what is left over.
    """
    if count < 0:
        raise ValueError(f"{name} is {count}; expected 0 or more problems of each domain")
    wanted = sorted(set(levels or range(1, family.levels + 1)))
    for level in wanted:
        check_level(family, level)
    weights = [ratio**place for place in range(len(wanted))]
    shares = [int(count * weight / sum(weights)) for weight in weights]
    left = count - sum(shares)
    return [(family, level, share + (place < left)) for place, (level, share) in enumerate(zip(wanted, shares, strict=True))]


def _line(sample: Sample, domain: str, level: int, name: str, root: Path) -> dict[str, Any]:
    """One problem of the schema in docs/data.md; its image, if any, is written under `root`."""
    content: str | list[dict[str, str]] = sample.question
    if sample.image is not None:
        image = f"images/{name}.png"
        sample.image.save(root / image, compress_level=1)
        content = [{"type": "image", "image": image}, {"type": "text", "text": sample.question}]
    line = {"id": name, "domain": domain, "messages": [{"role": "user", "content": content}], "answer": sample.answer}
    if sample.verifier_args:
        line["verifier_args"] = sample.verifier_args
    return line | {"tier": f"level-{level}", "source": "rlcs tasks"}


def _draw_working(rng: np.random.Generator, quick_share: float, answer_share: float) -> Working:
    place = rng.random()
    if place < quick_share:
        return Working.NONE
    return Working.ANSWER if place < quick_share + answer_share else Working.THOUGHT


def _as_example(line: dict[str, Any], sample: Sample, working: Working) -> dict[str, Any]:
    """The SFT example that answers a problem rightly, with its working where `working` says."""
    answer = {"role": "assistant", "content": sample.response(working)}
    return {"id": line["id"], "domain": line["domain"], "messages": [*line["messages"], answer], "tier": line["tier"]}
