"""How near to the machine's peak an update could come: its linear layers' matrix products, and nothing else.

    python benchmarks/products_alone.py [--runs runs] [--repeats 7]

For the packs of benchmarks/local_vs_trl.py every distinct linear layer is run by itself, as autograd runs it: its output, the
gradients of its input and of its weight, into tensors that are there. Least seconds of the repeats, times the number of such
layers, against `sft.machine_peak.matmul_peak` on as many threads; the head sees trained tokens only. Attention's products are
left out, of the operations too. What is reported is the utilisation (mfu) of an update that does nothing else: no norms, no
activation functions, no optimiser, no Python. Writes benchmarks/results/products_alone.json.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from measured_on import measured_on

from rollout.forward import load_policy
from sft.machine_peak import matmul_peak

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "products_alone.json"

# Tokens of a pass, rows of it through the head, threads of a pass (the nano model's passes go side by side, one thread each).
CASES: dict[str, dict[str, Any]] = {
    "rl nano text": {"model": "assets/nano", "tokens": 344, "rows": 320, "threads": 1},
    "rl smollm2, larger pack": {"model": "reasoning_gym/smollm2", "tokens": 500, "rows": 384, "threads": 2},
    "rl smollm2, smaller pack": {"model": "reasoning_gym/smollm2", "tokens": 170, "rows": 128, "threads": 2},
    "sft smollm2": {"model": "reasoning_gym/smollm2", "tokens": 450, "rows": 300, "threads": 2},
}


def layers_of(model: torch.nn.Module) -> Counter[tuple[int, int, bool]]:
    """(outputs, inputs, whether it is the head) of the decoder's linear layers, and how many of each there are."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = ((name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    return Counter((*module.weight.shape, module is head) for name, module in linear if "visual" not in name)


def seconds(rows: int, outputs: int, inputs: int, repeats: int) -> float:
    """Least time of the three products of one layer."""
    x, weight, slope = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
    y, x_slope, weight_slope = (torch.empty_like(one) for one in (slope, x, weight))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        torch.mm(x, weight.t(), out=y)
        torch.mm(slope, weight, out=x_slope)
        torch.mm(slope.t(), x, out=weight_slope)
        best = min(best, time.perf_counter() - began)
    return best


def measured(case: dict[str, Any], runs: Path, repeats: int) -> dict[str, float]:
    """Utilisation of the products alone, of all layers, of the decoder's and of the head's."""
    torch.set_num_threads(case["threads"])
    where = ROOT / case["model"] if (ROOT / case["model"]).exists() else runs / case["model"]
    model, _ = load_policy(str(where))
    peak = matmul_peak(torch.device("cpu"), torch.float32)
    spent, work = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for (outputs, inputs, is_head), count in layers_of(model).items():
        rows = case["rows"] if is_head else case["tokens"]
        spent[is_head] += count * seconds(rows, outputs, inputs, repeats)
        work[is_head] += count * 6 * rows * outputs * inputs
    return {
        "peak GFLOP/s": round(peak / 1e9, 1),
        "mfu": round(sum(work.values()) / sum(spent.values()) / peak, 3),
        "layers": round(work[False] / spent[False] / peak, 3),
        "head": round(work[True] / spent[True] / peak, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="holds reasoning_gym/smollm2")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    found = {}
    for name, case in CASES.items():
        found[name] = {**case, **measured(case, args.runs, args.repeats)}
        print(name, json.dumps(found[name]))
    report = {
        "command": f"python benchmarks/products_alone.py --repeats {args.repeats}",
        **measured_on("torch"),
        "cases": found,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
