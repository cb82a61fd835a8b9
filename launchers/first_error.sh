# Sourced: runs a command that speaks for many ranks, and repeats its first error when all has ended.
# usage: first_error_last COMMAND...     its status comes back; 4 where the connection to a host broke
# shellcheck shell=bash

# Passes its input on.
repeat_first_error() {
  local line first='' failed='' broken=''
  while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\n' "$line"
    case $line in
      *"mmae: error: "*) first=${first:-$line} ;;
      # What others say of a rank is surer than its own word: it may have failed because of them.
      *"mmae: rank "*" failed with "*) failed=${failed:-$line} ;;
      "pdsh@"*": ssh exited with exit code 255") line=${line#*: } broken+=" ${line%%:*}" ;;
    esac
  done
  if [ -n "$broken" ]; then say "lost the connection to$broken"; fi
  first=${first:-$failed}
  if [ -n "$first" ]; then say "the first error: $first"; fi
}

first_error_last() {
  local status
  set +e
  {
    "$@" 2>&1 1>&3 3>&- | repeat_first_error >&2 2>&1 3>&-
    status=${PIPESTATUS[0]}
  } 3>&1
  # ssh's own; 256 - 1 would be a rank killed by SIGHUP.
  if [ "$status" = 255 ]; then status=4; fi
  return "$status"
}
