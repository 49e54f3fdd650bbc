"""New weights for vLLM's CPU build.

It packs a linear layer's weights for its kernels and then drops them, so that verl's `load_weights` finds nothing to load
into. Here they are kept; verl has vLLM process the weights again after each update (`process_weights_after_loading`), which
packs them anew. Costs the weights once more in memory.
"""

from typing import Any

from rlcs.verl.cpu import chosen


def keep_weights() -> None:
    """The entry point `vllm.general_plugins`: vLLM calls it in each of its processes, before a model is loaded."""
    if not chosen():
        return
    from vllm.model_executor.layers import utils

    original = utils.dispatch_cpu_unquantized_gemm
    if getattr(original, "keeps_weights", False):
        return

    def dispatch(layer: Any, remove_weight: bool) -> None:
        original(layer, remove_weight=False)

    dispatch.keeps_weights = True  # type: ignore[attr-defined]
    utils.dispatch_cpu_unquantized_gemm = dispatch
