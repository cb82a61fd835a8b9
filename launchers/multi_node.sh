#!/usr/bin/env bash
# Many nodes over ssh; checkout, environment, shards and run folder lie on a filesystem that all nodes share.
#   bash launchers/multi_node.sh HOSTFILE --config vit_h --deepspeed_config zero1 data.shards=SHARDS
# MASTER_ADDR=name   address that the other nodes reach the first one at (default: the first host of HOSTFILE)
# DRY_RUN=1          print the command and stop
set -euo pipefail
hostfile=${1:?usage: multi_node.sh HOSTFILE --config RECIPE ...}
shift
[ -r "$hostfile" ] || { echo "error: $hostfile: no such hostfile (see launchers/hostfile.example)" >&2; exit 2; }
first=$(awk '!/^[[:space:]]*(#|$)/ {print $1; exit}' "$hostfile")
command=(deepspeed --hostfile "$hostfile" --master_addr "${MASTER_ADDR:-$first}" --module mmae.train "$@")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
exec "${command[@]}"
