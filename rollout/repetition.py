"""Ending a response that repeats itself, for a batch of sequences decoded in step and for one response.

A response is in a loop when its last `tokens` tokens are one span of at most a quarter of them, over and over: each
equals the one a period before. One repeated token needs all `tokens` of them, a span of a quarter comes four times, so
that a row of dashes or zeros and a paragraph are measured alike. GLM-4.5V gives repetition a low reward (arXiv
2507.01006); what is gained here is the time until the length limit. Axis suffixes: B sequences, L periods.
"""

from collections import deque

import torch

_TIMES = 4  # a span comes at least so often


def longest_period(tokens: int) -> int:
    """Length of the longest span that a loop of `tokens` tokens may be made of."""
    return tokens // _TIMES


class RepetitionTracker:
    """Follows a batch of sequences; each period is checked by one comparison a token."""

    def __init__(self, sequences: int, tokens: int, device: torch.device) -> None:
        periods = longest_period(tokens)
        self._past_BL = torch.full((sequences, periods), -1, dtype=torch.int64, device=device)  # the latest token first
        self._agreed_BL = torch.zeros((sequences, periods), dtype=torch.int64, device=device)
        self._needed_L = tokens - torch.arange(1, periods + 1, device=device)

    def step(self, tokens_B: torch.Tensor) -> torch.Tensor:
        """One token of each sequence (int64 [B]) -> whether it is now in a loop, bool [B]."""
        self._agreed_BL = (self._agreed_BL + 1) * (self._past_BL == tokens_B[:, None])
        self._past_BL = torch.cat([tokens_B[:, None], self._past_BL[:, :-1]], dim=1)
        return (self._agreed_BL >= self._needed_L).any(1)

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every sequence but those at `rows` (int64 indices)."""
        self._past_BL, self._agreed_BL = self._past_BL[rows], self._agreed_BL[rows]


class ResponseRepetition:
    """The same rule for one response whose tokens come one by one. Only periods that end in the token at hand are
    looked at, the places where it stood before.
    """

    __slots__ = ("_agreed", "_length", "_places", "_tokens")

    def __init__(self, tokens: int) -> None:
        self._tokens, self._length = tokens, 0
        self._agreed: dict[int, int] = {}  # period -> tokens so far that equal the one a period before
        self._places: dict[int, deque[int]] = {}

    def push(self, token: int) -> bool:
        """Takes the next token; -> whether the response is now in a loop."""
        at, places = self._length, self._places.setdefault(token, deque())
        while places and at - places[0] > longest_period(self._tokens):
            places.popleft()
        self._agreed = {at - place: self._agreed.get(at - place, 0) + 1 for place in places}
        places.append(at)
        self._length += 1
        return any(agreed >= self._tokens - period for period, agreed in self._agreed.items())
