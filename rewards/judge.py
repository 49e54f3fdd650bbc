"""A model as the judge of what rules cannot tell: off unless configured, one parsed word, a majority, else an abstention.

`equivalent` asks whether an answer means what a reference means; `rate` asks for 1..5. Both raise Abstain.
Source: GLM-4.5V report, arXiv 2507.01006, table 1 (exact match, then a judge).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.judge_cache import process_cache
from rewards.judge_client import MODEL_VARIABLE, URL_VARIABLE, Limits, Reply, complete, endpoint, split_list
from rewards.judge_prompt import RATINGS, YES_NO, equivalence_messages, rating_messages
from rewards.registry import Abstain, Context

_log = logging.getLogger(__name__)

MAX_DEADLINE_S = 100.0
ITEM_TIMEOUT_S = 120.0
"""A pool's time limit for one item that may ask a judge: above any deadline, so that the judge's own reason is reported."""


@dataclass(frozen=True)
class JudgeArgs:
    """Arguments of every verifier that may ask a judge. Without `url` (or RLCS_JUDGE_URL) no judge is asked."""

    url: str | tuple[str, ...] | None = None
    """Base URL of the OpenAI-compatible server, or one for each model; default: RLCS_JUDGE_URL."""
    model: str | tuple[str, ...] | None = None
    """Name of the model, or several that vote; default: RLCS_JUDGE_MODEL."""
    seeds: tuple[int, ...] = (0,)
    """Sampling seeds; each model votes once for each."""
    temperature: float = 0.0
    """Sampling temperature; above 0 the seeds make a difference."""
    max_tokens: int = 1
    """Tokens of the verdict; more than 1 for tokenizers that split "yes" or begin with a line break."""
    rubric: str | None = None
    """What counts as right, in words, shown to the judge."""
    max_chars: int = 6000
    """Characters of the answer shown to the judge: half from its head, half from its tail."""
    confidence: float = 0.0
    """Abstain when the judge gives its own verdict less probability than this; above 0 asks for log-probabilities."""
    constrained: bool = False
    """Let a vLLM server generate nothing but a verdict (its `structured_outputs`)."""
    thinking: bool = True
    """False tells the chat template of a hybrid model not to think (`enable_thinking`, vLLM and SGLang)."""
    timeout_s: float = 20.0
    """Seconds one request may take."""
    deadline_s: float = 60.0
    """Seconds all requests for one answer may take together, at most 100."""
    retries: int = 3
    """Further tries after a failure that may pass."""

    def __post_init__(self) -> None:
        for url in _several(self.url):
            endpoint(url)
        wrong = [
            name
            for name, right in (
                ("seeds", len(self.seeds) >= 1),
                ("temperature", 0.0 <= self.temperature <= 2.0),
                ("max_tokens", 1 <= self.max_tokens <= 64),
                ("max_chars", 64 <= self.max_chars <= 100_000),
                ("confidence", 0.0 <= self.confidence <= 1.0),
                ("timeout_s", 0.0 < self.timeout_s <= MAX_DEADLINE_S),
                ("deadline_s", 0.0 < self.deadline_s <= MAX_DEADLINE_S),
                ("retries", 0 <= self.retries <= 20),
            )
            if not right
        ]
        if wrong:
            raise ValueError(f"judge argument {wrong[0]!r} is {getattr(self, wrong[0])!r}, outside its range")


@dataclass(frozen=True, slots=True)
class Member:
    """One vote: a model at an address, with a seed."""

    url: str
    model: str
    seed: int


def _several(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def members(args: JudgeArgs) -> tuple[Member, ...]:
    """The judges the arguments and the environment configure.

    Raises Abstain: `no-judge` without a URL, `judge-misconfigured` (logged) for a URL without a model, a malformed URL, or
    numbers of URLs and models that do not fit.
    """
    urls = _several(args.url) or tuple(split_list(os.environ.get(URL_VARIABLE, "")))
    models = _several(args.model) or tuple(split_list(os.environ.get(MODEL_VARIABLE, "")))
    if not urls:
        raise Abstain("no-judge")
    if len(urls) == 1:
        urls *= len(models)
    try:
        if not models or len(urls) != len(models):
            raise ValueError(f"{len(urls)} judge URLs for {len(models)} models; expected one URL, or one for each model")
        pairs = [(endpoint(url), model) for url, model in zip(urls, models, strict=True)]
    except ValueError as error:
        _log.warning("the judge cannot be asked: %s", error)
        raise Abstain("judge-misconfigured") from error
    return tuple(Member(url, model, seed) for seed in args.seeds for url, model in pairs)


def configured(args: JudgeArgs) -> bool:
    """Whether a judge would be asked."""
    try:
        return bool(members(args))
    except Abstain:
        return False


def equivalent(answer: str, references: Sequence[str], context: Context) -> bool:
    """Whether more than half of the judges find that `answer` means what one of `references` means.

    Raises Abstain when no such majority is reached: `judge-tie`, or the reason of a judge that could not be heard.
    """
    args: JudgeArgs = context.args
    jury = members(args)
    messages = equivalence_messages(context.question, references, answer, args.rubric, args.max_chars)
    votes = dict.fromkeys(YES_NO, 0)
    failure: Abstain | None = None
    end = time.monotonic() + args.deadline_s
    for member in jury:
        try:
            word = _verdict(member, messages, YES_NO, args, end)
        except Abstain as error:
            failure = failure or error
            context.note("judge", f"{member.model} (seed {member.seed}): {error}")
            continue
        context.note("judge", f"{member.model} (seed {member.seed}): {word}")
        votes[word] += 1
        if 2 * votes[word] > len(jury):  # the rest cannot change it
            return word == "yes"
    raise failure or Abstain("judge-tie")


def rate(answer: str, references: Sequence[str], rubric: str | None, context: Context) -> float:
    """The median of the judges' ratings of `answer`, 1..5.

    Raises Abstain when half of the judges or more could not be heard.
    """
    args: JudgeArgs = context.args
    jury = members(args)
    messages = rating_messages(context.question, references, answer, rubric, args.max_chars)
    ratings: list[int] = []
    failure = Abstain("judge-tie")
    end = time.monotonic() + args.deadline_s
    for member in jury:
        try:
            word = _verdict(member, messages, RATINGS, args, end)
        except Abstain as error:
            failure = error
            context.note("judge", f"{member.model} (seed {member.seed}): {error}")
            continue
        context.note("judge", f"{member.model} (seed {member.seed}): {word}")
        ratings.append(int(word))
    if 2 * len(ratings) <= len(jury):
        raise failure
    ratings.sort()
    return (ratings[(len(ratings) - 1) // 2] + ratings[len(ratings) // 2]) / 2


def _verdict(member: Member, messages: list[dict[str, str]], words: tuple[str, ...], args: JudgeArgs, end: float) -> str:
    """One judge's word. Raises Abstain: those of `complete`, `judge-unparsed`, `judge-unsure`, `judge-no-logprobs`."""
    body = _body(member, messages, words, args)
    key = hashlib.sha256(json.dumps([member.url, body], sort_keys=True).encode()).hexdigest()
    cache = process_cache()
    reply = cache.get(key)
    if reply is None:
        limits = Limits(args.timeout_s, end - time.monotonic(), args.retries)
        reply = complete(member.url, body, limits)
        read_word(reply, words)  # what cannot be read is not worth keeping
        cache.put(key, reply)
    word = read_word(reply, words)
    if args.confidence > 0.0:
        if reply.probability is None:
            raise Abstain("judge-no-logprobs")
        if reply.probability < args.confidence:
            raise Abstain("judge-unsure")
    return word


def read_word(reply: Reply, words: tuple[str, ...]) -> str:
    """The verdict: the whole reply but for white space, letter case and a full stop. Raises Abstain(`judge-unparsed`)."""
    word = reply.text.strip().rstrip(".").casefold()
    if word not in words:
        raise Abstain("judge-unparsed")
    return word


def _body(member: Member, messages: list[dict[str, str]], words: tuple[str, ...], args: JudgeArgs) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": member.model,
        "messages": messages,
        "max_tokens": args.max_tokens,
        "temperature": args.temperature,
        "seed": member.seed,
        "stream": False,
    }
    if args.confidence > 0.0:
        body["logprobs"] = True
    if args.constrained:
        body["structured_outputs"] = {"choice": list(words)}
    if not args.thinking:
        body["chat_template_kwargs"] = {"enable_thinking": False}
    return body
