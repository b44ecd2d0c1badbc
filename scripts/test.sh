#!/bin/sh
# All checks of the project. Uses the active virtual environment, or makes .venv.
set -eu
cd "$(dirname "$0")/.."
. scripts/environment.sh
install_into_environment '.[dev]'
ruff format --check .
ruff check .
sh scripts/types.sh
python -m pytest -m 'not slow' "$@"
