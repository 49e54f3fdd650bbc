"""The entry point `verl.plugins`: verl imports this module, and calls nothing of it, in each of its processes."""

from rlcs.verl.cpu import chosen

if chosen():
    from rlcs.verl.cpu import distribution, platform

    platform.install()
    distribution.install()
