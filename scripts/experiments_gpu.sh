#!/usr/bin/env bash
# CIFAR-10 on a GPU with no network: LIF beside LNM in spiking ResNets. Run by `make experiments-gpu`.
#
#   DATA=folder          CIFAR-10 in any layout of docs/data.md
#   GPU_PYTHON, WHEELS   the interpreter, see scripts/gpu_python.sh
#   PLAN=gpu_cifar10     another plan of experiments/
#   EXPERIMENT_ARGS=     passed to lnm compare, such as --minutes 25
#   LIMIT=seconds        the run is stopped then, and the table is printed; by default it has no limit
#   ARCHIVE=file.tar.gz  the table and the run folders without weights, written at the end
#
# Goes on where it stopped, also within a run, after its last complete epoch.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly NAME=experiments-gpu PLAN=${PLAN:-gpu_cifar10}
[ -n "${DATA:-}" ] || { echo "$NAME: no data. Name the folder of CIFAR-10: make experiments-gpu DATA=folder" >&2; exit 2; }
# shellcheck source=scripts/gpu_python.sh
. scripts/gpu_python.sh

readonly RESULTS="experiments/results/$PLAN.csv" RUNS="experiments/runs/$PLAN"
status=0
# shellcheck disable=SC2086  # words of EXPERIMENT_ARGS are arguments
timeout --kill-after=10 "$((${LIMIT:-0} > 0 ? LIMIT - SECONDS : 0))" "$RUN" -m lnm_codegen.cli compare "experiments/$PLAN.toml" \
  --results "$RESULTS" --out "$RUNS" --data-dir "$DATA" ${EXPERIMENT_ARGS:-} || status=$?
left=()
for path in "$RESULTS" "$RUNS"; do
  [ ! -e "$path" ] || left+=("$path")
done
[ -z "${ARCHIVE:-}" ] || [ ${#left[@]} -eq 0 ] || tar -czf "$ARCHIVE" --exclude='*.safetensors' "${left[@]}"
"$RUN" -m lnm_codegen.cli compare "experiments/$PLAN.toml" --results "$RESULTS" --out "$RUNS" --table \
  --reference "resnet18, T = 4, LIF"
exit $status
