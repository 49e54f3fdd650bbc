"""AdamW as `rlcs sft` has it (`sft.update.trained_groups`), in the form in which verl's configuration names optimisers."""

from collections.abc import Iterable
from typing import Any

import torch


class MatrixDecayAdamW(torch.optim.AdamW):
    """Decoupled weight decay on matrices and none on vectors (norms, biases); frozen parameters are left out."""

    def __init__(self, params: Iterable[torch.nn.Parameter], *, weight_decay: float = 0.0, **settings: Any) -> None:
        trained = [parameter for parameter in params if parameter.requires_grad]
        matrices, vectors = ([one for one in trained if (one.ndim > 1) == wanted] for wanted in (True, False))
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        super().__init__([group for group in groups if group["params"]], **settings)
