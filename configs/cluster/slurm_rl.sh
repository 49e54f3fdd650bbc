#!/bin/bash
# RL through verl under Slurm: a Ray cluster over the job's nodes, the run on the first of them (docs/cluster.md). Not yet run under
# Slurm. From the repository, with the environment of rlcs active:
#   sbatch --nodes=8 configs/cluster/slurm_rl.sh configs/rl/verl_glm45v.yaml [KEY=VALUE]... [--resume]
#SBATCH --job-name=rlcs-rl
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --output=%x-%j.log
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(getent ahostsv4 "$head" | awk 'NR == 1 { print $1 }'):${RAY_PORT:-6379}

# One task a node: each starts Ray; the one on the first node waits for all, runs the command, and ends them.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-gpus "$SLURM_GPUS_PER_NODE" --num-cpus "$SLURM_CPUS_PER_TASK" --disable-usage-stats -- \
  rlcs rl "$@" engine=verl verl.ray_address=auto \
  verl.nodes="$SLURM_JOB_NUM_NODES" verl.gpus_per_node="$SLURM_GPUS_PER_NODE"
