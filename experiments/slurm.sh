#!/usr/bin/env bash
# GRPO on several GPU nodes under Slurm, from a checkout that all nodes see:
#
#   sbatch --job-name=seg-7b experiments/slurm.sh --config.optim.lr=3e-4
#
# Only its calls of stand-ins for srun and scontrol were tested, never a cluster. Adapt partition, account and modules.
#
# The job's name is the name of the run, and its workdir runs/NAME, so the same command resumes the run. It starts one
# process for each GPU; the processes find one another through Slurm's variables. The workdir must be on a file system
# that all nodes share, or in a gs:// bucket. Two minutes before the time is up, Slurm sends SIGTERM, the run saves, and
# this script queues the job again, which resumes exactly where the run was.
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

WORKDIR=${WORKDIR:-$PWD/runs/${SLURM_JOB_NAME:-dtr1}}
VENV=${VENV:-$PWD/.venv} # create it once, on the login node: python3 -m venv .venv; .venv/bin/pip install -e '.[cuda]'

# --kill-on-bad-exit=0: when one process exits after its save, Slurm must not kill the others before they have saved.
# 16 GPUs: rollout.queries and train.eval_batch are multiples of 16. The run chooses its mesh by the GPUs' memory.
srun --kill-on-bad-exit=0 "$VENV/bin/python" -m dtr1_jax --distributed --config=configs/seg.py --workdir="$WORKDIR" \
  --config.policy.dtype=bfloat16 --config.rollout.queries=64 --config.grpo.micro_queries=4 --config.train.eval_batch=64 \
  --config.train.steps=2000 --config.train.eval_every=200 "$@"
status=$?

# 130: the run got a signal to stop, saved and exited.
if [[ $status -eq 130 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
