# Sourced by the other scripts: --help prints the comment at the head of a script.
# usage: help_if_asked SCRIPT WORDS...     refuse_words SCRIPT WORDS...    (of a script that takes none)
# shellcheck shell=bash

help_if_asked() {
  local script=$1 word
  shift
  for word in "$@"; do
    case $word in
      -h | --help) sed -n '2,${/^# /!q;s/^# //p}' "$script"; exit 0 ;;
    esac
  done
}

refuse_words() {
  local script
  script=$(basename "$1")
  shift
  [ $# = 0 ] || { echo "error: $script takes no words, not $1: --help shows the variables it takes" >&2; exit 2; }
}
