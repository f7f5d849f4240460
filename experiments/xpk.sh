#!/usr/bin/env bash
# GRPO on a GKE cluster of TPUs through xpk. Only its calls of a stand-in for xpk were tested, never a real cluster.
#
#   export RUN=seg-7b CLUSTER=my-cluster TYPE=v5litepod-16 BUCKET=gs://my-bucket/runs IMAGE=REGISTRY/dtr1_jax:tag
#   bash experiments/xpk.sh --config.optim.lr=3e-4
#   PATHWAYS=1 bash experiments/xpk.sh ...      one process for all hosts, through Pathways
#
# RUN names the workload and the workdir $BUCKET/$RUN, so the same command resumes the run: the ended workload of that
# name is deleted first, and a running one is left alone. All arguments go to `python -m dtr1_jax`, unchanged on every
# host. The image has dtr1_jax installed with the extras tpu and gs, and for Pathways pathwaysutils too, and is run in
# the folder of the repository.
set -euo pipefail

RUN=${RUN:?name of the run: small letters, digits and -}
CLUSTER=${CLUSTER:?name of the cluster}
IMAGE=${IMAGE:?image of the container}
WORKDIR=${WORKDIR:-${BUCKET:?address of the folder of all runs, such as gs://my-bucket/runs}/$RUN}
TYPE=${TYPE:-v5litepod-16}
SLICES=${SLICES:-1}
RESTARTS=${RESTARTS:-10} # how often GKE starts the run again by itself, after a preemption
PATHWAYS=${PATHWAYS:-}

places=(--cluster="$CLUSTER" ${PROJECT:+--project="$PROJECT"} ${ZONE:+--zone="$ZONE"})
workdir=$(printf %q "$WORKDIR")
more=''
if (($#)); then more=$(printf ' %q' "$@"); fi
joining=--distributed
create=create
if [[ -n $PATHWAYS ]]; then
  joining='' # Pathways shows the chips of all hosts to one process
  create='create-pathways'
fi
command="exec python -m dtr1_jax --workdir=$workdir --config=configs/seg.py --config.policy.dtype=bfloat16 \
  --config.grpo.micro_queries=4 --config.rollout.queries=64 \
  --config.train.eval_batch=64 $joining$more"

for state in RUNNING QUEUED; do
  listed=$(xpk workload list "${places[@]}" --filter-by-status="$state" --filter-by-job="^$RUN\$")
  if grep -qw -- "$RUN" <<<"$(grep -v -- '^\[XPK\]' <<<"$listed")"; then
    echo "workload $RUN is $state already; its workdir is $WORKDIR" >&2
    exit 1
  fi
done
listed=$(xpk workload list "${places[@]}" --filter-by-status=FINISHED --filter-by-job="^$RUN\$")
if grep -qw -- "$RUN" <<<"$(grep -v -- '^\[XPK\]' <<<"$listed")"; then
  xpk workload delete "${places[@]}" --workload="$RUN" --force
fi
xpk workload "$create" "${places[@]}" --workload="$RUN" --tpu-type="$TYPE" --num-slices="$SLICES" \
  --docker-image="$IMAGE" --max-restarts="$RESTARTS" --command="$command"
