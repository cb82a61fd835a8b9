#!/usr/bin/env bash
# Builds the C++ ops of DeepSpeed that training needs, so that no start has to: once for each machine, in an image, or
# before nodes go offline. A node with another processor or CUDA needs its own TORCH_EXTENSIONS_DIR. Locks that no
# living build holds are removed.
#   TORCH_EXTENSIONS_DIR=folder bash launchers/prebuild.sh
# OPS="ShareMemComm PinMemory AsyncIO"   only these: communication of CPU ranks, pinned memory there, NVMe (needs libaio)
# DS_ACCELERATOR=cuda                    for nodes with GPUs, on a machine without
# DRY_RUN=1                              print the command, leave locks alone, and stop
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=usage.sh
source "$here/usage.sh"
help_if_asked "${BASH_SOURCE[0]}" "$@"
refuse_words "${BASH_SOURCE[0]}" "$@"
read -ra ops <<<"${OPS:-}"
if [ "${#ops[@]}" = 0 ]; then
  ops=(ShareMemComm PinMemory)
  if [ -e /usr/include/libaio.h ]; then ops+=(AsyncIO); else echo "no libaio.h: not building async_io, for NVMe offload" >&2; fi
fi
command=(python -m mmae.launch.prebuild "${ops[@]}")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
command -v g++ >/dev/null || { echo "error: g++ is missing: install a C++ compiler (Debian: apt-get install g++)" >&2; exit 2; }
exec "${command[@]}"
