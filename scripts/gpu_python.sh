# Interpreter of the GPU scripts, which source this file: sets RUN, and PYTHONPATH to this folder.
#
#   GPU_PYTHON=python3   an interpreter that has PyTorch for this GPU and Triton
#   WHEELS=folder        wheels of what else lnm_codegen needs, if that interpreter lacks it; offline
#
# All wheels go into a folder of PYTHONPATH. An environment of its own over GPU_PYTHON would not do: one over another
# virtual environment does not show its packages, and cuda-bindings looks for NVRTC only in its own.
# shellcheck shell=bash

readonly RUN=${GPU_PYTHON:-python3} PACKAGES=$PWD/.gpu-packages
readonly NEEDED=(sympy mpmath numpy jinja2 pint typer rich matplotlib filelock platformdirs safetensors scikit-learn scipy)
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1

# Print those of some packages that the interpreter lacks.
missing() {
  "$RUN" -c '
import sys
from importlib.metadata import PackageNotFoundError, distribution
for name in sys.argv[1:]:
    try:
        distribution(name)
    except PackageNotFoundError:
        print(name)
' "$@"
}

# Stop unless the interpreter has some packages.
require() {
  local absent
  absent=$(missing "$@" | tr '\n' ' ')
  [ -z "$absent" ] || { echo "$NAME: packages are missing: ${absent% }. Name a folder with their wheels: WHEELS=folder" >&2; exit 1; }
}

"$RUN" -c '
import sys
try:
    import torch
except ImportError as error:
    raise SystemExit(f"{sys.argv[1]}: {error}. Name an interpreter that has PyTorch: GPU_PYTHON=...")
if not torch.cuda.is_available():
    raise SystemExit(f"{sys.argv[1]}: needs a GPU, and PyTorch finds none. Name an interpreter whose PyTorch finds one: GPU_PYTHON=...")
' "$NAME"
if [ -n "${WHEELS:-}" ]; then
  # Without what they depend on, which could bring another PyTorch.
  "$RUN" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --upgrade --target "$PACKAGES" \
    "$WHEELS"/*.whl
  PYTHONPATH=$PWD:$PACKAGES
fi
require "${NEEDED[@]}"
