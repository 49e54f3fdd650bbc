"""What verl's workers tell of a step's updates, as the trainer wants it."""

import math
from typing import Any

from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import rename_dict

from rlcs.verl.objective import is_of_update
from sft.skipped import NonFiniteUpdate, SkippedUpdates


def made_updates(found: dict[str, Any], skipped: SkippedUpdates, step: int) -> dict[str, Any]:
    """The metrics, lists with a value for each update, without updates that the workers skipped for a gradient that is not
    finite; those are counted in `skipped`, and in `skipped_updates` of the result.

    Raises FloatingPointError when more in a row were skipped than may be.
    """
    norms = found["grad_norm"]
    made = [math.isfinite(norm) for norm in norms]
    for norm, fine in zip(norms, made, strict=True):
        if fine:
            skipped.made()
        else:
            skipped.skip(step, NonFiniteUpdate(f"the gradient norm is {norm:.4g}", []))
    if all(made):
        return found
    kept = {
        name: [value for value, fine in zip(values, made, strict=True) if fine] if is_of_update(name) else values
        for name, values in found.items()
    }
    return {name: values for name, values in kept.items() if len(values)} | {"skipped_updates": [made.count(False)]}


def refuse_skipped(found: dict[str, Any]) -> None:
    """Raises FloatingPointError if an update of the critic was skipped: as with the local engine, none may be."""
    if not all(math.isfinite(norm) for norm in found["grad_norm"]):
        raise FloatingPointError(
            f"the gradient norm of the critic is {found['grad_norm']}: it has diverged; resume from the last checkpoint with a "
            "lower critic.lr"
        )


def named_metrics(found: dict[str, Any], worker: str) -> dict[str, float]:
    """A worker's metrics under verl's names for them, one number each."""
    metrics = rename_dict(found, f"{worker}/")
    metrics[f"perf/mfu/{worker}"] = metrics.pop(f"{worker}/mfu")
    return reduce_metrics(metrics)
