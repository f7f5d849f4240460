#!/usr/bin/env bash
# GRPO on several GPU nodes under Slurm: `sbatch experiments/slurm.sh`, from a checkout that all nodes see.
# Not run by us on a cluster: adapt partition, account and modules to yours.
#
# One process for each GPU; JAX finds the others through Slurm's variables. The workdir must be on a file system that all
# nodes share. When the time is up, Slurm sends SIGTERM two minutes before, the run saves, and the job is queued again
# and goes on exactly where it was.
#SBATCH --job-name=dtr1
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

WORKDIR=${WORKDIR:-$PWD/runs/slurm}
VENV=${VENV:-$PWD/.venv} # made once, on the login node: python3 -m venv .venv; .venv/bin/pip install -e '.[cuda]'

# --kill-on-bad-exit=0: the first process to leave after a save must not take the others with it before they are done.
# 16 GPUs: rollout.queries and train.eval_batch are multiples of data x fsdp = 16.
srun --kill-on-bad-exit=0 "$VENV/bin/python" main.py --distributed --config=configs/seg.py --workdir="$WORKDIR" \
  --config.policy.dtype=bfloat16 --config.mesh.data=-1 --config.mesh.fsdp=8 \
  --config.rollout.queries=64 --config.grpo.micro_queries=4 --config.train.eval_batch=64 \
  --config.train.steps=2000 --config.train.eval_every=200 "$@"
status=$?

# 130: asked to stop, saved and left.
if [[ $status -eq 130 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
