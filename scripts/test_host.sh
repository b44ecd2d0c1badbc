#!/bin/sh
# COMFYUI_DIR=<ComfyUI checkout> sh scripts/test_host.sh [pytest arguments]   with the Python that runs that ComfyUI
set -eu
: "${COMFYUI_DIR:?set it to the folder of a ComfyUI checkout}"
export COMFYUI_DIR
cd "$(dirname "$0")/.."
ADADIFFSR_NO_SKIP=1 python -m pytest tests/host "$@"
