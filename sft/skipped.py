"""Updates left out because their loss or gradient is not a finite number: found, laid to samples, counted, ended at some point.

One bad sample must not cost a run its weights, and a run that skips for ever must not go on unnoticed.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

_MOST_NAMED = 8


class NonFiniteUpdate(FloatingPointError):
    """An update whose loss or gradient norm is NaN or infinite. The weights and the optimiser are those before it.

    `ids`: of the samples whose own loss or gradient is not finite, in their order; one that is there twice is named twice.
    """

    def __init__(self, message: str, ids: Sequence[str]) -> None:
        super().__init__(message)
        self.ids = list(ids)


def refuse_nonfinite(
    model: PreTrainedModel, loss: float, norm: float, ids: Sequence[str], backward: Callable[[int], float]
) -> None:
    """Raises NonFiniteUpdate, with the gradient dropped, unless `loss` and the gradient norm `norm` are finite.

    Which samples it comes of is found by one pass for each: `backward(index)` adds the gradient of the sample's own loss, which
    it returns. `ids` name the samples.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    broken = sum(not bool(parameter.isfinite().all()) for parameter in model.parameters())
    guilty = [] if broken else [index for index in range(len(ids)) if not _finite_alone(model, index, backward)]
    model.zero_grad(set_to_none=True)
    found = f"the loss is {loss:.4g}, the gradient norm {norm:.4g}: "
    if broken:
        found += f"{broken} weight tensors are not finite themselves"
    elif not guilty:
        found += f"each of the {len(ids)} samples is finite by itself, their sum is not"
    else:
        found += f"{len(guilty)} of {len(ids)} samples are not finite: {_named([ids[index] for index in guilty])}"
    raise NonFiniteUpdate(found, [ids[index] for index in guilty])


def _finite_alone(model: PreTrainedModel, index: int, backward: Callable[[int], float]) -> bool:
    model.zero_grad(set_to_none=True)
    loss = backward(index)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return math.isfinite(loss) and all(bool(gradient.isfinite().all()) for gradient in gradients)


def _named(ids: Sequence[str]) -> str:
    counts = Counter(ids)
    shown = [f"{id or 'unnamed'} ({count} times)" if count > 1 else id or "unnamed" for id, count in counts.items()]
    return ", ".join(shown[:_MOST_NAMED]) + (f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else "")


class SkippedUpdates:
    """Counts skipped updates of the model that messages call `whose`, of the learning rate `rate`; more than `most` one after
    the other end the run.
    """

    def __init__(self, most: int, *, whose: str = "policy", rate: str = "lr") -> None:
        self._most, self._whose, self._rate = most, whose, rate
        self._in_a_row: list[str] = []
        self._fresh: list[str] = []

    def skip(self, step: int, error: NonFiniteUpdate) -> None:
        """Notes an update that was left out. Raises FloatingPointError with all of the row when there are too many."""
        said = f"step {step}{'' if self._whose == 'policy' else f', {self._whose}'}: {error}"
        self._in_a_row.append(said)
        if len(self._in_a_row) > self._most:
            raise FloatingPointError(
                f"the {self._whose} has diverged, or the data hold what it cannot compute: "
                f"{len(self._in_a_row)} updates in a row are not finite, and max_skipped_updates is {self._most}. "
                + ". ".join(self._in_a_row)
                + f". Resume from the last checkpoint with a lower {self._rate}, or start a run without these samples"
            ) from error
        self._fresh.append(f"{said}; the update is skipped, the weights stay as they were")

    def made(self) -> None:
        """Notes an update that was made: the next skipped one begins a new row."""
        self._in_a_row.clear()

    def notices(self) -> list[str]:
        """Sentences for a person on what was skipped since this was last asked."""
        said, self._fresh = self._fresh, []
        return said

    def state_dict(self) -> list[str]:
        return list(self._in_a_row)

    def load_state_dict(self, state: Sequence[str]) -> None:
        self._in_a_row = list(state)
