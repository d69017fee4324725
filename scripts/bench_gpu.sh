#!/usr/bin/env bash
# Every GPU figure, with no network: the tests that need a GPU, then the benchmarks. Run by `make bench-gpu`.
#
#   GPU_PYTHON, WHEELS           the interpreter, see scripts/gpu_python.sh
#   PARTS="tests layers recurrent sew"   what runs, in this order: the tests, benchmarks/run.py,
#                                        benchmarks/recurrence.py, benchmarks/sew_resnet.py
#   LIMIT=540                    seconds after which nothing runs, the tests at most half of it
#   JOBS=8                       test processes, which share the GPU
#   ARCHIVE=file.tar.gz          the results so far, written again after each part
#
# Goes on where it stopped: a case or row that has its figure in benchmarks/results/cuda is not measured again. A test
# that fails does not keep a benchmark from running; what the tests said is in benchmarks/results/cuda/tests.txt, and
# the machine is in machine.txt. The exit status is that of the tests, or 1 if a figure is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly NAME=bench_gpu LIMIT=${LIMIT:-540} RESULTS=benchmarks/results/cuda
readonly TESTED=(tests/nn/test_gpu.py tests/nn/test_convergence.py tests/nn/integer/test_integer.py
  tests/backends/package/test_backend.py tests/test_experiments.py)
# shellcheck source=scripts/gpu_python.sh
. scripts/gpu_python.sh

require pytest hypothesis pytest-xdist pytest-timeout
for name in $(missing cuda-bindings spikingjelly loguru snntorch); do
  echo "$NAME: $name is missing: what needs it is left out, or has that as its reason"
done

left() { echo $((LIMIT > SECONDS ? LIMIT - SECONDS : 0)); }

# GPU, driver, clocks and versions, beside the figures.
machine() {
  "$RUN" -c '
import os, platform, sys, torch, triton
gpu = torch.cuda.get_device_properties(0)
print(f"{gpu.name}, {gpu.multi_processor_count} multiprocessors, {gpu.total_memory / 2**30:.1f} GiB")
print(f"Python {platform.python_version()}, torch {torch.__version__}, triton {triton.__version__}, CUDA {torch.version.cuda}")
print(f"{platform.machine()}, {os.cpu_count()} cores")
'
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit --format=csv || true
}

# Other versions give other warnings than those this repository knows: they are no errors here.
tests() {
  timeout --signal=INT --kill-after=20 "$(($(left) < LIMIT / 2 ? $(left) : LIMIT / 2))" "$RUN" -m pytest -vv -m needs_cuda -W default \
    -n "${JOBS:-8}" --dist worksteal --durations=10 "${TESTED[@]}" 2>&1 | tee $RESULTS/tests.txt
}

# shellcheck disable=SC2086  # words of BENCH_ARGS are arguments
layers() { "$RUN" benchmarks/run.py --device cuda --slice "$(left)" ${BENCH_ARGS:-}; }

# A table that is complete is not measured again.
recurrent() {
  local precision table failed=0
  for precision in highest high; do
    table=$RESULTS/recurrence-$precision.txt
    [ ! -s "$table" ] || continue
    if timeout "$(left)" "$RUN" benchmarks/recurrence.py --device cuda --rounds 5 --precision $precision >"$table.part"; then
      mv "$table.part" "$table" && cat "$table"
    else
      failed=1
    fi
  done
  return $failed
}

# A row whose compilation failed has its reason in the table.
sew() { "$RUN" benchmarks/sew_resnet.py --slice "$(left)"; }

save() {
  [ -z "${ARCHIVE:-}" ] || { tar -czf "$ARCHIVE.part" $RESULTS && mv "$ARCHIVE.part" "$ARCHIVE"; }
}

mkdir -p $RESULTS
machine | tee $RESULTS/machine.txt
trap save EXIT
status=0
for part in ${PARTS:-tests layers recurrent sew}; do
  case $part in
    tests) tests || status=$? ;;
    layers | recurrent | sew) $part || { [ $status -ne 0 ] || status=1; } ;;
    *) echo "$NAME: part $part. Accepted: tests, layers, recurrent, sew." >&2; exit 2 ;;
  esac
  save
done
exit $status
