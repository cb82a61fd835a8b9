#!/usr/bin/env bash
# One node: every GPU that was given (CUDA_VISIBLE_DEVICES), or two CPU ranks where there is none.
#   bash launchers/single_node.sh [--restarts N] --config vit_l --deepspeed_config zero1 data.shards=SHARDS
# --restarts N     start again, up to N times, when a rank was lost (status 4) or killed; never after 0, 2 or 3
# GPUS=0,1,4       only these GPUs, by number or by name (nvidia-smi -L)          RANKS=4   so many ranks
# MMAE_GRACE=300   seconds that the ranks have to save and stop after SIGTERM, SIGINT, SIGUSR1 or SIGHUP
# DRY_RUN=1        print the command and stop
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=usage.sh
source "$here/usage.sh"
help_if_asked "${BASH_SOURCE[0]}" "$@"
exec python -m mmae.launch.single_node "$@"
