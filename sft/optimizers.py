"""The optimisers of SFT and RL: AdamW, with float32 copies of half-precision weights, and AdamW with 8-bit moments."""

import importlib.util
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import torch

OptimizerKind = Literal["adamw", "adamw_8bit"]
Group = dict[str, Any]
"""Parameters ("params", a list) and what is set for them, such as "weight_decay"."""


class OptimizerConfig(Protocol):
    """What an optimiser needs of a configuration."""

    optimizer: OptimizerKind
    lr: float
    betas: tuple[float, float]


def build_optimizer(groups: Sequence[Group], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of these groups (empty ones are left out); float32 copies are kept of parameters in half precision.

    Raises ModuleNotFoundError where 8-bit moments are asked for and torchao is missing.
    """
    groups = [group for group in groups if group["params"]]
    halves = {torch.float16, torch.bfloat16}
    if any(parameter.dtype in halves for group in groups for parameter in group["params"]):
        copied = [{**group, "params": [_master(parameter) for parameter in group["params"]]} for group in groups]
        return MasterWeights(_build(copied, config), groups)
    return _build(groups, config)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Of all groups."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # torchao's: a number that its compiled step reads anew
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def require_optimizer(kind: OptimizerKind) -> None:
    """Raises ModuleNotFoundError naming the extra to install where the optimiser's library is missing. Call it before a
    checkpoint is read too: the library says how its moments are unpacked.
    """
    if kind != "adamw_8bit":
        return
    if importlib.util.find_spec("torchao") is None:
        raise ModuleNotFoundError("torchao is missing; install rlcs[optimizers], or set optimizer: adamw")
    import torchao.optim  # noqa: F401


class MasterWeights(torch.optim.Optimizer):
    """Updates parameters in half precision through float32 copies of them (Micikevicius et al., arXiv 1710.03740, section 3.1).

    bfloat16 keeps 8 bits: a step below 1/256 of a weight rounds to nothing, and with the rates of fine-tuning nearly all are.
    Here steps add up in the copies, the moments are float32 as well, and the parameters are the copies rounded. Gradients of
    the parameters are taken over, and let go, by `step`. It is the optimiser `inner` of the copies in all else.
    """

    def __init__(self, inner: torch.optim.Optimizer, groups: Sequence[Group]) -> None:  # Optimizer's own is for owners of state
        self.inner = inner
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._masters = [master for group in inner.param_groups for master in group["params"]]

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.inner.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.inner.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.inner.defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self._parameters:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; the gradients of the parameters are None afterwards."""
        if closure is not None:
            raise ValueError("a closure cannot be evaluated at copies of the parameters; compute the gradients before")
        for parameter, master in zip(self._parameters, self._masters, strict=True):
            if parameter is not master:
                master.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
        self.inner.step()
        for parameter, master in zip(self._parameters, self._masters, strict=True):
            if parameter is not master:
                parameter.copy_(master)
                master.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {**self.inner.state_dict(), "masters": [master.detach() for master in self._masters]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copies and moments. Raises ValueError for a state without copies, of a run in another dtype."""
        if "masters" not in state_dict:
            raise ValueError(
                "the saved optimiser has no float32 copies: that run was in float32; resume with dtype: float32, or start a "
                "new run with this checkpoint as its model"
            )
        self.inner.load_state_dict({name: value for name, value in state_dict.items() if name != "masters"})
        with torch.no_grad():
            for master, saved in zip(self._masters, state_dict["masters"], strict=True):
                master.copy_(saved)


def _master(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """A float32 copy; of a float32 parameter itself."""
    return parameter if parameter.dtype == torch.float32 else torch.nn.Parameter(parameter.detach().float())


def _build(groups: list[Group], config: OptimizerConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        # One pass over weights, gradients and moments instead of a dozen, and no tensor beside them.
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    return _eight_bit()(groups, lr=config.lr, betas=config.betas)


def _eight_bit() -> Any:
    require_optimizer("adamw_8bit")
    from torchao.optim import AdamW8bit

    class EightBit(AdamW8bit):
        """torchao's, which compiles its step; on the CPU it runs as written: compiling takes longer than it saves there."""

        def step(self, closure: Any = None) -> Any:
            on_cpu = not any(parameter.is_cuda for group in self.param_groups for parameter in group["params"])
            with torch.compiler.set_stance("force_eager") if on_cpu else nullcontext():
                return super().step(closure)

    return EightBit
