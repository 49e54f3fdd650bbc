"""Messages to model inputs to completions: chat rendering, packed forward passes, thinking budget, rollout engines."""

from rollout.torchvision_ops import install as _install_torchvision_hook

_install_torchvision_hook()
