#!/usr/bin/env bash
# All measurements of one CUDA GPU, in at most eight minutes on a machine with nothing but Python and the driver.
# Errors are one line on standard error and a non-zero exit code.
set -euo pipefail

usage() {
    cat <<'EOT'
usage: benchmarks/device.sh [--python=PYTHON] [--seconds=N] [--dry-run] DIR     from the root of the repository

  DIR        gets NAME.json, NAME.log of each measurement, and summary.txt
  --python   a Python that has the package with the extras cuda, parity and media; without it a virtual environment with
             these is made in DIR/venv, with python3.13, python3.12 or python3.11
  --seconds  of everything, installation included (480)
  --dry-run  the same at tiny sizes on CPU, with the Python of --python, or that of .venv; without torch, what needs it
             fails

Each measurement has a limit of its own, and its results are written row by row: what is killed loses only the rest. The
most important ones come first. Exit code 1: a measurement failed or ran out of time.
EOT
}

die() {
    echo "device.sh: $1" >&2
    exit 2
}

python="" seconds=480 dry=false folder=""
while (($#)); do
    case $1 in
        --python=*) python=${1#*=} ;;
        --seconds=*) seconds=${1#*=} ;;
        --dry-run) dry=true ;;
        --help | -h) usage; exit 0 ;;
        -*) die "unknown argument $1; --help lists them" ;;
        *) [[ -z $folder ]] || die "one DIR, not $folder and $1"; folder=$1 ;;
    esac
    shift
done
[[ -n $folder ]] || { usage >&2; exit 2; }
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "--seconds=$seconds: expected a number"
[[ -f setup.py && -d benchmarks ]] || die "run it from the root of the repository"
mkdir -p "$folder"
: >"$folder/summary.txt"
end=$((SECONDS + seconds)) failed=false

say() {
    echo "$1" | tee -a "$folder/summary.txt"
}

# limited NAME SECONDS COMMAND...: runs a command for at most so many seconds, or what is left of all.
limited() {
    local name=$1 limit=$2 left=$((end - SECONDS)) start=$SECONDS code=0
    shift 2
    ((limit < left)) || limit=$left
    if ((limit < 1)); then
        say "$name: not measured, no time is left" && failed=true
        return
    fi
    timeout --kill-after=5 "$limit" "$@" >"$folder/$name.log" 2>&1 || code=$?
    case $code in
        0) say "$name: $((SECONDS - start)) s" ;;
        124 | 137) say "$name: stopped after $limit s; $name.json has what was measured" && failed=true ;;
        *) say "$name: failed: $(grep . "$folder/$name.log" | tail -n 1)" && failed=true ;;
    esac
}

measure() {
    local name=$1 limit=$2 module=$3
    shift 3
    limited "$name" "$limit" "$python" -m "benchmarks.$module" "$@" --json="$folder/$name.json"
}

if $dry; then
    [[ -n $python ]] || python=.venv/bin/python
    export JAX_PLATFORMS=cpu
    unet=(--device=cpu --tiny --pixels=64 --dtype=float32 --repeats=1 --variants=eager)
    train=1 one=1 many=1,2 steps=2
    joint=(--preset=codi --divide=40 --size=64 --frames=1 --steps=1 --repeats=1)
elif [[ -z $python ]]; then
    limited install $((seconds / 2)) launch/venv.sh "$folder/venv" cuda,parity,media
    python=$folder/venv/bin/python
fi
[[ -x $(command -v "$python") ]] || die "no Python at $python"
if ! $dry; then
    unet=(--device=gpu --pixels=512 --dtype=bfloat16 --repeats=5)
    train=16,8 one=1 many=2,4,8,16 steps=50
    joint=(--preset=codi --divide=4 --size=256 --frames=8 --dtype=bfloat16 --steps=20)
fi

measure sampling 110 unet "${unet[@]}" --measure=sampling --batch="$one" --steps="$steps" --tokens=77
measure training 130 unet "${unet[@]}" --measure=gradient --batch="$train" --tokens=77
measure batches 100 unet "${unet[@]}" --measure=sampling,forward --batch="$many" --steps="$steps" --variants=eager --tokens=77
measure context 70 unet "${unet[@]}" --measure=forward,gradient --batch="$one" --variants=eager --tokens=1
measure joint 60 joint "${joint[@]}"
! $failed || exit 1
