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
# shellcheck source=supervise.sh
source "$here/supervise.sh"
# shellcheck source=first_error.sh
source "$here/first_error.sh"
[ -n "${1:-}" ] || { echo "usage: multi_node.sh HOSTFILE --config RECIPE ... (--help says more)" >&2; exit 2; }
stopping=''
private=$(mktemp -d)
# A request that nobody obeyed any more would stop the next start.
trap 'rm -rf "$private"; if [ -n "$stopping" ] && [ -n "${asked:-}" ]; then rm -f "$run/stop"; fi' EXIT
# What the ranks say to run when they have stopped.
MMAE_COMMAND="${MASTER_ADDR:+MASTER_ADDR=$MASTER_ADDR }$(printf '%q ' bash "$here/multi_node.sh" "$@")"
export MMAE_COMMAND
python -m mmae.launch.multi_node "$private" "$@"
mapfile -d '' -t command <"$private/command"
mapfile -d '' -t facts <"$private/facts"
restarts=${facts[0]} run=${facts[1]} ssh=${facts[2]} hosts=${facts[3]} address=${facts[4]} port=${facts[5]}
ssh_port=${facts[6]}
read -ra pdsh_options <<<"${facts[7]}"
ask_first=${facts[8]} users_file=${DS_ENV_FILE:-}

# The user's own .deepspeed_env is taken in, and not touched.
start() {
  if [ -n "$ssh" ]; then
    python -m mmae.launch.rank_environment "$private/exports" "$users_file"
    export DS_ENV_FILE=$private/exports
    if [ -n "$ask_first" ]; then
      PDSH_SSH_ARGS_APPEND="$PDSH_SSH_ARGS_APPEND${ssh_port:+ -p $ssh_port}" \
        python -m mmae.launch.ssh_check "$hosts" ${pdsh_options[@]+"${pdsh_options[@]}"} || return
    fi
    first_error_last "${command[@]}"
  else
    exec "${command[@]}"
  fi
}

if [ -n "$ssh" ]; then
  # Else ssh waits without end for a host that is cut off.
  PDSH_SSH_ARGS_APPEND="${PDSH_SSH_ARGS_APPEND:-} -o ServerAliveInterval=5 -o ServerAliveCountMax=6"
  export PDSH_SSH_ARGS_APPEND
  # The ranks live on other machines, where no signal of this shell reaches them; all see the run's folder.
  signal_ranks() { [ -d "$run" ] && touch "$run/stop" && asked=1; }
  end_early() { kill_ranks; }
  # By the launch process of this very job; a bracket keeps the pattern from finding its own shell.
  kill_ranks() {
    kill -KILL -- "-$job" || true
    PDSH_RCMD_TYPE=ssh PDSH_SSH_ARGS_APPEND="${PDSH_SSH_ARGS_APPEND:-}${ssh_port:+ -p $ssh_port}" \
      timeout 60 pdsh -t 10 -u 30 -w "$hosts" ${pdsh_options[@]+"${pdsh_options[@]}"} "for launch in \$(pgrep -u \$(id -u) -f \
'[m]aster_addr=$address --master_port=$port '); do pkill -KILL -P \$launch; kill -KILL \$launch; done" >&2 || true
  }
else
  keep_errors "$private/errors"
fi
if [ -n "${DRY_RUN:-}" ]; then
  if [ -n "$ssh" ]; then python -m mmae.launch.rank_environment "$private/exports" "$users_file"; cat "$private/exports" >&2; fi
  printf '%q ' "${command[@]}"; echo; exit
fi
supervise "$restarts" start
