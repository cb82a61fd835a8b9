# Sourced: installs what tests/launchers/hosts.py needs, where this is root on Debian. Without it, those tests skip.
# shellcheck shell=bash

install_for_hosts() {
  local program missing='' policy=/usr/sbin/policy-rc.d made=''
  for program in ip pdsh pgrep ssh ssh-keygen /usr/sbin/sshd; do
    command -v "$program" >/dev/null || missing+=" $program"
  done
  if [ -z "$missing" ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 0; fi
  echo "==> installing programs for tests with several hosts:$missing"
  # The ssh server is for the hosts of the tests: none is to start on this machine.
  if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
    made=$policy
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 \
    iproute2 openssh-server openssh-client pdsh procps >/dev/null; } ||
    echo "    they could not be installed: those tests skip" >&2
  if [ -n "$made" ]; then rm -f "$made"; fi
}
