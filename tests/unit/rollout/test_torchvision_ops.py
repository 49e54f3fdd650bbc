"""The torchvision hook, each case in a process of its own: what is imported there cannot be undone."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

PLANT = """
import sys, types
from pathlib import Path
root = Path(sys.argv[1])
(root / "torchvision").mkdir()
source = "import torch; found = bool(torch._C._jit_get_schemas_for_operator('torchvision::nms'))"
(root / "torchvision" / "__init__.py").write_text(source)
(root / "torchvision" / "_C.so").write_bytes(b"")
sys.path.insert(0, str(root))
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_installing_the_hook_imports_neither_torch_nor_torchvision() -> None:
    code = "import sys, rollout; print(sorted({'torch', 'torchvision', 'numpy'} & set(sys.modules)))"
    assert run(code) == "[]"


def test_a_plain_process_of_the_environment_loads_the_video_processor() -> None:
    """Through the wheel's .pth file: nothing of the project is imported by hand."""
    code = "from transformers import Glm4vVideoProcessor; print(Glm4vVideoProcessor.__name__)"
    assert run(code) == "Glm4vVideoProcessor"


@pytest.mark.parametrize(("loads", "declared"), [(False, "True"), (True, "False")])
def test_operators_are_declared_only_where_the_extension_cannot_be_loaded(tmp_path: Path, loads: bool, declared: str) -> None:
    stub = "import torch; torch.ops.load_library = lambda path: None\n" if loads else ""
    code = PLANT + stub + "import rollout, torchvision; print(torchvision.found)"
    assert run(code, str(tmp_path)) == declared


def test_a_missing_torchvision_stays_missing() -> None:
    code = """
import sys, importlib.util, pathlib, rollout
from importlib.machinery import PathFinder
sys.meta_path.remove(PathFinder)  # nothing new can be found from here on
try:
    import torchvision
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run(code) == "torchvision"


def test_the_wheel_carries_the_pth_file() -> None:
    files = [str(file) for file in importlib.metadata.files("rlcs") or ()]
    assert "rlcs_torchvision.pth" in files
