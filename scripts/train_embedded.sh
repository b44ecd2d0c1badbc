#!/bin/sh
# Trains the model that ships in adadiffsr_core/weights, from photographs and TAESD. Hours; may be stopped and started again.
#
#   sh scripts/train_embedded.sh PHOTOS_FOLDER TAESD_FOLDER RUN_FOLDER
set -eu
photos=$1 teacher=$2 run=$3
here=$(cd "$(dirname "$0")/.." && pwd)

adadiffsr train autoencoder "$photos" --teacher "$teacher" --run "$run/autoencoder"
adadiffsr train autoencoder "$photos" --teacher "$teacher" --run "$run/decoder" \
    --init "$run/autoencoder/weights.safetensors" --config "$here/adadiffsr_core/training/configs/decoder.json"
adadiffsr train ldm "$photos" --autoencoder "$run/decoder/weights.safetensors" --run "$run/ldm"
cp "$run/ldm/weights.safetensors" "$here/adadiffsr_core/weights/embedded.safetensors"
