"""The cluster files: scripts run with Slurm's and Ray's commands replaced; the manifest agrees with the recipe it runs."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlcs.config import load_config
from rlcs.rl_config import RlConfig

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
# `ray symmetric-run` ends every Ray process of the machine when it is done, other tests' too; this runs what it would run.
RAY = '#!/bin/bash\necho "ray $*"\nwhile [[ "$1" != -- ]]; do shift; done\nshift\nexec "$@"\n'
SRUN = '#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n'  # the job's only task, here
SCONTROL = "#!/bin/bash\necho localhost\n"


def on_one_node(script: str, *arguments: str, folder: Path) -> str:
    """What a Slurm script prints in a job of one node of one GPU."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "ray": RAY}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    job = {
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_PER_NODE": "1",
        "SLURM_CPUS_PER_TASK": "2",
    }
    environment = {**os.environ, **job, "PATH": path, "RAY_PORT": "26379"}
    command = ["bash", str(ROOT / "configs" / "cluster" / script), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300, cwd=ROOT).stdout


def test_the_slurm_script_starts_ray_and_hands_the_run_its_nodes(tmp_path: Path) -> None:
    found = on_one_node("slurm_rl.sh", "configs/rl/verl_nano.yaml", "steps=3", "--dry-run", folder=tmp_path)
    assert "ray symmetric-run --address 127.0.0.1:26379 --min-nodes 1 --num-gpus 1 --num-cpus 2" in found
    for phrase in ("ray_address: auto", "nodes: 1", "gpus_per_node: 1", "steps: 3", "python -m rlcs.verl.launch"):
        assert phrase in found


def test_the_slurm_script_of_sft_needs_no_rendezvous_on_one_node(tmp_path: Path) -> None:
    found = on_one_node("slurm_sft.sh", "configs/sft/verl_nano.yaml", "--dry-run", folder=tmp_path)
    assert "rendezvous: null" in found and "torch.distributed.run --nnodes 1 --nproc-per-node 1 --standalone" in found


def test_the_manifest_asks_for_the_nodes_and_gpus_that_its_run_names() -> None:
    manifest = yaml.safe_load((ROOT / "configs" / "cluster" / "kuberay_rl.yaml").read_text())
    rlcs, rl, config, *overrides = shlex.split(manifest["spec"]["entrypoint"])
    assert (rlcs, rl) == ("rlcs", "rl")
    run = load_config(RlConfig, ROOT / config, overrides)
    (group,) = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert group["replicas"] == group["minReplicas"] == run.verl.nodes
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) == run.verl.gpus_per_node
    assert run == load_config(RlConfig, ROOT / config, [*overrides, "engine=verl", "verl.ray_address=auto"])
    shared = container["volumeMounts"][0]["mountPath"]
    assert all(str(path).startswith(f"{shared}/") for path in (run.model, run.problems, run.out))
