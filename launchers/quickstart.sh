#!/usr/bin/env bash
# From nothing to a trained, resumed and exported model and a picture of what it reconstructs.
#   bash launchers/quickstart.sh
# MMAE_DATA=folder   an MMEarth folder (NAME.h5 and its three JSON files) instead of made-up tiles
# MMAE_OUT=folder    where everything goes (default: runs/quickstart in the checkout)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=usage.sh
source "$root/launchers/usage.sh"
help_if_asked "${BASH_SOURCE[0]}" "$@"
refuse_words "${BASH_SOURCE[0]}" "$@"
# shellcheck source=prepare_venv.sh
source "$root/launchers/prepare_venv.sh"
# A training that is interrupted saves and ends well; what comes after it must not begin.
trap 'exit 130' INT
trap 'exit 143' TERM
say() { printf '\n==> %s\n' "$*"; }

say "1/7 virtual environment"
prepare_venv "$root" pictures

out=$(realpath -m "${MMAE_OUT:-$root/runs/quickstart}")
data=${MMAE_DATA:+$(realpath -m "$MMAE_DATA")}
mkdir -p "$out"
# Each start is a run of its own: nothing of an earlier one is touched.
run=$out/run-$(date +%Y%m%d-%H%M%S)
cd "$out"

val=()
if [ -z "$data" ]; then
  data=$out/synthetic
  say "2/7 made-up tiles in MMEarth's layout"
  [ -d "$data" ] && echo "    already there" || mmae synth "$data" --tiles 512
else
  say "2/7 tiles of $data"
  # The real MMEarth ships without a validation split.
  val=(--val-fraction 0.1)
  python - "$data" <<'PY' && val=() || true
import json, pathlib, sys
splits = json.loads(next(pathlib.Path(sys.argv[1]).glob("*_splits.json")).read_text())
sys.exit(not splits.get("val"))
PY
fi
shards=$out/shards-$(printf '%s' "$data" | sha256sum | cut -c1-8)

say "3/7 repack into WebDataset shards"
mmae repack "$data" "$shards" "${val[@]}"

# The smallest encoder, and twice as many visible patches: in two minutes on two cores it learns what a picture shows.
train=(bash "$root/launchers/single_node.sh" --config debug --deepspeed_config zero1 "data.shards=$shards" "run.dir=$run"
  model.size=nano model.num_encoded_tokens=98 train.max_steps=400 train.global_batch=32 train.micro_batch=16
  train.blr=2.4e-2 train.warmup_steps=50 checkpoint.every=200 val.every=100 log.every=10)

say "4/7 train on the GPUs given, or two CPU ranks, stop early, save"
"${train[@]}" train.stop_at=100

say "5/7 start again: it resumes from the ZeRO checkpoint and trains to the end"
"${train[@]}"

say "6/7 export to safetensors"
mmae export "$run" "$run/model"

say "7/7 draw what the model reconstructs, and write a report"
picture=$(mmae reconstruct "$run" --random 1 --seed 1 | tail -n 1)
mmae report "$run" --out "$run/report.html" >/dev/null

say "look at this file: $picture"
say "what else was made:"
printf '    %-12s %s\n' report "$run/report.html" shards "$shards" run "$run" log "$run/log.jsonl" \
  checkpoint "$run/checkpoints/$(cat "$run/checkpoints/latest")" model "$run/model"
