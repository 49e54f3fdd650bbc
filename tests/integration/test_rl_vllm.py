"""`rlcs rl`, `rlcs eval` and `rlcs grade` with `rollout: vllm`: real vLLM processes on the CPU build."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlcs.cli import app

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
ASSETS = Path(__file__).parents[2] / "assets" / "nano"
VLLM = ["rollout=vllm", "vllm.eager=true", "vllm.max_length=512", "vllm.max_sequences=32"]
BUDGETS = ["think_tokens=16", "answer_tokens=24"]


def rlcs(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks") / "data"
    rlcs("tasks", str(folder), "--train", "20", "--heldout", "5", "--sft", "5", "--sft-heldout", "5")
    return folder


def config(folder: Path, **values: object) -> str:
    path = folder / "config.yaml"
    path.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()))
    return str(path)


def test_training_on_vllm_rollouts_serves_each_steps_weights_and_resumes(
    coin_policy: Path, coin_problems: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    fixed = {"model": str(coin_policy), "problems": str(coin_problems), "out": str(out), "steps": 3, "save_every": 2}
    path = config(tmp_path, **fixed, groups_per_step=6, group_size=4, lr=0.003, sampler="rlcs", loggers=[])
    rlcs("rl", path, *VLLM, *BUDGETS, "steps=2")
    rlcs("rl", path, *VLLM, *BUDGETS, "--resume")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["groups_trained"]]
    assert [row["step"] for row in rows] == [0, 1, 2] and len(trained) > 1
    # Were the weights of an earlier step served, so high a learning rate would show.
    assert max(row["policy/logprob_gap_max"] for row in trained) < 1e-2
    assert max(row["policy/rollout_kl"] for row in trained) < 1e-5


def test_evaluation_and_grading_on_vllm_write_what_they_write_on_transformers(data: Path, tmp_path: Path) -> None:
    greedy = ["samples=1", "temperature=0.00001", "modes=[nothink]"]  # as good as greedy: both engines say the same
    found = {}
    for name, engine in (("transformers", []), ("vllm", VLLM)):
        folder = tmp_path / name
        folder.mkdir()
        graded = data / f"{name}.jsonl"
        path = config(folder, model=str(ASSETS), problems=str(data / "heldout.jsonl"), out=str(graded))
        rlcs("grade", path, *engine, *BUDGETS, *greedy)
        lines = [json.loads(line) for line in graded.read_text().splitlines()]
        found[name] = {line["id"]: line["pass_rate"] for line in lines}
        path = config(folder, model=str(ASSETS), problems=str(data / "heldout.jsonl"), out=str(folder / "eval"))
        rlcs("eval", path, *engine, *BUDGETS, "samples=1")
        assert json.loads((folder / "eval" / "eval.json").read_text())["responses"] == 15 * 2 * 2
    assert found["vllm"] == found["transformers"] and len(found["vllm"]) == 15
