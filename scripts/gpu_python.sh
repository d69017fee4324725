# Interpreter of the GPU scripts, which source this file: sets RUN, and PYTHONPATH to this folder.
#
#   GPU_PYTHON=python3   an interpreter that has PyTorch for this GPU and Triton
#   WHEELS=folder        wheels of what else lnm_codegen needs, if that interpreter lacks it; offline
#
# With WHEELS, RUN is an environment of its own over the packages of GPU_PYTHON. GPU_PYTHON may itself be of a virtual
# environment, whose packages --system-site-packages would not show, and may have no ensurepip.
# shellcheck shell=bash

readonly PYTHON=${GPU_PYTHON:-python3}
readonly EXTRA=.venv-gpu
readonly NEEDED=(sympy mpmath numpy jinja2 pint typer rich matplotlib filelock platformdirs safetensors scikit-learn)
RUN=$PYTHON

# Install wheels of WHEELS, and only what is missing.
offline() { "$PYTHON" -m pip --python "$RUN" install --quiet --no-compile --disable-pip-version-check --no-index --find-links "$WHEELS" "$@"; }

if [ -n "${WHEELS:-}" ]; then
  RUN=$EXTRA/bin/python
  [ -x $RUN ] || "$PYTHON" -m venv --without-pip $EXTRA
  # shellcheck disable=SC2016
  "$PYTHON" -c '
import sys
for path in sys.path:
    if path.endswith("-packages"):
        print(f"import site; site.addsitedir({path!r})")
' >"$("$RUN" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/gpu_python.pth"
  offline "${NEEDED[@]}" || { echo "$NAME: packages are missing. Put their wheels into $WHEELS (docs/performance.md)." >&2; exit 1; }
fi
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1

"$RUN" -c '
import sys
try:
    import torch
except ImportError as error:
    raise SystemExit(f"{sys.argv[1]}: {error}. Name an interpreter that has PyTorch: GPU_PYTHON=...")
if not torch.cuda.is_available():
    raise SystemExit(f"{sys.argv[1]}: PyTorch finds no GPU. Name an interpreter that has PyTorch for it: GPU_PYTHON=...")
' "$NAME"
