# Sourced by quickstart.sh and tests/run.sh: makes .venv in the checkout, and installs again when setup.py or
# pyproject.toml changes.
# usage: prepare_venv FOLDER [EXTRA]     (EXTRA: dev)

prepare_venv() {
  local root=$1 extra=${2:-} python=${PYTHON:-} candidate stamp wanted
  if ! command -v g++ >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      echo "==> installing a C++ compiler (DeepSpeed builds its communication op with it)"
      apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq g++ >/dev/null
    else
      echo "error: g++ is missing: install a C++ compiler (Debian: apt-get install g++)" >&2
      return 2
    fi
  fi
  if [ -z "$python" ]; then
    for candidate in python3.11 python3.12 python3.13 python3; do
      if command -v "$candidate" >/dev/null &&
        "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
      fi
    done
  fi
  if [ -z "$python" ]; then
    echo "error: no Python 3.11 or newer with venv found: install one, or name it with PYTHON=/path/to/python" >&2
    return 2
  fi
  wanted=$(cat "$root/setup.py" "$root/pyproject.toml" | sha256sum | cut -c1-16)$extra
  stamp=$root/.venv/.mmae-installed
  if ! grep -qsxF "$wanted" "$stamp"; then
    echo "==> installing mmae and what it needs into $root/.venv (a few minutes the first time)"
    [ -x "$root/.venv/bin/python" ] || "$python" -m venv "$root/.venv"
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$root${extra:+[$extra]}"
    echo "$wanted" >>"$stamp"
  fi
  # The deepspeed command starts ranks with the python and ninja that stand first in PATH.
  export PATH="$root/.venv/bin:$PATH"
}
