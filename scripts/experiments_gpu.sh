#!/usr/bin/env bash
# CIFAR-10 on a GPU with no network: LIF beside LNM in spiking ResNets. Run by `make experiments-gpu`.
#
#   DATA=folder          CIFAR-10 in any layout of docs/data.md
#   GPU_PYTHON=python3   an interpreter that has PyTorch for this GPU and Triton
#   WHEELS=folder        wheels of what else lnm_codegen needs, if that interpreter lacks it; offline
#   EXPERIMENT_ARGS=     passed to experiments/run.py, such as --minutes 25
#
# Goes on where it stopped, also within a run, after its last complete epoch.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PYTHON=${GPU_PYTHON:-python3}
readonly EXTRA=.venv-gpu
. scripts/beside.sh

[ -n "${DATA:-}" ] || { echo "experiments-gpu: no data. Name the folder of CIFAR-10: make experiments-gpu DATA=folder" >&2; exit 2; }
RUN=$PYTHON
if [ -n "${WHEELS:-}" ]; then
  beside "$PYTHON" $EXTRA
  RUN=$EXTRA/bin/python
  "$PYTHON" -m pip --python $RUN install --quiet --disable-pip-version-check --no-index --find-links "$WHEELS" \
    sympy mpmath numpy jinja2 pint typer rich matplotlib filelock platformdirs safetensors scikit-learn
fi
export PYTHONPATH=$PWD
"$RUN" -c '
import torch
if not torch.cuda.is_available():
    raise SystemExit("experiments-gpu: PyTorch finds no GPU. Name an interpreter that has PyTorch for it: GPU_PYTHON=...")
'
# shellcheck disable=SC2086  # words of EXPERIMENT_ARGS are arguments
"$RUN" experiments/run.py gpu_cifar10 --data-dir "$DATA" ${EXPERIMENT_ARGS:-}
exec "$RUN" experiments/table.py gpu_cifar10 --against "resnet18, T = 4, LIF"
