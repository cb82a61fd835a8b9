# Sourced: repeats the first error of many ranks when all have ended.
# usage: first_error_last COMMAND...     of a command that speaks for ranks elsewhere; its status comes back, 4 where a
#                                        rank was killed or a host was lost
#        keep_errors FILE                of ranks here: they write into FILE too, and stderr may stay a terminal
# shellcheck shell=bash

keep_errors() {
  errors=$1
  : >"$errors"
  export MMAE_ERRORS=$errors
  say_why() {
    local first
    first=$(grep -m 1 '^mmae: error: ' "$errors" || head -n 1 "$errors")
    : >"$errors"
    [ -z "$first" ] || say "the first error: $first"
  }
}

# Passes its input on, and writes into a file what is to be said at the end.
watch_errors() {
  local line first='' failed='' broken=''
  while IFS= read -r line || [ -n "$line" ]; do
    printf '%s\n' "$line" >&2
    case $line in
      *"mmae: error: "*) first=${first:-$line} ;;
      # What others say of a rank is surer than its own word: it may have failed because of them.
      *"mmae: rank "*" failed with "*) failed=${failed:-$line} ;;
      "pdsh@"*": ssh exited with exit code 255") line=${line#*: } broken+=" ${line%%:*}" ;;
    esac
  done
  first=${first:-$failed}
  printf '%s' "${broken:+lost the connection to$broken$'\n'}" "${first:+the first error: $first$'\n'}" >"$1"
}

first_error_last() {
  local status line said
  said=$(mktemp)
  set +e
  {
    "$@" 2>&1 1>&3 3>&- | watch_errors "$said" 3>&-
    status=${PIPESTATUS[0]}
  } 3>&1
  # 255 is ssh's own; DeepSpeed's launcher would end so too for a rank that SIGHUP killed.
  if [ "$status" -gt 192 ]; then
    [ "$status" = 255 ] || say "a rank was killed by signal $((256 - status))"
    status=4
  fi
  while IFS= read -r line; do say "$line"; done <"$said"
  rm -f "$said"
  return "$status"
}
