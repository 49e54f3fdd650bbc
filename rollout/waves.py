"""Waves: which completions are decoded together, and their halves where memory does not hold them all.

Axis suffix: W sequences of a wave, in the order of its members.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Part:
    """A wave, or a stretch of one: `members` are (prompt, completions) in order, `first` the place of the first of its
    sequences among the wave's `width`.

    Every sequence of a wave has its own number in each step's draw, whoever else is decoded with it.
    """

    members: tuple[tuple[int, int], ...]
    first: int
    width: int

    @property
    def size(self) -> int:
        """Sequences of the part."""
        return sum(count for _, count in self.members)

    def uniforms(self, generator: torch.Generator) -> torch.Tensor:
        """The numbers (float64 in [0, 1)) of its sequences in the wave's next draw."""
        drawn_W = torch.rand(self.width, generator=generator, dtype=torch.float64, device=generator.device)
        return drawn_W[self.first : self.first + self.size]

    def halves(self) -> tuple["Part", "Part"]:
        """Its first and second half, by prompts, or by completions where it is one prompt's."""
        if len(self.members) > 1:
            cut = len(self.members) // 2
            left, right = self.members[:cut], self.members[cut:]
        else:
            ((prompt, count),) = self.members
            left, right = ((prompt, count // 2),), ((prompt, count - count // 2),)
        middle = self.first + sum(count for _, count in left)
        return Part(left, self.first, self.width), Part(right, middle, self.width)


def waves(lengths: Sequence[int], n: int, max_batch: int) -> list[Part]:
    """Splits n completions of every prompt into waves of at most `max_batch` sequences.

    Prompts go in order of length, so that a wave's prompts pad little; the longest first, so that memory runs out early
    or never.
    """
    planned: list[list[tuple[int, int]]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        left = n
        while left:
            if room == 0 or (room < left <= max_batch):
                planned.append([])
                room = max_batch
            count = min(left, room)
            planned[-1].append((index, count))
            room, left = room - count, left - count
    return [Part(tuple(wave), 0, sum(count for _, count in wave)) for wave in planned]
