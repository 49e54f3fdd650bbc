"""The local engine on a GPU against itself on the CPU: rollouts, log-probabilities, gradients, the chain of commands."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import Glm4vForConditionalGeneration
from typer.testing import CliRunner

from rlcs.cli import app
from rlcs.learner import Learner, TrainSample
from rlcs.nano.build import build_model, build_processor
from rlcs.rl_config import RlConfig
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer, Prompt
from rollout.engine import Completion, SamplingParams, ThinkingBudget
from rollout.forward import hidden_states, pack, token_logprobs
from rollout.transformers_engine import TransformersEngine

ROOT = Path(__file__).resolve().parents[2]
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=40)


@pytest.fixture(scope="module", autouse=True)
def full_float32() -> Iterator[None]:
    """Products in float32, not in TF32, so that the two devices may be compared closely."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer(build_processor())


@pytest.fixture(scope="module")
def cpu_model() -> Glm4vForConditionalGeneration:
    """Random weights with a sharpened head, so that greedy choices have clear margins."""
    model = build_model(seed=0, hidden_size=96, layers=2, vision_size=32, vision_depth=1).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    model.config._attn_implementation = VARLEN
    return model


@pytest.fixture(scope="module")
def cuda_model(cpu_model: Glm4vForConditionalGeneration) -> Glm4vForConditionalGeneration:
    return copy.deepcopy(cpu_model).cuda()


@pytest.fixture(scope="module")
def prompts(renderer: ChatRenderer, tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    root = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (56, 84, 3), dtype=np.uint8)) for _ in range(4)]
    frames[0].save(root / "a.png")
    frames[0].save(root / "clip.gif", save_all=True, append_images=frames[1:], duration=500)
    asked = [
        [{"type": "text", "text": "hello there, how long is this?"}],
        [{"type": "image", "image": "a.png"}, {"type": "text", "text": "read"}],
        [{"type": "video", "video": "clip.gif"}, {"type": "text", "text": "watch"}],
        [{"type": "text", "text": "q"}],
    ]
    return [
        renderer.prompt([{"role": "user", "content": parts}], root=root, thinking=bool(i % 2)) for i, parts in enumerate(asked)
    ]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [completion for group in groups for completion in group]


