"""What a trainer's passes come to: operations, waste, utilisation."""

import threading

from transformers import PreTrainedModel

from rollout.forward import PackedInputs
from sft.flops import ModelFlops, PackWork, padded_pairs
from sft.machine_peak import matmul_peak


class Meter:
    """Adds up the packs that `model` is trained on, in any thread; `metrics` tells of those since it was last asked."""

    def __init__(self, model: PreTrainedModel, token_budget: int) -> None:
        self._model, self._lock = model, threading.Lock()
        self.token_budget = token_budget
        self._flops = ModelFlops.of(model)
        vision = getattr(model.config, "vision_config", None)
        self._merge_area = getattr(vision, "spatial_merge_size", 2) ** 2
        self.clear()

    def clear(self) -> None:
        """Forgets what it has added up."""
        self._work, self._passes, self._room, self._padding = PackWork(), 0, 0, 0

    def add(self, packed: PackedInputs, rows: int) -> None:
        """Notes a forward and backward pass over the pack, of which `rows` hidden states went through the head."""
        work = PackWork.of(packed, rows, merge_area=self._merge_area)
        padding = padded_pairs(packed) - work.pairs
        with self._lock:
            self._work += work
            self._passes += 1
            self._room += max(self.token_budget, work.tokens)  # a sequence longer than the budget has a pack of its own
            self._padding += padding

    def metrics(self, seconds: float) -> dict[str, float]:
        """Of the passes made in these `seconds`: their number `passes`; `flops`; `mfu`, their share of what the machine could
        have multiplied; `padding_fraction`, the share of all operations that padding takes, which only attention has;
        `unfilled_fraction` of their token budgets. Empty without a pass.
        """
        if not self._passes:
            return {}
        flops, padding = self._flops.count(self._work), self._padding * self._flops.pair
        found = {
            "passes": float(self._passes),
            "flops": float(flops),
            "mfu": flops / max(seconds, 1e-9) / matmul_peak(self._model.device, self._model.dtype),
            "padding_fraction": padding / (flops + padding),
            "unfilled_fraction": 1.0 - self._work.tokens / self._room,
        }
        self.clear()
        return found
