"""Verifiable rewards: pure Python, no torch. `score` one response, `ScorePool` many; see docs/rewards.md."""

from rewards.api import check_reference, known_domains, known_verifiers, score, score_batch
from rewards.explanation import Explanation, explain
from rewards.format import ParsedResponse, parse_response
from rewards.pool import ScorePool
from rewards.verdict import Verdict

__all__ = [
    "Explanation",
    "ParsedResponse",
    "ScorePool",
    "Verdict",
    "check_reference",
    "explain",
    "known_domains",
    "known_verifiers",
    "parse_response",
    "score",
    "score_batch",
]
