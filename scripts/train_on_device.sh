#!/bin/sh
# Trains autoencoder and diffusion model on a machine that is lent for minutes, and ends in time.
# What PACK is, and how results come home: docs/training.md, "On a machine that is lent for ten minutes".
#
#   sh scripts/train_on_device.sh PACK OUT [--minutes 9.5] [--device cuda] [--from JOINED_WEIGHTS] ...
set -eu
export PYTHONUNBUFFERED=1
# The caller's folders are named from where it stands.
PYTHONPATH=$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${PYTHON:-python3}" -m scripts.device.train "$@"
