"""Lets torchvision be imported where its C++ operators cannot be loaded, as PyPI's CUDA build beside a CPU build of PyTorch.

`import torchvision` then fails with "operator torchvision::nms does not exist", because it describes the operators `nms` and
`qnms` to PyTorch's compiler whether they exist or not. Declaring the two is enough: its transforms, which GLM-4V's image and
video processors use, are plain PyTorch. Where the operators load, nothing is declared and torchvision is left alone.

The hook waits for the first `import torchvision`; installing it imports nothing. The project's wheel carries a .pth file that
installs it in every process of the environment (an engine's or Ray's workers too), and `import rollout` does so as well.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing itself is too slow to import in every process
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[object] = []  # a torch Library takes its operators away when it is collected


class _TorchvisionHook:
    """A finder (see `sys.meta_path`) that runs once, before torchvision is first found, and steps out of the way."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare_missing_operators()
        return None


def _declare_missing_operators() -> None:
    import importlib.util
    from pathlib import Path

    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("torch") is None:
        return
    import torch

    for folder in spec.submodule_search_locations:
        for extension in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(str(extension))
            except OSError:
                continue
            return
    library = torch.library.Library("torchvision", "DEF")
    for operator in _OPERATORS:
        library.define(operator)
    _declared.append(library)


def install() -> None:
    """Installs the hook, once a process; does nothing when torchvision is imported already."""
    if "torchvision" not in sys.modules and not any(isinstance(finder, _TorchvisionHook) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionHook())
