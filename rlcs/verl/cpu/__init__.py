"""verl on the CPU, for tests: a platform for verl and two work-rounds for vLLM's CPU build. Inert unless `VERL_PLATFORM=cpu`.

Two entry points load it in every process that imports verl (`plugin`) or starts vLLM (`vllm_weights`).
"""

import os


def chosen() -> bool:
    """Whether this process belongs to a run of verl on the CPU."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"
