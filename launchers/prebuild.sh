#!/usr/bin/env bash
# Builds the C++ ops of DeepSpeed that training needs, so that no start has to: once a machine, in an image, or before
# nodes go offline. A node of another processor or CUDA needs a TORCH_EXTENSIONS_DIR of its own.
#   TORCH_EXTENSIONS_DIR=folder bash launchers/prebuild.sh
# OPS="ShareMemComm PinMemory AsyncIO"   only these: communication of CPU ranks, pinned memory there, NVMe (needs libaio)
# DS_ACCELERATOR=cuda                    for nodes with GPUs, on a machine without
# DRY_RUN=1          print the command, leave locks alone, and stop
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=usage.sh
source "$here/usage.sh"
help_if_asked "${BASH_SOURCE[0]}" "$@"
refuse_words "${BASH_SOURCE[0]}" "$@"
# torch adds the versions of Python and CUDA to its own default, and nothing to a folder that is named.
folder=${TORCH_EXTENSIONS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/torch_extensions}
build='import sys
from deepspeed.accelerator import get_accelerator
for name in sys.argv[1:]:
    builder = get_accelerator().create_op_builder(f"{name}Builder")
    if builder is None or not hasattr(builder, "NAME"):
        print(f"==> {name}: not used on {get_accelerator()._name}")
        continue
    print(f"==> {name}: {builder.NAME}", flush=True)
    builder.load(verbose=False)'
read -ra ops <<<"${OPS:-}"
if [ "${#ops[@]}" = 0 ]; then
  ops=(ShareMemComm PinMemory)
  if [ -e /usr/include/libaio.h ]; then ops+=(AsyncIO); else echo "no libaio.h: not building async_io, for NVMe offload" >&2; fi
fi
command=(python -c "$build" "${ops[@]}")
if [ -n "${DRY_RUN:-}" ]; then printf '%q ' "${command[@]}"; echo; exit; fi
command -v g++ >/dev/null || { echo "error: g++ is missing: install a C++ compiler (Debian: apt-get install g++)" >&2; exit 2; }

# Older releases of torch wait for ever for a lock file that a killed build left; newer ones lock the file itself, and
# leave it. Who holds it keeps it open. On a filesystem that other machines share it may be one of them: a build of
# theirs would have written within ten minutes.
is_held() {
  local fd
  for fd in /proc/[0-9]*/fd/*; do [ "$fd" -ef "$1" ] && return 0; done
  case $(stat -f -c %T "$1") in
    ext2/ext3 | xfs | btrfs | tmpfs | overlayfs | zfs | f2fs | ramfs) return 1 ;;
    *) [ -n "$(find "$(dirname "$1")" -newermt '-10 minutes' -print -quit)" ] ;;
  esac
}
if [ -d "$folder" ]; then
  while IFS= read -r -d '' lock; do
    if is_held "$lock"; then echo "waiting for the build that holds $lock" >&2; continue; fi
    echo "removing $lock: no living build holds it" >&2
    rm -f "$lock"
  done < <(find "$folder" -name lock -type f -print0)
fi
exec "${command[@]}"
