"""The whole chain from the command line on the embedded model, in small: tasks, check, sft, eval, rl, eval, report."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]


def rlcs(*arguments: object) -> str:
    command = [sys.executable, "-m", "rlcs.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chain")
    data = root / "data"
    rlcs("tasks", data, "--train", 60, "--heldout", 20, "--sft", 240, "--sft-heldout", 10)
    rlcs("check", data / "train.jsonl", data / "heldout.jsonl", data / "sft.jsonl", data / "sft_heldout.jsonl")
    files = (f"data={data / 'sft.jsonl'}", f"eval_data={data / 'sft_heldout.jsonl'}")
    rlcs("sft", "configs/sft/nano.yaml", *files, f"out={root / 'sft'}", "epochs=4", "batch_size=32")
    small = (f"problems={data / 'heldout.jsonl'}", "samples=2", "max_per_domain=10")
    rlcs("eval", "configs/eval/nano.yaml", f"model={root / 'sft'}", f"out={root / 'before'}", *small)
    size = ("steps=3", "groups_per_step=12", "group_size=8", "save_every=2", "difficulty_every=1", "table_every=1")
    problems = f"problems={data / 'train.jsonl'}"
    shown = rlcs("rl", "configs/rl/nano.yaml", f"model={root / 'sft'}", problems, f"out={root / 'rl'}", *size)
    assert "rollouts of step 1" in shown
    rlcs("eval", "configs/eval/nano.yaml", f"model={root / 'rl'}", f"out={root / 'after'}", *small)
    runs = ("--before", root / "before", "--after", root / "after", "--rl", root / "rl", "--sft", root / "sft")
    rlcs("report", root / "report", *runs)
    return root


def test_sft_lowers_the_held_out_loss_of_every_domain_in_both_modes(chain: Path) -> None:
    rows = [json.loads(line) for line in (chain / "sft" / "metrics.jsonl").read_text().splitlines()]
    first, last = rows[0], rows[-1]
    for domain in ("gui", "math", "ocr"):
        # The format alone is learnt in these few steps; the loss before it was that of a policy that knew none.
        assert last[f"eval/{domain}/thinking/loss"] < first[f"{domain}/loss"]
        assert last[f"eval/{domain}/nothink/loss"] < first[f"{domain}/loss"]


def test_rl_changes_the_weights_and_leaves_a_plain_checkpoint(chain: Path) -> None:
    before = chain / "sft" / "checkpoints" / "step-000090"  # 720 examples, 4 epochs, 32 a step
    after = chain / "rl" / "checkpoints" / "step-000003"
    old, new = (load_file(path / "model.safetensors") for path in (before, after))
    assert old.keys() == new.keys() and any(not torch.equal(old[name], new[name]) for name in old)
    code = f"""
from transformers import AutoModelForImageTextToText, AutoProcessor
model, processor = AutoModelForImageTextToText.from_pretrained({str(after)!r}), AutoProcessor.from_pretrained({str(after)!r})
print(type(model).__name__, type(processor).__name__, model.config._attn_implementation)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd="/")
    assert done.stdout.split() == ["Glm4vForConditionalGeneration", "Glm4vProcessor", "sdpa"], done.stderr


def test_the_run_directory_holds_what_a_dashboard_reads(chain: Path) -> None:
    run = chain / "rl"
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.jsonl"} <= names
    assert {f"{kind}/step={step:06d}.parquet" for kind in ("rollouts", "difficulty") for step in range(3)} <= names
    assert any(name.startswith("events/events.out.tfevents") for name in names)
    rollouts = pq.read_table(run / "rollouts" / "step=000000.parquet").to_pylist()
    assert {row["domain"] for row in rollouts} == {"gui", "math", "ocr"}
    assert {row["thinking"] for row in rollouts} == {True, False}
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [0, 1, 2]
    for name in ("reward", "pass_rate", "mixed_fraction", "response_length", "entropy"):
        assert all(f"{domain}/{name}" in metrics[-1] for domain in ("gui", "math", "ocr"))


def test_the_evaluations_cover_both_modes_and_every_level(chain: Path) -> None:
    responses = pq.read_table(chain / "after" / "responses.parquet").to_pylist()
    assert len(responses) == 3 * 10 * 2 * (2 + 1)
    assert {(row["mode"], row["tier"]) for row in responses} == {
        (mode, f"level-{level}") for mode in ("thinking", "nothink") for level in range(1, 6)
    }


def test_the_report_shows_its_figures(chain: Path) -> None:
    text = (chain / "report" / "report.md").read_text()
    figures = [part.split(")")[0] for part in text.split("](")[1:] if part.split(")")[0].endswith(".png")]
    assert {"pass_rate.png", "difficulty.png", "training.png"} <= set(figures)
    assert all((chain / "report" / name).read_bytes().startswith(b"\x89PNG") for name in figures)


def test_the_embedded_model_is_small_and_loads_in_plain_transformers() -> None:
    assets = REPOSITORY / "assets" / "nano"
    assert sum(path.stat().st_size for path in assets.rglob("*")) <= 16 * 2**20
    model, processor = AutoModelForImageTextToText.from_pretrained(assets), AutoProcessor.from_pretrained(assets)
    assert type(model).__name__ == "Glm4vForConditionalGeneration"
    assert processor.apply_chat_template([{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False) == (
        "[gMASK]<sop><|user|>\nx<|assistant|>\n"
    )


def test_the_embedded_model_reads_strings_it_has_not_seen() -> None:
    """Three characters of 31 in one font: chance is 1 in 29,791."""
    import numpy as np

    from rlcs.nano.corpus import Document, DocumentEncoder
    from rlcs.nano.pretrain import batch_loss
    from rlcs.nano.tokenizer import build_tokenizer
    from rlcs.tasks.glyphs import READABLE
    from rlcs.tasks.ocr import LEVELS, render_string
    from rollout.forward import load_policy

    model, _ = load_policy(str(REPOSITORY / "assets" / "nano"))
    rng, encoder = np.random.default_rng(77), DocumentEncoder(build_tokenizer())
    texts = ["".join(rng.choice(list(READABLE), 3)) for _ in range(64)]
    batch = [encoder(Document("string", "", text, render_string(text, LEVELS[0], rng))) for text in texts]
    with torch.no_grad():
        _, hidden, owner = batch_loss(model, batch)
        best = model.lm_head(hidden).argmax(-1).numpy()
    targets = np.concatenate([document.input_ids[document.loss_mask] for document in batch])
    right = np.bincount(owner, weights=best != targets) == 0
    assert right.mean() > 0.8
