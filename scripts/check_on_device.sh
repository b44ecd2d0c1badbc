#!/bin/sh
# What only a GPU can show, in about four minutes: that no step and no turn waits for it, that pairs come fast enough, what a
# step costs, what the sampler costs beside the network, and what memory a picture of 4096 px takes.
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
run sync pytest -q -p no:cacheprovider tests/core/training/test_devices.py tests/core/sampling/test_launch.py \
    -k "gpu or slip"
run overhead benchmarks.overhead --device "$device" --tiles 64
run overhead_wide benchmarks.overhead --device "$device" --tiles 64 --wide --rounds 3
run memory benchmarks.memory --device "$device" --tiles-per-side "" --sides 1024,4096
run degradation benchmarks.degradation --device "$device" --scales 1 4
run training benchmarks.training_speed --device "$device" --batch 256 --steps 5
