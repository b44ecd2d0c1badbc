#!/bin/sh
# Checks types, of the nodes too: they import the core through the package that the host makes of the whole repository, under
# the name of its folder, whatever that is. mypy needs one name, so a link beside its cache calls the repository `pack`.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .mypy_cache
ln -sfn .. .mypy_cache/pack
mypy
