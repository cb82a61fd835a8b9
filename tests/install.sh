# Sourced by run.sh: Debian's packages that tests need beyond Python's.
# usage: install_for_tests PACKAGE=COMMAND...     installs those whose command, or file, is missing; as root, with apt-get

install_for_tests() {
  local pair missing=()
  for pair in "$@"; do
    if ! command -v "${pair#*=}" >/dev/null && [ ! -e "${pair#*=}" ]; then missing+=("${pair%%=*}"); fi
  done
  if [ "${#missing[@]}" = 0 ]; then return; fi
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "==> not installed, so that their tests are skipped: ${missing[*]}"
    return
  fi
  echo "==> installing ${missing[*]}"
  apt_get_quietly "${missing[@]}" || echo "==> could not install them, so that their tests are skipped"
}

# A subshell, so that its trap ends with it.
apt_get_quietly() (
  refuse=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
  # Their daemons shall not start on this machine. Somebody's own word on that stays.
  if (set -C && printf '#!/bin/sh\nexit 101\n' >"$refuse") 2>/dev/null; then
    trap 'rm -f "$refuse"' EXIT
    trap 'exit 130' INT TERM
    chmod 755 "$refuse"
  fi
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@" >/dev/null
)
