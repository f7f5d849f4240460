#!/usr/bin/env bash
# GRPO on a slice of TPU VMs, got through queued resources. Only its calls of a stand-in for gcloud were tested, never a
# real slice: read it before you use it.
#
#   export RUN=seg-7b ZONE=us-west4-a TYPE=v5litepod-16 BUCKET=gs://my-bucket/runs REPOSITORY=https://...
#   bash experiments/tpu_pod.sh run --config.optim.lr=3e-4     create, wait, install, train, delete
#   bash experiments/tpu_pod.sh create | install | train ... | stop | delete     one of these steps
#
# RUN names the queued resource, the slice and the workdir $BUCKET/$RUN, so the same command resumes the run. `run`
# deletes a slice that it made itself, however it ends; a slice that was there before stays. `stop` makes a run save and
# exit. Everything after `run` or `train` is passed on to `python -m dtr1_jax` on every host, unchanged.
#
# It logs in with your own gcloud. The service account of the slice must be able to write to the bucket.
set -euo pipefail

RUN=${RUN:?name of the run: small letters, digits and -}
ZONE=${ZONE:?zone of the slice, such as us-west4-a}
WORKDIR=${WORKDIR:-${BUCKET:?address of the folder of all runs, such as gs://my-bucket/runs}/$RUN}
TYPE=${TYPE:-v5litepod-16}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite} # v6e: v2-alpha-tpuv6e; v4 and v5p: tpu-ubuntu2204-base, v2-alpha-tpuv5
PYTHON=${PYTHON:-3.12}                  # of uv: the image has Python 3.10, which is too old for JAX
REPOSITORY=${REPOSITORY:-}
BRANCH=${BRANCH:-main}
SPOT=${SPOT:-}                          # any text: a spot slice, which is cheaper and can be taken away
POLL=${POLL:-30}                        # seconds between two looks at the queue
PATTERN="'dtr1_jax[ ]--distributed'"    # does not match its own text, so pkill spares the shell that runs it

everywhere() { # runs a command on every host
  gcloud compute tpus tpu-vm ssh "$RUN" --zone="$ZONE" --worker=all --command="$1"
}

listed() { # name of the queued resource, or nothing if there is none; fails only where Google cannot be asked
  gcloud compute tpus queued-resources list --zone="$ZONE" --filter="name ~ (^|/)$RUN\$" --format='value(name)'
}

state() { # state of the queued resource, such as ACTIVE
  gcloud compute tpus queued-resources describe "$RUN" --zone="$ZONE" --format='value(state.state)'
}

create() {
  gcloud compute tpus queued-resources create "$RUN" --node-id="$RUN" --zone="$ZONE" \
    --accelerator-type="$TYPE" --runtime-version="$RUNTIME" ${SPOT:+--spot}
}

await() { # waits until the slice is there; a network that fails now and then is no reason to give its place up
  local now misses=0
  while true; do
    if now=$(state); then
      misses=0
    elif ((++misses > 5)); then
      return 1
    else
      now=''
    fi
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING)
        echo "queued resource $RUN is $now; delete it and try again" >&2
        return 1
        ;;
    esac
    sleep "$POLL"
  done
}

install() {
  local address branch
  address=$(printf %q "${REPOSITORY:?address of the repository}")
  branch=$(printf %q "$BRANCH")
  everywhere "set -e
    export PATH=\"\$HOME/.local/bin:\$PATH\"
    command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
    test -d dtr1_jax || git clone --branch $branch $address dtr1_jax
    cd dtr1_jax
    test -d .venv || uv venv --python $PYTHON .venv
    uv pip install --quiet --python .venv/bin/python --editable '.[tpu,gs]'"
}

train() {
  local workdir more=''
  workdir=$(printf %q "$WORKDIR")
  if (($#)); then more=$(printf ' %q' "$@"); fi
  everywhere "cd dtr1_jax && exec .venv/bin/python -m dtr1_jax --distributed --workdir=$workdir --config=configs/seg.py \
    --config.policy.dtype=bfloat16 --config.grpo.micro_queries=4 \
    --config.rollout.queries=64 --config.train.eval_batch=64$more"
}

stop() { # returns when no process of a run is left, or after five minutes
  everywhere "pkill -TERM --full $PATTERN || true
    timeout 300 bash -c \"while pgrep --full $PATTERN >/dev/null; do sleep 2; done\""
}

delete() {
  gcloud compute tpus queued-resources delete "$RUN" --zone="$ZONE" --force --quiet
}

create_or_say() { # a failed creation deletes nothing: it can mean that somebody else has a slice of this name
  local status=0
  create || status=$?
  if ((status)); then
    trap - EXIT INT TERM
    echo "queued resource $RUN could not be created; if it is there all the same, delete it by hand" >&2
    exit "$status"
  fi
}

began='' # whether hosts may be running the program
leave() { # the end of `run`: the slice that it made is deleted, after a run that is still going has saved
  local status=$?
  trap - EXIT INT TERM
  if ((status)) && [[ -n $began ]]; then stop || echo "the run could not be stopped before its slice is deleted" >&2; fi
  delete || echo "queued resource $RUN could not be deleted and may cost money: delete it by hand" >&2
  exit "$status"
}

command=${1:?run, create, install, train, stop or delete}
shift
case $command in
  run)
    there=$(listed)
    if [[ -z $there ]]; then
      trap leave EXIT
      trap 'exit 130' INT
      trap 'exit 143' TERM
      create_or_say
    fi
    await
    install
    began=1
    train "$@"
    ;;
  create) create && await ;;
  install) install ;;
  train) train "$@" ;;
  stop) stop ;;
  delete) delete ;;
  *)
    echo "expected run, create, install, train, stop or delete, got $command" >&2
    exit 2
    ;;
esac
