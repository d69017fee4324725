# shellcheck shell=bash
# Interpreters that see the packages of another one. Sourced by the GPU scripts.

# Make a virtual environment: beside PYTHON FOLDER. It sees the packages of PYTHON, which may itself be one of a
# virtual environment: `--system-site-packages` alone shows those of the interpreter below it.
beside() {
  [ -x "$2/bin/python" ] && return
  "$1" -m venv --without-pip "$2"
  local own
  own=$("$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  "$1" -c 'import sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")' >"$own/beside.pth"
}
