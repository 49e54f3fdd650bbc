"""Writes procedural problems as JSON Lines and PNG: training and held-out problems for RL, reference conversations for SFT.

Training and held-out files never share content: every sample falls on one side by a hash of its reasoning and answer (the
expression of math, the string of ocr, the target and its place of gui), whatever its seed and however it is rendered.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from rlcs.tasks.base import Family, Sample
from rlcs.tasks.families import FAMILIES

HELD_OUT_SHARE = 0.25  # of the content space; the rest is for training
_ATTEMPTS = 200  # draws per wanted sample before a level is called exhausted


def is_held_out(sample: Sample) -> bool:
    """Whether this content belongs to the held-out side; a function of the content alone."""
    digest = hashlib.sha256(f"{sample.think}\n{sample.boxed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64


def draw_distinct(family: Family, level: int, count: int, *, held_out: bool, rng: np.random.Generator) -> list[Sample]:
    """`count` samples of one level on one side of the split, no two with the same question, answer and pixels.

    Raises ValueError when the level has too few distinct samples.
    """
    found: dict[bytes, Sample] = {}
    for _ in range(_ATTEMPTS * count):
        if len(found) == count:
            break
        sample = family.generate(rng, level)
        if is_held_out(sample) == held_out:
            pixels = sample.image.tobytes() if sample.image is not None else b""
            found.setdefault(f"{sample.question}\n{sample.boxed}\n".encode() + pixels, sample)
    if len(found) < count:
        side = "held-out" if held_out else "training"
        raise ValueError(
            f"{family.domain} level {level}: found {len(found)} distinct {side} problems, {count} were asked for; ask for fewer"
        )
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
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, int]:
    """Writes problems (`train.jsonl`, `heldout.jsonl`), examples (`sft.jsonl`, `sft_heldout.jsonl`) and `images/` in `out`.

    Counts are per domain and are spread evenly over its levels. Every draw comes from (seed, file, domain, level), so that a
    file does not change with the sizes of the others. Nothing appears in `out` before all is written.

    Returns lines written by file name. Raises FileExistsError for an existing `out`, ValueError for an unknown domain or level.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; delete it or name another directory")
    families = [_family(domain) for domain in domains or FAMILIES]
    files = {"train": train, "heldout": heldout, "sft": sft, "sft_heldout": sft_heldout}
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)
    for serial, (name, count) in enumerate(files.items()):
        with (partial / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            jobs = [(family, level, share) for family in families for level, share in _shares(family, levels, count)]
            for family, level, share in track(jobs, f"{name}.jsonl", console=console or Console()):
                rng = np.random.default_rng([seed, serial, list(FAMILIES).index(family.domain), level])
                samples = draw_distinct(family, level, share, held_out=name.endswith("heldout"), rng=rng)
                for place, sample in enumerate(samples):
                    line = _line(sample, family.domain, level, f"{name}-{family.domain}-{level}-{place:04d}", partial)
                    if name.startswith("sft"):
                        line = _as_example(line, sample)
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    partial.rename(out)
    return {f"{name}.jsonl": count * len(families) for name, count in files.items()}


def _family(domain: str) -> Family:
    if domain not in FAMILIES:
        raise ValueError(f"unknown domain {domain!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[domain]


def _shares(family: Family, levels: Sequence[int] | None, count: int) -> Iterator[tuple[int, int]]:
    """(level, samples) with `count` spread evenly; the first levels take what is left over."""
    wanted = list(levels or range(1, family.levels + 1))
    for place, level in enumerate(wanted):
        yield level, count // len(wanted) + (place < count % len(wanted))


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


def _as_example(line: dict[str, Any], sample: Sample) -> dict[str, Any]:
    """The SFT example that answers a problem with its reference response."""
    answer = {"role": "assistant", "content": sample.response}
    return {"id": line["id"], "domain": line["domain"], "messages": [*line["messages"], answer]}
