#!/usr/bin/env bash
# Every GPU figure, with no network: the tests that need a GPU, then the benchmark. Run by `make bench-gpu`.
#
#   GPU_PYTHON=python3   an interpreter that has PyTorch for this GPU and Triton
#   WHEELS=folder        wheels of what else lnm_codegen needs, if that interpreter lacks it; offline
#
# Goes on where it stopped: a case that has its file in benchmarks/results/cuda is not measured again.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PYTHON=${GPU_PYTHON:-python3}
readonly EXTRA=.venv-gpu   # what WHEELS brings, beside the interpreter's own packages

if [ -n "${WHEELS:-}" ]; then
  [ -x $EXTRA/bin/python ] || "$PYTHON" -m venv --system-site-packages $EXTRA
  $EXTRA/bin/python -m pip install --quiet --no-index --find-links "$WHEELS" \
    sympy jinja2 typer rich matplotlib filelock platformdirs safetensors scikit-learn \
    pytest hypothesis pytest-xdist pytest-timeout
  $EXTRA/bin/python -m pip install --quiet --no-index --find-links "$WHEELS" cuda-bindings nvidia-cuda-nvrtc ||
    echo "bench_gpu: no cuda-bindings in $WHEELS: backend cuda is left out"
  RUN=$EXTRA/bin/python
else
  RUN=$PYTHON
fi
export PYTHONPATH=$PWD

"$RUN" -c 'import torch; assert torch.cuda.is_available(), "bench_gpu: PyTorch finds no GPU"'
"$RUN" -m pytest -q -m needs_cuda tests
# shellcheck disable=SC2086  # words of BENCH_ARGS are arguments
"$RUN" benchmarks/run.py --device cuda ${BENCH_ARGS:-}
