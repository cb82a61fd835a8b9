#!/usr/bin/env bash
# One node: every GPU, chosen GPUs, or two CPU ranks where there is none.
#   bash launchers/single_node.sh --config vit_l --deepspeed_config zero1 data.shards=SHARDS
# GPUS=0,1,4   only these GPUs          RANKS=4   so many ranks
# DRY_RUN=1    print the command and stop
set -euo pipefail
gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
if [ -n "${GPUS:-}" ]; then where=(--include "localhost:$GPUS"); else where=(--num_gpus "${RANKS:-$((gpus > 0 ? gpus : 2))}"); fi
# A port of its own: another training on this machine may hold DeepSpeed's default one.
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
command=(deepspeed "${where[@]}" --master_port "$port" --module mmae.train "$@")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
exec "${command[@]}"
