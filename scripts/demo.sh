#!/bin/sh
# Sharpens two example photographs and leaves pictures, maps and reports in out/.
set -eu
cd "$(dirname "$0")/.."
. scripts/environment.sh
install_into_environment '.'
# Tiles of half the usual size, as in the templates: four for a whole photograph show no map of anything.
adadiffsr upscale photos/cat.jpg photos/coffee.jpg --tile-size 256 -o out --map out --report out --compare out
echo "Look at out/cat-compare.png (before and after) and out/coffee-map.png (where the steps went)."
