#!/bin/sh
# Sharpens two example photographs and leaves pictures, maps and reports in out/.
set -eu
cd "$(dirname "$0")/.."
. scripts/environment.sh
install_into_environment '.'
adadiffsr upscale photos/cat.jpg photos/coffee.jpg -o out --map out --report out --compare out
echo "Look at out/cat-compare.png (before and after) and out/coffee-map.png (where the steps went)."