def test_greedy_rollouts_are_those_of_the_cpu(cpu_model, cuda_model, renderer, prompts):
    on_cpu, on_cuda = (
        flat(TransformersEngine(model, renderer).generate(prompts, 2, GREEDY, ThinkingBudget(12), generator=seeded()))
        for model in (cpu_model, cuda_model)
    )
    for one, other in zip(on_cpu, on_cuda, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert one.forced.tolist() == other.forced.tolist()
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.25)])
@torch.no_grad()
def test_rollout_logprobs_are_the_trainers_forward_pass(cuda_model, renderer, prompts, dtype, tolerance):
    model = copy.deepcopy(cuda_model).to(getattr(torch, dtype))
    model.lm_head.weight.div_(20)
    drawn = flat(TransformersEngine(model, renderer).generate(prompts, 8, SamplingParams(), generator=seeded(4)))
    rows = [prompts[i // 8].encoded.extended(one.token_ids, ~one.forced) for i, one in enumerate(drawn)]
    packed = pack(rows).to("cuda")
    trained = torch.from_numpy(np.concatenate([row.loss_mask for row in rows])[1:])
    found = token_logprobs(model, hidden_states(model, packed)[:-1], packed.input_ids[1:]).cpu()[trained]
    np.testing.assert_allclose(found.numpy(), np.concatenate([one.logprobs for one in drawn]), atol=tolerance)


def test_gradients_are_those_of_the_cpu(cpu_model, cuda_model, renderer, prompts):
    config = RlConfig(model="-", problems="-", out="-", token_budget=400, old_logprobs="trainer", grad_clip=1e9)
    drawn = TransformersEngine(cpu_model, renderer).generate(prompts, 4, SamplingParams(max_new_tokens=20), generator=seeded(1))
    rng = np.random.default_rng(0)
    samples = [
        TrainSample(
            prompt.encoded.extended(one.token_ids, ~one.forced), one.logprobs[~one.forced], float(rng.normal()), prompt.encoded
        )
        for prompt, group in zip(prompts, drawn, strict=True)
        for one in group
    ]
    gradients = []
    for model in (copy.deepcopy(cpu_model), copy.deepcopy(cuda_model)):
        learner = Learner(model, config)
        learner.optimizer.step = lambda *_: None
        learner.update(samples, 0, np.random.default_rng(0))
        gradients.append({name: value.grad.cpu() for name, value in model.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    whole = torch.cat([value.flatten() for value in gradients[0].values()])
    gap = torch.cat([(value - gradients[1][name]).flatten() for name, value in gradients[0].items()])
    assert float(whole.norm()) > 0
    assert float(gap.norm() / whole.norm()) < 1e-3


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_chain_of_commands_runs_and_resumes(tmp_path, dtype):
    cuda = ["device=cuda", f"dtype={dtype}", "loggers=[]"]
    data = tmp_path / "data"
    run("tasks", str(data), "--seed", "0", "--train", "60", "--heldout", "20", "--sft", "80", "--sft-heldout", "20")
    sft = [f"data={data / 'sft.jsonl'}", f"eval_data={data / 'sft_heldout.jsonl'}", f"out={tmp_path / 'sft'}"]
    sft += [f"model={ROOT / 'assets/nano'}", "steps=6", "eval_every=0"]
    run("sft", str(ROOT / "configs/sft/nano.yaml"), *sft, *cuda)
    rl = [f"model={tmp_path / 'sft'}", f"problems={data / 'train.jsonl'}", "groups_per_step=6", "table_every=0", "steps=4"]
    rl += ["save_every=2", "schedule=constant", *cuda]
    run("rl", str(ROOT / "configs/rl/nano.yaml"), *rl, f"out={tmp_path / 'whole'}")
    run("rl", str(ROOT / "configs/rl/nano.yaml"), *rl, f"out={tmp_path / 'split'}", "steps=2")
    run("rl", str(ROOT / "configs/rl/nano.yaml"), *rl, f"out={tmp_path / 'split'}", "--resume")
    whole, split = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "split")
    )
    assert [row["step"] for row in whole] == [row["step"] for row in split] == [0, 1, 2, 3]
    assert whole[0]["peak_memory_mb"] > 0
    if dtype == "float32":  # steps in which no group was mixed have no such metric
        gaps = [row["policy/logprob_gap_max"] for row in whole if "policy/logprob_gap_max" in row]
        assert max(gaps, default=0.0) < 0.01
    evals = [f"model={tmp_path / 'whole'}", f"problems={data / 'heldout.jsonl'}", f"out={tmp_path / 'eval'}", "samples=1"]
    run("eval", str(ROOT / "configs/eval/nano.yaml"), *evals, "device=cuda", f"dtype={dtype}")
    assert (tmp_path / "eval").is_dir()


def test_rollouts_beside_an_update_are_those_of_an_exact_run(tmp_path):
    """At a rate of next to nothing both modes have one policy; a stream of its own must change no token."""
    data, found = tmp_path / "data", {}
    run("tasks", str(data), "--seed", "0", "--train", "60", "--heldout", "20", "--sft", "20", "--sft-heldout", "20")
    for staleness in (0, 1):
        out = tmp_path / str(staleness)
        rl = [f"model={ROOT / 'assets/nano'}", f"problems={data / 'train.jsonl'}", f"out={out}", "groups_per_step=6", "steps=3"]
        rl += ["lr=1e-30", "sampler=uniform", "device=cuda", "loggers=[]", f"max_staleness={staleness}"]
        run("rl", str(ROOT / "configs/rl/nano.yaml"), *rl)
        rows = [row for path in sorted((out / "rollouts").iterdir()) for row in pq.read_table(path).to_pylist()]
        found[staleness] = [(row["step"], row["id"], row["response"]) for row in rows]
    assert found[0] == found[1] and len(found[0]) == 3 * 6 * 8
