#!/bin/sh
# Trains the model that is to ship in adadiffsr_core/weights, from photographs. Days on a processor; may be stopped and started again.
# IQA_FOLDER holds BRISQUE's and NIQE's weights, by which the regressor is taught.
#
#   sh scripts/train_embedded.sh PHOTOS_FOLDER IQA_FOLDER RUN_FOLDER
set -eu
photos=$1 iqa=$2 run=$3
here=$(cd "$(dirname "$0")/.." && pwd)
configs=$here/adadiffsr_core/training/configs weights=$here/adadiffsr_core/weights

adadiffsr train autoencoder "$photos" --run "$run/autoencoder"
adadiffsr train autoencoder "$photos" --run "$run/crisp" --init "$run/autoencoder/weights.safetensors" --config "$configs/autoencoder_finish.json"
adadiffsr train ldm "$photos" --autoencoder "$run/crisp/weights.safetensors" --run "$run/ldm" --cache "$run/pairs"
adadiffsr train ldm "$photos" --init "$run/ldm/weights.safetensors" --run "$run/finish" --finish
model=$run/finish/weights.safetensors
# Difficulty is taught at the end, with feature injection and the decoder, which are yet to come.
echo '{"ends": 0}' > "$run/no_ends.json"
adadiffsr train mmle "$photos" --model "$model" --iqa-weights "$iqa" --run "$run/mmle" --config "$run/no_ends.json"
mmle=$run/mmle/weights.safetensors
for mode in pfj concat cross_attention; do
    adadiffsr train pfj "$photos" --model "$model" --mmle "$mmle" --mode $mode --run "$run/$mode" --cache "$run/pairs"
done
cd "$here"
python -m scripts.assemble_bundle "$run/sampling.safetensors" "$model" "$mmle" "$run/pfj/weights.safetensors"
adadiffsr train decoder "$photos" --model "$run/sampling.safetensors" --run "$run/decoder"
python -m scripts.assemble_bundle "$weights/embedded.safetensors" "$model" "$mmle" "$run/pfj/weights.safetensors" "$run/decoder/weights.safetensors" --photos "$photos"
python -m scripts.teach_plain_colours "$photos" "$weights/embedded.safetensors" --model "$weights/embedded.safetensors"
python -m scripts.teach_difficulty "$photos" "$weights/embedded.safetensors" --model "$weights/embedded.safetensors"
mkdir -p "$weights/ablation"
for mode in concat cross_attention; do
    cp "$run/$mode/weights.safetensors" "$weights/ablation/$mode.safetensors"
done
