#!/usr/bin/env bash
# Many nodes over ssh; checkout, environment, shards and run folder lie on a filesystem that all nodes share.
#   bash launchers/multi_node.sh HOSTFILE [options] --config vit_h --deepspeed_config zero1 data.shards=SHARDS
# --include a@b:0,2, --exclude a:1, --num_nodes 4, --num_gpus 2, --master_port 29500, --ssh_port 22    as DeepSpeed's
# --restarts N             start again, up to N times, when a rank or a host was lost; never after 0, 2 or 3
# --no_ssh --node_rank N   no ssh: run this on every node, with its place in HOSTFILE (0 for the first)
# MASTER_ADDR=name         address that the other nodes reach the first one at (default: its name in HOSTFILE)
# MMAE_GRACE=300           seconds that the ranks have to save and stop after SIGTERM, SIGINT, SIGUSR1 or SIGHUP
# DRY_RUN=1                print the command, and on stderr the variables that the ranks get, and stop
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=usage.sh
source "$here/usage.sh"
help_if_asked "${BASH_SOURCE[0]}" "$@"
exec python -m mmae.launch.multi_node "$@"
