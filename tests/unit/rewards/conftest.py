"""Property tests draw the same examples in every run, and are not timed: other jobs may share the machine."""

from hypothesis import settings

settings.register_profile("rewards", derandomize=True, deadline=None)
settings.load_profile("rewards")
