#!/usr/bin/env bash
# Everything that must hold: style, types, tests. Works on a bare machine, from any directory, twice in a row.
#   bash tests/run.sh              what continuous integration runs
#   bash tests/run.sh --all        the slow tests too
#   bash tests/run.sh --unit       style, types, and the quick tests: they start no process
#   bash tests/run.sh [--all|--unit] ...     further arguments go to pytest
#   TEST_PROCESSES=1 bash tests/run.sh       with another number of test processes than 2
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
# shellcheck source=../launchers/prepare_venv.sh
source launchers/prepare_venv.sh
prepare_venv "$root" "dev$([ "${1:-}" != --all ] || echo ,browser)"
# shellcheck source=install.sh
source tests/install.sh

tier=${1:-}
case $tier in
  --unit) shift; select=(--unit) ;;
  --all) shift; select=() ;;
  *) select=(-m "not slow") ;;
esac
if [ "$tier" != --unit ]; then
  # A Slurm, and several hosts with ssh, in namespaces of this machine.
  install_for_tests slurmctld=slurmctld slurmd=slurmd slurm-client=sbatch munge=munged util-linux=unshare \
    iproute2=ip openssh-server=/usr/sbin/sshd openssh-client=ssh pdsh=pdsh procps=pgrep
fi
if [ "$tier" = --all ]; then
  # NVMe offload is tested where DeepSpeed's async_io op can be built.
  # Pages are looked at in a real browser.
  install_for_tests libaio-dev=/usr/include/libaio.h chromium=chromium
fi
export MMAE_SHARED=${MMAE_SHARED:-$root/../shared}

echo "==> ruff"
ruff check .
ruff format --check .
echo "==> mypy"
mypy
echo "==> pytest"
# One thread a process: trainings start two ranks, and threads of both on the same cores slow each other down.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# Two at a time, because a test of a training waits for much of its time. Tests of a file share what it sets up.
python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile --no-loadscope-reorder ${select[@]+"${select[@]}"} "$@"
