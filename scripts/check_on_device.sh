#!/bin/sh
# What only a GPU can show, in about three minutes: that no step waits for it, that pairs come fast enough, what a step costs.
#
#   sh scripts/check_on_device.sh OUT [--device cuda]
set -eu
out=$1 device=${3:-cuda}
mkdir -p "$out"
PYTHONUNBUFFERED=1 PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED PYTHONPATH
python=${PYTHON:-python3}
run() {
    name=$1
    shift
    "$python" -m "$@" >"$out/$name.txt" 2>&1 || echo "$name: exit code $?"
    tail -n 30 "$out/$name.txt"
}
run sync pytest -q -p no:cacheprovider tests/core/training/test_devices.py -k "gpu or slip"
run degradation benchmarks.degradation --device "$device" --scales 1 4
run training benchmarks.training_speed --device "$device" --batch 256 --steps 5
