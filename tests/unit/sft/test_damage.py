"""A damaged checkpoint is noticed, named and set aside, and the one before it used; a full disk leaves what was there."""

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from rollout.chat import ChatRenderer
from sft.checkpoint import (
    CHECKSUMS,
    OPTIMIZER,
    STATE,
    DamagedCheckpointError,
    load_state,
    resolve_model,
    save_checkpoint,
    sound_checkpoint,
    verify_checkpoint,
)
from sft.rundir import RunDir
from sft.storage import explained_write

FILES = ["model.safetensors", OPTIMIZER, STATE, "config.json", "tokenizer.json"]


@pytest.fixture
def run(tmp_path: Path, tiny: PreTrainedModel, renderer: ChatRenderer) -> RunDir:
    """A run with two checkpoints."""
    run = RunDir(tmp_path / "run", resume=True)
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=1e-3)
    for step in (2, 4):
        save_checkpoint(run.checkpoint_path(step), tiny, renderer.processor, optimizer, {"step": step})
    return run


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        *((name, flip, "holds other bytes than were written") for name in FILES),
        *((name, cut, "were written") for name in FILES[:3]),
        *((name, Path.unlink, "is missing") for name in [*FILES[:3], CHECKSUMS]),
        (CHECKSUMS, cut, "cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_named_set_aside_and_the_one_before_it_used(
    run: RunDir, name: str, damage: Callable[[Path], None], said: str
) -> None:
    newest = run.checkpoint_path(4)
    assert sound_checkpoint(run, pytest.fail) == newest
    damage(newest / name)
    heard: list[str] = []
    found = sound_checkpoint(run, heard.append)
    assert found == run.checkpoint_path(2) and load_state(found) == {"step": 2}
    (sentence,) = heard
    assert str(newest / name) in sentence and said in sentence and "from step-000002" in sentence
    assert (newest.parent / "step-000004.damaged").is_dir() and run.last_checkpoint() == found
    assert sound_checkpoint(run, pytest.fail) == found  # said once


def test_a_run_without_a_sound_checkpoint_is_not_begun_anew_behind_its_owners_back(run: RunDir) -> None:
    flip(run.checkpoint_path(2) / STATE)
    shutil.rmtree(run.checkpoint_path(4))
    with pytest.raises(DamagedCheckpointError, match=r"step-000002/state\.pt holds other bytes.*Bring back a copy, or"):
        sound_checkpoint(run, pytest.fail)
    assert run.checkpoint_path(2).is_dir()
    assert sound_checkpoint(RunDir(run.path / "none"), pytest.fail) is None


def test_a_model_whose_weights_were_cut_short_is_not_taken_and_one_without_training_state_is(run: RunDir) -> None:
    newest = run.checkpoint_path(4)
    (newest / OPTIMIZER).unlink()
    (newest / "generation_config.json").write_text("{}")  # a user's edit
    assert resolve_model(run.path) == newest
    cut(newest / "model.safetensors")
    for named in (run.path, newest):
        with pytest.raises(DamagedCheckpointError, match=r"model\.safetensors has [\d,]+ bytes; [\d,]+ were written"):
            resolve_model(named)


def test_checksums_cover_every_file(run: RunDir) -> None:
    path = run.checkpoint_path(4)
    sums = json.loads((path / CHECKSUMS).read_text())
    assert sums.keys() == {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} - {CHECKSUMS}
    verify_checkpoint(path)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files of this process may have `size` bytes: what the system says of one more is an error like a full disk's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("which", ["model.safetensors", OPTIMIZER])
