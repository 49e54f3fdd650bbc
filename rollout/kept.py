"""What autograd keeps of a call for its backward pass, held as rows of tensors that are there anyway."""

import torch


class KeptRows:
    """Within `hooks()`, operations keep their tensors here. Those said to be copies of rows (`are_rows`) are let go and
    gathered again in the backward pass: the same values, so the same gradients bit for bit.

    Not inside activation checkpointing, which is of the same hooks, and of which only the innermost apply.
    """

    def __init__(self) -> None:
        self._kept: list[_Kept] = []

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        """For a `with` around the operations."""
        return torch.autograd.graph.saved_tensors_hooks(self._keep, _Kept.get)

    def are_rows(self, copy: torch.Tensor, source: torch.Tensor, rows: torch.Tensor) -> None:
        """`copy` is `gathered(source, rows)`, but for rows that no gradient comes from."""
        for kept in self._kept:
            if kept.rows is None and _same(kept.tensor, copy):
                kept.tensor, kept.rows = source.detach(), rows

    def _keep(self, tensor: torch.Tensor) -> "_Kept":
        self._kept.append(_Kept(tensor))
        return self._kept[-1]


class _Kept:
    """A tensor, or the rows of it that are meant."""

    __slots__ = ("rows", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.rows: torch.Tensor | None = None

    def get(self) -> torch.Tensor:
        return self.tensor if self.rows is None else gathered(self.tensor, self.rows)


def gathered(source: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """[T, heads, head_dim], int64 [B, L] -> [B, heads, L, head_dim], as attention takes it."""
    return source.index_select(0, rows.flatten()).unflatten(0, rows.shape).transpose(1, 2)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()
