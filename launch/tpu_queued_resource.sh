#!/usr/bin/env bash
# Trains on a TPU slice, which Google Cloud hands out by a queue: asks for it, waits, prepares every worker, and runs the
# same `codi-jax train` on all of them until it is done. Run it from a machine that stays up; run it again to go on.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: launch/tpu_queued_resource.sh --name=NAME --zone=ZONE --type=TYPE --repository=URL
           --config=FILE[:argument] --workdir=gs://… [--branch=NAME] [--version=RUNTIME] [--project=PROJECT] [--spot]
           [--prepare=COMMAND] [--retries=N] [--keep] [--dry-run] [-- further arguments of `codi-jax train`]

  --name       of the queued resource, and of its TPU
  --zone       such as us-west4-a
  --type       accelerator type: v5litepod-256 is v5e 16x16 on 64 hosts, v5p-128 is v5p 4x4x4 on 16
  --repository what every worker clones: this repository, with your configs
  --branch     of it (main)
  --config     of the run: a file in the repository, as on any machine
  --workdir    where all workers read and write: gs://… (or s3://…)
  --prepare    what makes ../codi_env/bin/codi-jax in the clone, where the runtime image needs another way than Ubuntu's
               python3.11, a virtual environment and pip
  --version    TPU runtime image (v2-alpha-tpuv5-lite for v5e, v2-alpha-tpuv5 for v5p; the first)
  --project    default: gcloud's own
  --spot       capacity that may be taken away, and is cheaper
  --retries    how often in a row a run may fail that neither finished nor was preempted (3)
  --keep       leave the TPU there when all is done; it costs money until it is deleted
  --dry-run    print the commands, run none

Exit code 0: trained. When a spot TPU is taken away, it is asked for again, and the run goes on from its last checkpoint.
EOF
}

die() {
    echo "tpu_queued_resource.sh: $1" >&2
    exit 2
}

name="" zone="" type="" repository="" branch="main" config="" workdir="" version="v2-alpha-tpuv5-lite" project=""
prepare="sudo apt-get -qq update && sudo apt-get -qq install -y python3.11-venv && python3.11 -m venv ../codi_env"
prepare+=" && ../codi_env/bin/pip install -q -e '.[gs,s3]' 'jax[tpu]'"
spot=false keep=false dry=false retries=3
while (($#)); do
    case $1 in
        --name=*) name=${1#*=} ;;
        --zone=*) zone=${1#*=} ;;
        --type=*) type=${1#*=} ;;
        --config=*) config=${1#*=} ;;
        --workdir=*) workdir=${1#*=} ;;
        --repository=*) repository=${1#*=} ;;
        --branch=*) branch=${1#*=} ;;
        --prepare=*) prepare=${1#*=} ;;
        --version=*) version=${1#*=} ;;
        --project=*) project=${1#*=} ;;
        --retries=*) retries=${1#*=} ;;
        --spot) spot=true ;;
        --keep) keep=true ;;
        --dry-run) dry=true ;;
        --help | -h) usage; exit 0 ;;
        --) shift; break ;;
        *) die "unknown argument $1; --help lists them" ;;
    esac
    shift
done
for needed in name zone type repository config workdir; do
    [[ -n ${!needed} ]] || die "--$needed=… is missing; --help says what it is"
done
[[ $workdir == gs://* || $workdir == s3://* ]] || die "--workdir=$workdir: workers share no disk; give gs://… or s3://…"
[[ $retries =~ ^[0-9]+$ ]] || die "--retries=$retries: not a number"
$dry || command -v gcloud >/dev/null || die "gcloud is not installed: https://cloud.google.com/sdk/docs/install"

where=("--zone=$zone" ${project:+"--project=$project"})
quoted=$(printf ' %q' "--config=$config" "--workdir=$workdir" --quiet "$@")
clone=$(printf 'rm -rf codi_jax && git clone -q --depth=1 --branch=%q %q codi_jax' "$branch" "$repository")
# Both begin in the home directory of a worker; one that is prepared already is not prepared again.
prepare="test -x codi_env/bin/codi-jax || { $clone && cd codi_jax && $prepare; }"
train="cd codi_jax && ../codi_env/bin/codi-jax train$quoted"

run() { # prints a command in a dry run, else runs it
    if $dry; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

ask() {
    local options=("--node-id=$name" "--accelerator-type=$type" "--runtime-version=$version")
    $spot && options+=(--spot)
    run gcloud compute tpus queued-resources create "$name" "${where[@]}" "${options[@]}"
}

give_back() {
    run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

state() { # of the request: ACTIVE once the TPU is there; "" if there is no request
    gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>/dev/null || true
}

on_all_workers() {
    run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"
}

have_it() { # returns when the TPU is there and every worker is prepared
    while ! $dry; do
        case $(state) in
            ACTIVE) break ;;
            "") ask || return ;;
            FAILED | SUSPENDED) # a spot TPU that was taken away ends as SUSPENDED
                give_back || return
                ;;
            *) sleep "${POLL_SECONDS:-30}" ;;
        esac
    done
    if $dry; then ask; fi
    on_all_workers "$prepare"
}

# gcloud's ssh exits with the code of the first worker whose own is not 0. When a TPU is taken away it fails in its own
# way, which the state of the request tells apart; that, like 75 (preempted, and saved), is no failure of the run.
failures=0
while true; do
    code=0
    { have_it && on_all_workers "$train"; } || code=$?
    if $dry; then
        code=0
    fi
    case $code in
        0) break ;;
        2) die "codi-jax refused what it was given; see above" ;;
        75) failures=0 ;;
        *)
            case $(state) in
                ACTIVE | "") failures=$((failures + 1)) ;;
                *) failures=0 ;;
            esac
            if ((failures > retries)); then
                echo "tpu_queued_resource.sh: exit code $code, $failures times in a row; giving up" >&2
                exit "$code"
            fi
            ;;
    esac
    echo "tpu_queued_resource.sh: exit code $code; the same command again" >&2
    sleep "${POLL_SECONDS:-30}"
done
if ! $keep; then
    give_back
fi
