#!/usr/bin/env bash
# What the learning systems beside the tracker reach on published data, on several seeds: a line a run, then the median.
#
#     scripts/measure-systems.sh siamese|vae|robust|ring|infogan|disentangle OUT [SEEDS] [more arguments of roadhound-train]
#
# siamese  equal error rate of pairs of two digits that were never shown. Seed k holds out digits 2k and 2k + 1, so that
#          five seeds hold out every digit once and none is chosen.
# vae      negative ELBO of binarised MNIST in nats; with --full as long as published runs.
# robust   MNIST with one sample in ten from Fashion-MNIST: a robust prior, the weighted sum, and a plain VAE, each scored
#          on digits alone by -log p, estimated by importance sampling: that is one measure for all three, while the cost of
#          the weighted sum bounds nothing.
# ring     modes of eight that a GAN makes, with stabilisers and without any.
# infogan  error of the category as the digit, one category a digit, of an InfoGAN whose reader is held to say the same of moved
#          digits, of one as published, and of a plain GAN's probe, all three of the same networks; beside it what categories of
#          made samples are to the judge, and the nats that moved digits share, which know no label.
# disentangle  what a probe finds of the digit in z, drawn anew each time that it is shown, and in s, of Jha's and of
#          Mathieu's method.
#
# WHICH="mathieu" (or plain, bare, published, ...) before the command takes those of the compared ones alone.
#
# It needs the MNIST files of configs/*.toml; --data says where they are.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?siamese, vae, robust, ring, infogan or disentangle} out=${2:?a folder} seeds=${3:-5}
shift $(($# < 3 ? $# : 3))
train="cargo run --release --workspace --bin roadhound-train --"
mkdir -p "$out"

# run SYSTEM NAME SEED FIGURE: trains, prints the figure of the saved model.
run() {
    local system=$1 name=$2 seed=$3 figure=$4
    shift 4
    ${ROADHOUND_TRAIN:-$train} "$system" --config "$out/$name.toml" --out "$out/$name" --seed "$seed" --quiet "$@" 2>>"$out/$name.log"
    sed -n "s/^$figure = //p" "$out/$name/model/model.toml"
}
# chosen NAME...: those that WHICH names, or all.
chosen() {
    local name
    for name in ${WHICH:-"$@"}; do
        case " $* " in
        *" $name "*) echo "$name" ;;
        *)
            echo "WHICH: $name: expected some of $*" >&2
            return 2
            ;;
        esac
    done
}
# median NAME: of the lines on standard input.
median() {
    sort -g | awk -v name="$1" '{v[NR] = $1} END {printf "%s: median %.4f of %d\n", name, (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, NR}'
}
case $what in
siamese)
    for ((seed = 0; seed < seeds; seed++)); do
        a=$((2 * (seed % 5)))
        sed "s/^held_out = .*/held_out = [$a, $((a + 1))]/" configs/siamese-mnist.toml >"$out/siamese-$seed.toml"
        eer=$(run siamese "siamese-$seed" "$seed" eer "$@")
        echo "seed $seed, digits $a and $((a + 1)) never shown: equal error rate $eer" >&2
        echo "$eer"
    done | median "equal error rate"
    ;;
vae)
    for ((seed = 0; seed < seeds; seed++)); do
        cp configs/vae-mnist.toml "$out/vae-$seed.toml"
        nats=$(run autoencoder "vae-$seed" "$seed" negative_elbo "$@")
        echo "seed $seed: negative ELBO $nats nats" >&2
        echo "$nats"
    done | median "negative ELBO, nats"
    ;;
robust)
    chosen=$(chosen stratified convex plain)
    for kind in $chosen; do
        for ((seed = 0; seed < seeds; seed++)); do
            name=robust-$kind-$seed
            case $kind in
            plain) sed -e 's/^kind = "robust_vae".*/kind = "vae"/' -e '/^mixing/d' -e '/^\[kind.prior\]/,/^joint/d' configs/robust-vae-mnist.toml ;;
            *) sed "s/^mixing = .*/mixing = \"$kind\"/" configs/robust-vae-mnist.toml ;;
            esac >"$out/$name.toml"
            all=$(run autoencoder "$name" "$seed" '\(estimated_log_loss\|negative_elbo\|weighted_sum_cost\)' "$@" | tr '\n' ' ')
            echo "$kind, seed $seed, digits alone: estimated -log p, and what it descended, nats: $all" >&2
            echo "${all%% *}"
        done | median "$kind, -log p of digits, nats"
    done
    ;;
ring)
    chosen=$(chosen stabilised bare)
    for how in $chosen; do
        for ((seed = 0; seed < seeds; seed++)); do
            name=ring-$how-$seed
            case $how in
            bare) sed -e 's/^loss = .*/loss = "minimax"/' -e 's/^\(r1\|instance_noise\|average_keep\) = .*/\1 = 0.0/' configs/gan-ring.toml ;;
            *) cat configs/gan-ring.toml ;;
            esac >"$out/$name.toml"
            both=$(run gan "$name" "$seed" '\(modes\|high_quality\)' "$@" | tr '\n' ' ')
            echo "$how, seed $seed: share within three deviations, modes of eight: $both" >&2
            echo "${both#* }"
        done | median "$how, modes of eight"
    done
    ;;
infogan)
    chosen=$(chosen infogan published gan)
    for how in $chosen; do
        for ((seed = 0; seed < seeds; seed++)); do
            case $how in
            published) sed '/^\[mutual.invariance\]/,/^weight/s/^weight = [0-9.]*/weight = 0.0/' configs/infogan-mnist.toml ;;
            *) cat "configs/$how-mnist.toml" ;;
            esac >"$out/$how-$seed.toml"
            all=$(run gan "$how-$seed" "$seed" '\(code_error\|made_error\|shared_nats\)' "$@" | tr '\n' ' ')
            echo "$how, seed $seed: error of the category as the digit, the same of made samples, nats shared: $all" >&2
            echo "${all%% *}"
        done | median "$how, error of the category as the digit"
    done
    ;;
disentangle)
    chosen=$(chosen jha mathieu)
    for method in $chosen; do
        for ((seed = 0; seed < seeds; seed++)); do
            name=$method-$seed
            case $method in
            mathieu) sed -e 's/^kind = "jha".*/kind = "mathieu"/' -e '/^reverse = /d' -e 's/^divergence = .*/divergence = 1.0/' configs/disentangle-mnist.toml ;;
            *) cat configs/disentangle-mnist.toml ;;
            esac >"$out/$name.toml"
            both=$(run disentangle "$name" "$seed" '[sz]_accuracy' "$@" | tr '\n' ' ')
            echo "$method, seed $seed: accuracy of a probe on s and on z: $both" >&2
            echo "${both#* }"
        done | median "$method, accuracy of a probe on z"
    done
    ;;
*)
    echo "$what: expected siamese, vae, robust, ring, infogan or disentangle" >&2
    exit 2
    ;;
esac
