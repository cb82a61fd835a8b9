# Sourced: runs a `deepspeed` command so that signals reach its ranks, and their status comes back.
# usage: supervise RESTARTS COMMAND...     0 done or stopped well, 2 bad input, 3 lost numbers, 4 lost rank
#
# A signal to `deepspeed` ends only that: its ranks live on as orphans, or are killed while they save. Here it runs in a
# process group of its own, where a terminal's Ctrl-C does not reach it, and signals are passed to the ranks alone.
# shellcheck shell=bash

say() { echo "$(basename "$0"): $*" >&2; }

children_of() {
  if command -v pgrep >/dev/null; then pgrep -P "$1"; else cat "/proc/$1/task/$1/children"; fi 2>/dev/null || true
}

# DeepSpeed's runner starts a launch process, which starts the ranks.
ranks_of() { for launch in $(children_of "$1"); do children_of "$launch"; done; }

# Launchers whose ranks are no descendants of theirs define these anew.
# The first fails where there are no ranks yet: then there is nothing to save.
signal_ranks() {
  local ranks
  mapfile -t ranks < <(ranks_of "$job")
  [ "${#ranks[@]}" != 0 ] || return 1
  kill -s "$1" "${ranks[@]}" || true
}
end_early() { kill -TERM -- "-$job"; }
kill_ranks() { kill -KILL -- "-$job"; }
# Seconds until they are killed.
grace_after() { echo "$grace"; }
# Called when all have ended badly.
say_why() { :; }

pass_on() {
  local signal=$1
  stopping=$signal
  if [ -z "$deadline" ]; then
    grace=$(grace_after "$signal")
    deadline=$((SECONDS + grace))
    say "SIG$signal: the ranks save and stop, within $grace s (MMAE_GRACE)"
  fi
  { signal_ranks "$signal" || end_early; } 2>/dev/null || true
}

# Runs a command to its end, through signals, but not past the grace once one came. Sets `status`.
run_job() {
  status=0
  # Job control gives it its own process group, and leaves SIGINT as it is.
  set -m
  "$@" &
  job=$!
  set +m
  while kill -0 "$job" 2>/dev/null; do
    if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
      say "the ranks did not stop within $grace s and are killed; the last checkpoint is untouched"
      kill_ranks 2>/dev/null || true
    fi
    # In the background, so that a signal is answered at once.
    sleep 0.5 &
    wait $! || true
  done
  wait "$job" || status=$?
  # Whatever outlived it would go on writing beside a later start.
  kill_ranks 2>/dev/null || true
  # A rank's death by signal N is 256 - N at DeepSpeed's launcher, and 128 + N everywhere else.
  if [ "$status" -gt 192 ]; then status=$((384 - status)); fi
}

supervise() {
  local restarts=$1 pause=${MMAE_PAUSE:-5} round
  shift
  grace=${MMAE_GRACE:-300} stopping='' deadline='' job=''
  # Tells a start again from one of an earlier launch.
  export MMAE_LAUNCH="$HOSTNAME-$$-$(date +%s)"
  trap 'pass_on TERM' TERM HUP
  trap 'pass_on INT' INT
  trap 'pass_on USR1' USR1
  for ((round = 1; ; round++)); do
    if [ -n "$stopping" ]; then return 143; fi
    run_job "$@"
    if [ -z "$stopping" ] && [ "$status" -gt 128 ]; then
      say "a rank was killed by signal $((status - 128))"
      status=4
    fi
    if [ "$status" != 0 ]; then say_why; fi
    if [ -n "$stopping" ]; then return "$status"; fi
    if [ "$status" != 4 ] || [ "$round" -gt "$restarts" ]; then return "$status"; fi
    say "lost a rank: restart $round of $restarts in $pause s, from the last checkpoint"
    # What only a first start follows (--resume, --fresh) is not followed again, if it came to that.
    export MMAE_RESTARTS=$round
    sleep "$pause" &
    wait $! || true
    if [ -n "$stopping" ]; then return "$status"; fi
    pause=$((pause * 2))
  done
}
