#!/usr/bin/env bash
# Trains on a TPU slice that Google Cloud allocates as a queued resource: requests it, waits, prepares every worker, and
# runs the same `codi-jax train` on all of them until it is complete. Run it from a machine that stays up; run it again
# to resume.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: launch/tpu_queued_resource.sh --name=NAME --zone=ZONE --type=TYPE --repository=URL
           --config=NAME[:argument] --workdir=gs://… [--branch=NAME] [--version=RUNTIME] [--project=PROJECT] [--spot]
           [--slices=N] [--prepare=COMMAND] [--retries=N] [--keep] [--dry-run] [-- further arguments of `codi-jax train`]

  --name       name of the queued resource and of its TPU
  --zone       zone, such as us-west4-a
  --type       accelerator type: v5litepod-256 is v5e 16x16 on 64 hosts, v5p-128 is v5p 4x4x4 on 16
  --slices     number of slices of this type, which train together (default: 1)
  --repository URL that every worker clones: this repository, with your configs
  --branch     branch to clone (default: main)
  --config     config file in the repository, with its argument
  --workdir    directory of the run, shared by all workers: gs://… or s3://…
  --prepare    command that is run in the clone and creates ../codi_env/bin/codi-jax, if the runtime image needs another
               one than the default (Ubuntu's python3.11, a virtual environment and pip)
  --version    TPU runtime image (v2-alpha-tpuv5-lite for v5e, the default; v2-alpha-tpuv5 for v5p)
  --project    Google Cloud project (default: that of gcloud)
  --spot       use spot capacity, which is cheaper and may be preempted
  --retries    number of failures in a row before giving up (default: 3). A preemption is no failure, and one after an
               hour of training is the first in a row
  --keep       keep the TPU at the end, also after an error; it is billed until it is deleted
  --dry-run    print the commands without running them

Exit code 0: training is complete. A preempted spot TPU is requested again, and the run resumes from its checkpoint. Before
each start, processes that an earlier one has left on the workers are ended.
EOF
}

die() {
    echo "tpu_queued_resource.sh: $1" >&2
    exit 2
}

name="" zone="" type="" repository="" branch="main" config="" workdir="" version="v2-alpha-tpuv5-lite" project=""
prepare="sudo apt-get -qq update && sudo apt-get -qq install -y python3.11-venv && python3.11 -m venv ../codi_env"
prepare+=" && ../codi_env/bin/pip install -q -e '.[gs,s3]' 'jax[tpu]'"
spot=false keep=false dry=false retries=3 slices=1
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
        --slices=*) slices=${1#*=} ;;
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
    [[ -n ${!needed} ]] || die "--$needed=… is missing; see --help"
done
[[ $workdir == gs://* || $workdir == s3://* ]] || die "--workdir=$workdir: workers share no disk; use gs://… or s3://…"
[[ $retries =~ ^[0-9]+$ ]] || die "--retries=$retries: not a number"
[[ $slices =~ ^[1-9][0-9]*$ ]] || die "--slices=$slices: not a positive number"
$dry || command -v gcloud >/dev/null || die "gcloud is not installed: https://cloud.google.com/sdk/docs/install"

where=("--zone=$zone" ${project:+"--project=$project"})
quoted=$(printf ' %q' "--config=$config" "--workdir=$workdir" "$@")
clone=$(printf 'rm -rf codi_jax && git clone -q --depth=1 --branch=%q %q codi_jax' "$branch" "$repository")
# Both start in the home directory of a worker. A prepared worker is not prepared again.
prepare="test -x codi_env/bin/codi-jax || { $clone && cd codi_jax && $prepare; }"
train="cd codi_jax && ../codi_env/bin/codi-jax train$quoted"
# A process of an earlier start holds the chips. The brackets keep the pattern from matching the shell that runs this.
stop="for signal in TERM KILL; do pkill -\$signal -f '[c]odi-jax train' || exit 0"
stop+="; for _ in {1..30}; do pgrep -f '[c]odi-jax train' >/dev/null || exit 0; sleep 1; done; done"

run() { # runs a command, or prints it in a dry run
    if $dry; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

request() {
    local options=("--accelerator-type=$type" "--runtime-version=$version")
    if ((slices > 1)); then
        options+=("--node-prefix=$name" "--node-count=$slices")
    else
        options+=("--node-id=$name")
    fi
    $spot && options+=(--spot)
    run gcloud compute tpus queued-resources create "$name" "${where[@]}" "${options[@]}"
}

delete() {
    run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

state() { # of the queued resource: ACTIVE when the TPU is allocated; "" if there is no request
    gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>/dev/null || true
}

on_all_workers() {
    if ((slices > 1)); then
        run gcloud compute tpus queued-resources ssh "$name" "${where[@]}" --node=all --worker=all --command="$1"
    else
        run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"
    fi
}

ensure_workers() { # returns when the TPU is allocated and every worker is prepared
    while ! $dry; do
        case $(state) in
            ACTIVE) break ;;
            "") request || return ;;
            FAILED | SUSPENDED) # a preempted spot TPU becomes SUSPENDED
                delete || return
                ;;
            *) sleep "${POLL_SECONDS:-30}" ;;
        esac
    done
    if $dry; then request; fi
    on_all_workers "$prepare"
}

finish() { # gives the TPU back, unless --keep, and exits
    if ! $keep; then
        delete || echo "tpu_queued_resource.sh: $name is not deleted and still billed" >&2
    fi
    exit "$1"
}

# gcloud's ssh exits with the first worker's exit code that is not 0. If the TPU is preempted, ssh itself fails; the
# state of the queued resource distinguishes this. Neither that nor code 75 (preempted, saved) counts as a failure.
failures=0
while true; do
    code=0 began=$SECONDS
    { ensure_workers && on_all_workers "$stop" && on_all_workers "$train"; } || code=$?
    if $dry; then
        code=0
    fi
    case $code in
        0) finish 0 ;;
        2)
            echo "tpu_queued_resource.sh: codi-jax rejected its arguments or config; see above" >&2
            finish 2
            ;;
        75) failures=0 ;;
        *)
            if ((SECONDS - began >= 3600)); then
                failures=0
            fi
            case $(state) in
                ACTIVE | "") failures=$((failures + 1)) ;;
                *) failures=0 ;;
            esac
            if ((failures > retries)); then
                echo "tpu_queued_resource.sh: exit code $code, $failures times in a row; giving up" >&2
                finish "$code"
            fi
            ;;
    esac
    echo "tpu_queued_resource.sh: exit code $code; running the same command again" >&2
    sleep "${POLL_SECONDS:-30}"
done