def test_a_file_that_cannot_be_written_in_full_leaves_the_checkpoint_before_it_and_says_so(
    run: RunDir, tiny: PreTrainedModel, renderer: ChatRenderer, which: str
) -> None:
    """The optimiser's file of a trained model is about twice its weights'."""
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=1e-3)
    sum(parameter.square().sum() for parameter in tiny.parameters()).backward()
    optimizer.step()
    weights = (run.checkpoint_path(4) / "model.safetensors").stat().st_size
    with largest_file(weights * 3 // 2 if which == OPTIMIZER else weights // 2), pytest.raises(OSError) as full:
        save_checkpoint(run.checkpoint_path(6), tiny, renderer.processor, optimizer, {"step": 6})
    said = str(full.value)
    assert full.value.errno == errno.EFBIG
    assert "step-000006 could not be written: file too large (EFBIG)" in said and "MiB are free; free space there" in said
    assert "--resume goes on from the last of them" in said
    assert sorted(path.name for path in run.checkpoint_path(4).parent.iterdir()) == ["step-000002", "step-000004"]
    assert sound_checkpoint(run, pytest.fail) == run.checkpoint_path(4)


FILL = """
import sys
from pathlib import Path
import torch
from sft.checkpoint import save_checkpoint
from rlcs.nano.build import build_model, build_processor
model = build_model(seed=0, hidden_size=96, layers=1, vision_size=32, vision_depth=1)
optimizer, folder = torch.optim.AdamW(model.parameters(), lr=1e-3), Path(sys.argv[1], "checkpoints")
try:
    for step in range(1, 8):
        save_checkpoint(folder / f"step-00000{step}", model, build_processor(), optimizer, {"step": step})
except OSError as error:
    print(error.errno, error)
"""


def test_a_disk_that_is_really_full_leaves_the_checkpoints_before_it(run: RunDir, tmp_path: Path) -> None:
    """A small file system in a mount namespace of the user's own, where the kernel grants one."""
    size = sum(file.stat().st_size for file in run.checkpoint_path(4).rglob("*"))
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    script = f'mount -t tmpfs -o size={4 * size} none {small} && "$@" && cp -r {small} {kept}'
    inside = ["unshare", "-rm", "sh", "-c", script, "sh"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces for this user")
    kept.rmdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*inside, sys.executable, "-c", FILL, str(small)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    number, _, said = found.stdout.strip().partition(" ")
    assert int(number) == errno.ENOSPC and "no space left on device (ENOSPC), " in said
    whole = sorted((kept / "checkpoints").iterdir())
    assert whole[0].name == "step-000001" and 0 < len(whole) < 7
    for path in whole:
        verify_checkpoint(path)


def test_a_full_disk_is_named_with_the_file_and_the_mend(tmp_path: Path) -> None:
    run = RunDir(tmp_path, loggers=())
    run.metrics_path.symlink_to("/dev/full")
    with pytest.raises(
        OSError, match=r"metrics\.jsonl could not be written: no space left on device \(ENOSPC\).*--resume"
    ) as full:
        run.log(0, {"loss": 1.0})
    assert full.value.errno == errno.ENOSPC


def test_a_directory_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        NotADirectoryError, match=r"run/lock could not be written: not a directory \(ENOTDIR\).*another directory"
    ):
        RunDir(tmp_path / "file" / "run").claim()
    with pytest.raises(OSError, match=r"\(ENOENT\)|\(EACCES\)|\(EPERM\)"):
        RunDir("/proc/run").claim()  # not even root may write there


def test_a_directory_without_permission_is_refused_before_any_work(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o555)
    child = os.fork()
    if not child:
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write anywhere
        try:
            RunDir(tmp_path / "run").claim()
        except PermissionError as error:
            os._exit(7 if "could not be written: permission denied (EACCES)" in str(error) else 1)
        except BaseException:  # noqa: BLE001
            os._exit(2)
        os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_a_second_process_is_kept_out_until_the_first_ends_however_it_ends(tmp_path: Path) -> None:
    holder = (
        "import sys, sft.rundir as r; run = r.RunDir(sys.argv[1]); run.claim(); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError, match=f"being written by another process, {process.pid} on "):
        RunDir(tmp_path).claim()
    process.kill()
    process.communicate()
    RunDir(tmp_path).claim()


def test_errors_that_the_disk_has_no_part_in_pass(tmp_path: Path) -> None:
    for error in (RuntimeError("shape"), io.UnsupportedOperation("read")):
        with pytest.raises(type(error), match=str(error)), explained_write(tmp_path):
            raise error
