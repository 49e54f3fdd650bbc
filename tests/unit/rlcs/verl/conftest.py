"""verl is imported for the CPU, whichever test of this directory comes first; other tests of the process see none of it."""

import importlib.util
import os

if importlib.util.find_spec("verl") is not None:
    os.environ["VERL_PLATFORM"] = "cpu"
    try:
        from verl.plugin.platform import get_platform

        get_platform()
    finally:
        del os.environ["VERL_PLATFORM"]
