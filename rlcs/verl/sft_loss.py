"""The loss of SFT inside verl, filed by domain and mode as `sft.train` files it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDict
from verl.workers.utils.losses import sft_loss

from sft.tally import Tally

FILED = "filed"
"""Field [B, 2] of a batch: the place of each example's domain among those of the loss, and whether it is in `/nothink` form."""


class TalliedLoss:
    """verl's own loss (`set_loss_fn`), which keeps what each example had part in it. `domains`: names in the order of their
    places.
    """

    def __init__(self, domains: Sequence[str]) -> None:
        self._domains = list(domains)
        self._tally = Tally()

    def __call__(
        self, model_output: Mapping[str, torch.Tensor], data: TensorDict, dp_group: Any = None
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        found: tuple[torch.Tensor, dict[str, Any]] = sft_loss(None, model_output, data)
        mask = data["loss_mask"]
        lengths_B = mask.offsets().diff()
        # An output stands at the token before the one it is of; the first token of an example has no loss.
        targets_T = torch.roll(mask.values(), -1)
        row_T = torch.repeat_interleave(torch.arange(len(lengths_B), device=mask.device), lengths_B)
        sums_2B = torch.zeros(2, len(lengths_B), dtype=torch.float64, device=mask.device)
        sums_2B[0].index_add_(0, row_T, -(model_output["log_probs"].values().detach() * targets_T).double())
        sums_2B[1].index_add_(0, row_T, targets_T.double())
        for (domain, nothink), loss, tokens in zip(data[FILED].unbind(), *sums_2B.tolist(), strict=True):
            self._tally.add(self._domains[int(domain)], nothink=bool(nothink), loss=loss, tokens=int(tokens))
        return found

    def take(self, group: Any) -> Tally:
        """What has come together since the last call, on all ranks of the process group; all of them call this."""
        found: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(found, self._tally, group=group)
        self._tally, together = Tally(), Tally()
        for one in found:
            together += one
        return together
