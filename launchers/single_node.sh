#!/usr/bin/env bash
# One node: every GPU, chosen GPUs, or two CPU ranks where there is none.
#   bash launchers/single_node.sh [--restarts N] --config vit_l --deepspeed_config zero1 data.shards=SHARDS
# --restarts N     start again, up to N times, when a rank was lost (status 4) or killed; never after 0, 2 or 3
# GPUS=0,1,4       only these GPUs          RANKS=4   so many ranks
# MMAE_GRACE=300   seconds that the ranks have to save and stop after SIGTERM, SIGINT, SIGUSR1 or SIGHUP
# DRY_RUN=1        print the command and stop
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=supervise.sh
source "$here/supervise.sh"
# shellcheck source=first_error.sh
source "$here/first_error.sh"
restarts=0
again=(bash "$here/single_node.sh" "$@")
if [ "${1:-}" = --restarts ]; then
  restarts=${2:-}
  [[ $restarts =~ ^[0-9]+$ ]] || { echo "error: --restarts needs a number, as in --restarts 3" >&2; exit 2; }
  shift 2
fi
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
if [ -n "${GPUS:-}" ]; then where=(--include "localhost:$GPUS"); else where=(--num_gpus "${RANKS:-$((gpus > 0 ? gpus : 2))}"); fi
# A port of its own: another training on this machine may hold DeepSpeed's default one.
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
command=(deepspeed "${where[@]}" --master_port "$port" --module mmae.train "$@")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
# What the ranks say to run when they have stopped.
MMAE_COMMAND="${GPUS:+GPUS=$GPUS }${RANKS:+RANKS=$RANKS }$(printf '%q ' "${again[@]}")"
export MMAE_COMMAND
kept=$(mktemp)
trap 'rm -f "$kept"' EXIT
keep_errors "$kept"
supervise "$restarts" "${command[@]}"
