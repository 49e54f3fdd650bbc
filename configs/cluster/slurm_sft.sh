#!/bin/bash
# SFT through verl under Slurm: torchrun on every node of the job (docs/cluster.md). Not yet run under Slurm. From the repository,
# with the environment of rlcs active:
#   sbatch --nodes=8 configs/cluster/slurm_sft.sh configs/sft/verl_glm45v.yaml [KEY=VALUE]... [--resume]
#SBATCH --job-name=rlcs-sft
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --output=%x-%j.log
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
meeting=null # a single node needs none
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then meeting="$head:${RDZV_PORT:-29500}"; fi

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  rlcs sft "$@" engine=verl verl.rendezvous="$meeting" \
  verl.nodes="$SLURM_JOB_NUM_NODES" verl.gpus_per_node="$SLURM_GPUS_PER_NODE"
