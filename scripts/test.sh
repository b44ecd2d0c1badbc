#!/bin/sh
# All checks of the project. Uses the active virtual environment, or makes .venv.
set -eu
cd "$(dirname "$0")/.."
. scripts/environment.sh
install_into_environment '.[dev]'
ruff format --check .
ruff check .
sh scripts/types.sh
# Two processes of one thread each, which take half the time of one process of two; a file's tests stay together, and share what
# the file makes once. `-n 0` among the arguments runs all in this process, as a debugger needs it.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" python -m pytest -m 'not slow' -n 2 --dist loadfile "$@"
