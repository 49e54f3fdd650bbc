"""`rewards` is light and stands alone: no torch, and no mathematics library until a verifier needs one."""

import subprocess
import sys

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""


def run(code: str, blocked: tuple[str, ...]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=blocked) + code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_everything_works_where_torch_is_not_installed() -> None:
    code = """
import rewards, rewards.cli
wrap = "<think></think><|begin_of_box|>%s<|end_of_box|>"
rows = [
    dict(id=1, domain="math", answer="f(x)+x", response=wrap % "x+f(x)"),
    dict(id=2, domain="ocr", answer="ab", response=wrap % "ab"),
    dict(id=3, domain="gui", answer="DONE()", response=wrap % "DONE()"),
]
print([v.correct for v in rewards.score_batch(rows, workers=1)])
print([rewards.score(r["response"], r["answer"], domain=r["domain"]).correct for r in rows])
"""
    assert run(code, ("torch", "transformers", "rollout", "sft", "rlcs")) == "[True, True, True]\n[True, True, True]"


def test_import_alone_loads_no_heavy_library() -> None:
    code = "import rewards; print(sorted({'sympy','mpmath','rapidfuzz','numpy','rich','torch'} & set(sys.modules)))"
    assert run(code, ()) == "[]"


def test_simple_mathematics_does_not_load_sympy() -> None:
    code = """
from rewards.api import score_answer
assert score_answer("\\\\sin^2 x + \\\\cos^2 x", "1", domain="math").correct
print("sympy" in sys.modules)
"""
    assert run(code, ("sympy",)) == "False"
