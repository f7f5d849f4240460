#!/usr/bin/env bash
# GRPO on all hosts of a TPU pod slice. We have not run it on a pod: read it before you use it.
#
#   TPU=my-slice ZONE=us-east5-b REPOSITORY=https://... WORKDIR=/mnt/shared/runs/pod bash experiments/tpu_pod.sh setup
#   TPU=my-slice ZONE=us-east5-b WORKDIR=/mnt/shared/runs/pod bash experiments/tpu_pod.sh train --config.optim.lr=3e-4
#   ... bash experiments/tpu_pod.sh stop      makes the run save and exit; `train` then resumes exactly there
#
# It logs in with your own gcloud. Create the slice first (gcloud compute tpus tpu-vm create). WORKDIR must be on a file
# system that all hosts mount (Filestore, or a bucket by gcsfuse): every host writes its part of a checkpoint there.
set -euo pipefail

TPU=${TPU:?name of the TPU slice}
ZONE=${ZONE:?zone of the slice, such as us-east5-b}
WORKDIR=${WORKDIR:?folder that all hosts share}
REPOSITORY=${REPOSITORY:-}
BRANCH=${BRANCH:-main}
QUERIES=${QUERIES:-64} # a multiple of the number of chips; so is EVAL_BATCH
EVAL_BATCH=${EVAL_BATCH:-64}

everywhere() { # runs a command on every host
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

command=${1:?setup, train or stop}
shift
case $command in
  setup)
    address=$(printf %q "${REPOSITORY:?address of the repository}")
    everywhere "test -d dtr1_jax || git clone --branch $(printf %q "$BRANCH") $address dtr1_jax
      cd dtr1_jax && python3 -m venv .venv && .venv/bin/pip install --quiet --editable '.[tpu]'"
    ;;
  train)
    more=$(printf ' %q' "$@")
    everywhere "cd dtr1_jax && exec .venv/bin/python main.py --distributed --config=configs/seg.py --workdir=$(printf %q "$WORKDIR") \
      --config.policy.dtype=bfloat16 --config.mesh.data=-1 --config.mesh.fsdp=4 --config.grpo.micro_queries=4 \
      --config.rollout.queries=$QUERIES --config.train.eval_batch=$EVAL_BATCH$more"
    ;;
  stop)
    # the pattern does not match its own text, so that pkill spares the shell that runs it on the host
    everywhere "pkill -TERM --full 'main[.]py --distributed' || true"
    ;;
  *)
    echo "expected setup, train or stop, got $command" >&2
    exit 2
    ;;
esac
