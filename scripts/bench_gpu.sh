#!/usr/bin/env bash
# Every GPU figure, with no network: the tests that need a GPU, then the benchmark. Run by `make bench-gpu`.
#
#   GPU_PYTHON=python3   an interpreter that has PyTorch for this GPU and Triton
#   WORKERS=8            processes of the tests, where pytest-xdist is installed: most of their time is compilation
#   SLICE=540            seconds after which no training step of SEW-ResNet-18 is begun (benchmarks/sew_resnet.py)
#   WHEELS=folder        wheels of what else lnm_codegen needs, if that interpreter lacks it; offline
#
# Goes on where it stopped: a case that has its file in benchmarks/results/cuda is not measured again. A test that
# fails does not keep the benchmark from running; what the tests said is in benchmarks/results/cuda/tests.txt.
# The exit status is that of the tests, or of the benchmark where those passed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PYTHON=${GPU_PYTHON:-python3}
readonly EXTRA=.venv-gpu   # what WHEELS brings, beside the interpreter's own packages
readonly RESULTS=benchmarks/results/cuda
. scripts/beside.sh

if [ -n "${WHEELS:-}" ]; then
  beside "$PYTHON" $EXTRA
  RUN=$EXTRA/bin/python
  offline() { "$PYTHON" -m pip --python $RUN install --quiet --disable-pip-version-check --no-index --find-links "$WHEELS" "$@"; }
  offline sympy mpmath numpy jinja2 pint typer rich matplotlib filelock platformdirs safetensors scikit-learn \
    pytest hypothesis pytest-xdist pytest-timeout
  offline cuda-bindings nvidia-cuda-nvrtc || echo "bench_gpu: no cuda-bindings in $WHEELS: backend cuda is left out"
  # Without what they depend on, which would bring another PyTorch; loguru is what the used part imports.
  for peer in "spikingjelly loguru" snntorch; do
    # shellcheck disable=SC2086  # a library and what it imports
    offline --no-deps $peer || echo "bench_gpu: no $peer in $WHEELS: that comparison is left out"
  done
else
  RUN=$PYTHON
fi
export PYTHONPATH=$PWD

"$RUN" -c '
import torch
if not torch.cuda.is_available():
    raise SystemExit("bench_gpu: PyTorch finds no GPU. Name an interpreter that has PyTorch for it: GPU_PYTHON=...")
'
mkdir -p $RESULTS
status=0
parallel=()
"$RUN" -c 'import xdist' 2>/dev/null && parallel=(-n "${WORKERS:-8}" -p no:benchmark)
"$RUN" -m pytest -q "${parallel[@]}" -m needs_cuda tests/nn/test_gpu.py tests/nn/test_convergence.py tests/backends/package/test_backend.py 2>&1 | tee $RESULTS/tests.txt || status=$?
# A row whose compilation failed has its reason in the table; the other figures follow anyway.
"$RUN" benchmarks/sew_resnet.py --slice "${SLICE:-540}" || true
# shellcheck disable=SC2086  # words of BENCH_ARGS are arguments
"$RUN" benchmarks/run.py --device cuda ${BENCH_ARGS:-} || { [ $status -ne 0 ] || status=1; }
exit $status
