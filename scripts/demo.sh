#!/bin/sh
# Sharpens an example photograph and leaves picture, map and report in out/.
set -eu
cd "$(dirname "$0")/.."
. scripts/environment.sh
install_into_environment '.'
mkdir -p out
adadiffsr upscale examples/cat.jpg -o out/cat.png --map out/cat-map.png --report out/cat.json --compare out/cat-compare.png
echo "Look at out/cat-compare.png (before and after) and out/cat-map.png (where the steps went)."
