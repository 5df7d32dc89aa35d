#!/usr/bin/env bash
# Makes a virtual environment with one extra of this package in it; `make` calls it. Does nothing where that is done.
# What goes wrong is one line on standard error and a non-zero exit code.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: launch/venv.sh FOLDER EXTRA [PYTHON]     from the root of the repository
       launch/venv.sh --list

  FOLDER   of the virtual environment; kept if it works, whatever Python it has
  EXTRA    of setup.py: test, demo, ...
  PYTHON   the Python to make it with; by default the newest of python3.13, python3.12, python3.11 that runs
  --list   print the supported Pythons that run, newest first, one a line
EOF
}

supported=(3.13 3.12 3.11)
names="python3.13, python3.12 or python3.11"

die() {
    echo "codi_jax: $1" >&2
    exit 2
}

# Its version as 3.12, or nothing if it cannot run (a shim of pyenv exists for versions that are not switched on).
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null || true
}

list() {
    local version candidate
    for version in "${supported[@]}"; do
        while read -r candidate; do
            if [[ $(version_of "$candidate") == "$version" ]]; then
                echo "$candidate"
                break
            fi
        done < <(type -aP "python$version")
    done
}

# Dies with the one line that fits to what venv or pip said, or with all that they said.
explain() {
    local doing=$1 said=$2 hint="" line
    while read -r line; do
        case $line in
            *"No space left on device"* | *"Disk quota exceeded"*)
                hint="make room: about 2 GB in $folder, and while pip works as much in ${TMPDIR:-/tmp}" ;;
            *"Read-only file system"* | *"Permission denied"*)
                hint="use a copy of the repository in a folder that you may write to" ;;
            *"has no ensurepip"*)
                hint="install it (on Debian and Ubuntu: apt install python$version-venv)" ;;
            *"Retrying (Retry("* | *"establish a new connection"* | *"ead timed out"* | *"name resolution"*)
                line="pip reaches no package index"
                hint="connect to a network, or name an index that can be reached by PIP_INDEX_URL" ;;
        esac
        [[ -z $hint ]] || die "$doing: ${line#ERROR: }: $hint"
    done < <(printf '%s\n' "$said")
    echo "$said" >&2
    die "$doing failed; above is what was said"
}

# Sets `python` and `version`.
choose() {
    if [[ -n $given ]]; then
        python=$given version=$(version_of "$given")
        [[ -n $version ]] || die "PYTHON=$given cannot be run: name $names"
        [[ $version == 3.* && ${version#3.} -ge 11 ]] || die "PYTHON=$given is Python $version: name $names"
    else
        python=$(list)
        python=${python%%$'\n'*} # the newest comes first
        [[ -n $python ]] || die "no Python was found: install $names, or name one by PYTHON=/path/to/python"
        version=$(version_of "$python")
    fi
}

works() {
    "$folder/bin/python" -c 'import pip' 2>/dev/null
}

make_venv() {
    local said clear=() absent=false
    choose
    "$python" -c 'import ensurepip, venv' 2>/dev/null || explain "making $folder" "$python has no ensurepip"
    [[ ! -e $folder/pyvenv.cfg ]] || clear=(--clear) # one that was cut short, or whose Python is gone
    [[ -e $folder ]] || absent=true
    # venv would run ensurepip itself, but keeps back what that says.
    if ! said=$({ "$python" -m venv --without-pip ${clear[@]+"${clear[@]}"} "$folder" &&
        "$folder/bin/python" -m ensurepip --default-pip; } 2>&1); then
        ! $absent || rm -rf "$folder"
        explain "making $folder" "$said"
    fi
    said=$("$folder/bin/python" -m pip install --quiet --upgrade pip 2>&1) || explain "upgrading pip in $folder" "$said"
}

install() {
    local said stamp="$folder/.$extra"
    [[ ! $stamp -nt setup.py || ! $stamp -nt pyproject.toml ]] || return 0
    echo "codi_jax: installing the extra $extra into $folder, Python $version"
    said=$("$folder/bin/python" -m pip install --quiet -e ".[$extra]" 2>&1) || explain "installing $extra" "$said"
    touch "$stamp"
}

case $#:${1-} in
    1:--list)
        found=$(list)
        [[ -n $found ]] || die "no Python was found: install $names"
        echo "$found"
        exit ;;
    1:--help | 1:-h) usage; exit ;;
    2:* | 3:*) folder=$1 extra=$2 given=${3-} ;;
    *) usage >&2; exit 2 ;;
esac

if works; then
    python="$folder/bin/python" version=$(version_of "$folder/bin/python")
    [[ -z $given || $(version_of "$given") == "$version" ]] ||
        die "PYTHON=$given: $folder has Python $version: remove it, or name another folder by VENV="
else
    make_venv
fi
install
