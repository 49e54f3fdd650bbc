"""A response's tokens with their log-probabilities, as text: ids decoded by the tokenizer of the run's checkpoint."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

MOST_TOKENS = 40_000


def token_rows(
    columns: Mapping[str, Any], spans: Sequence[Mapping[str, str]], tokenizer: Path | None
) -> tuple[list[dict[str, Any]] | None, str | None]:
    """(tokens, None), or (None, why there are none). `columns`: of the rollout's row, None where its file lacks them."""
    ids, logprobs, forced = (columns.get(name) for name in ("token_ids", "token_logprobs", "token_forced"))
    if ids is None:
        return None, "the run keeps no tokens (log_tokens: false, or written by an earlier version)"
    if tokenizer is None:
        return None, "no tokenizer.json in the run's checkpoints or its model"
    if len(ids) > MOST_TOKENS:
        return None, f"{len(ids)} tokens; shown are at most {MOST_TOKENS}"
    try:
        status = tokenizer.stat()
        texts = _decoded(str(tokenizer), status.st_mtime_ns, tuple(ids))
    except (OSError, ValueError, OverflowError) as error:
        return None, f"{tokenizer} cannot be used ({error})"
    response = "".join(span["text"] for span in spans)
    start = _start(texts, response)
    kinds = _kinds(texts, spans, start)
    rows: list[dict[str, Any]] = []
    if start:  # what the prompt had begun with, as `<think></think>` without thinking
        rows.append({"text": response[:start], "logprob": None, "forced": True, "kind": spans[0]["kind"]})
    for place, text in enumerate(texts):
        logprob = logprobs[place] if logprobs is not None and place < len(logprobs) else None
        known = logprob is not None and logprob == logprob
        rows.append(
            {
                "text": text,
                "logprob": float(f"{logprob:.5g}") if known else None,
                "forced": bool(forced[place]) if forced is not None and place < len(forced) else False,
                "kind": kinds[place],
            }
        )
    return rows, None


@lru_cache(maxsize=4)
def _tokenizer(path: str, stamp: int) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(path)
    except Exception as error:
        raise ValueError(str(error)) from error


@lru_cache(maxsize=64)
def _decoded(path: str, stamp: int, ids: tuple[int, ...]) -> tuple[str, ...]:
    """Text of each token; those that end within a character leave it to the token that completes it."""
    from tokenizers.decoders import DecodeStream

    tokenizer = _tokenizer(path, stamp)
    stream, texts = DecodeStream(skip_special_tokens=False), []
    for one in ids:
        try:
            texts.append(stream.step(tokenizer, one) or "")
        except Exception:  # noqa: BLE001  an id beyond the vocabulary, or bytes that are no text: begin anew after it
            stream = DecodeStream(skip_special_tokens=False)
            texts.append("\ufffd")
    return tuple(texts)


def _start(texts: Sequence[str], response: str) -> int:
    """Where in the response its first token begins; the last token may be one that ends the turn and is no text of it."""
    joined = "".join(texts)
    for tail in (joined, joined[: len(joined) - len(texts[-1])] if texts else ""):
        if tail and response.endswith(tail):
            return len(response) - len(tail)
    return 0


def _kinds(texts: Sequence[str], spans: Sequence[Mapping[str, str]], at: int) -> list[str | None]:
    """The kind of span that each token begins in, the first at `at`; None past the response's end."""
    ends, total = [], 0
    for span in spans:
        total += len(span["text"])
        ends.append((total, span["kind"]))
    kinds: list[str | None] = []
    place = 0
    for text in texts:
        while place < len(ends) and ends[place][0] <= at:
            place += 1
        kinds.append(ends[place][1] if place < len(ends) else None)
        at += len(text)
    return kinds
