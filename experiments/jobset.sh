#!/usr/bin/env bash
# GRPO on a GKE cluster of TPUs as a JobSet, by kubectl alone. Only its calls of a stand-in for kubectl were tested.
#
#   export RUN=seg-7b BUCKET=gs://my-bucket/runs IMAGE=REGISTRY/dtr1_jax:tag TOPOLOGY=4x4 HOSTS=4
#   bash experiments/jobset.sh --config.optim.lr=3e-4
#   PRINT=1 bash experiments/jobset.sh ...      prints the JobSet instead of sending it
#
# RUN names the JobSet and the workdir $BUCKET/$RUN, so the same command resumes the run: the ended JobSet of that name
# is deleted first, and a running one is left alone. All arguments go to `python -m dtr1_jax`, unchanged on every host.
# The cluster has the JobSet controller. The image has dtr1_jax installed with the extras tpu and gs, and is run in the
# folder of the repository. When a pod ends before the others, as after a preemption, the JobSet starts all of them
# again, and they go on from the newest checkpoint. SIGTERM comes two minutes before a pod is killed: the run saves.
set -euo pipefail

export RUN=${RUN:?name of the run: small letters, digits and -}
export IMAGE=${IMAGE:?image of the container}
export WORKDIR=${WORKDIR:-${BUCKET:?address of the folder of all runs, such as gs://my-bucket/runs}/$RUN}
export ACCELERATOR=${ACCELERATOR:-tpu-v5-lite-podslice} TOPOLOGY=${TOPOLOGY:-4x4}
export HOSTS=${HOSTS:-4} CHIPS=${CHIPS:-4}              # hosts of a slice, and chips of a host
export SLICES=${SLICES:-1} RESTARTS=${RESTARTS:-10}
export ACCOUNT=${ACCOUNT:-default}                      # Kubernetes service account that may write to the bucket

command=(python -m dtr1_jax --distributed --workdir="$WORKDIR" --config=configs/seg.py --config.policy.dtype=bfloat16 \
  --config.grpo.micro_queries=4 --config.rollout.queries=64 \
  --config.train.eval_batch=64 "$@")

# JSON, which kubectl takes as YAML: whatever is in an argument stays one argument.
jobset=$(python3 - "${command[@]}" <<'END'
import json, os, sys

e = os.environ
chips = {"google.com/tpu": int(e["CHIPS"])}
container = {
    "name": "dtr1", "image": e["IMAGE"], "command": sys.argv[1:],
    "ports": [{"containerPort": 8471}, {"containerPort": 8080}],
    "resources": {"requests": chips, "limits": chips},
}
pod = {
    "serviceAccountName": e["ACCOUNT"], "restartPolicy": "Never", "terminationGracePeriodSeconds": 120,
    "nodeSelector": {
        "cloud.google.com/gke-tpu-accelerator": e["ACCELERATOR"], "cloud.google.com/gke-tpu-topology": e["TOPOLOGY"],
    },
    "containers": [container],
}
hosts = int(e["HOSTS"])
job = {"parallelism": hosts, "completions": hosts, "backoffLimit": 0, "template": {"spec": pod}}
print(json.dumps({
    "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet",
    "metadata": {
        "name": e["RUN"],
        "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
    },
    "spec": {
        "network": {"enableDNSHostnames": True}, "failurePolicy": {"maxRestarts": int(e["RESTARTS"])},
        "replicatedJobs": [{"name": "slice", "replicas": int(e["SLICES"]), "template": {"spec": job}}],
    },
}, indent=2))
END
)
if [[ -n ${PRINT:-} ]]; then
  printf '%s\n' "$jobset"
  exit
fi
name=$(kubectl get jobset "$RUN" --ignore-not-found --output=name)
if [[ -n $name ]]; then
  ended=$(kubectl get jobset "$RUN" --output='jsonpath={.status.terminalState}')
  if [[ -z $ended ]]; then
    echo "JobSet $RUN is running already; its workdir is $WORKDIR" >&2
    exit 1
  fi
  kubectl delete jobset "$RUN" --wait
fi
kubectl apply --filename=- <<<"$jobset"
