#!/usr/bin/env bash
# Creates a virtual environment and installs this package with one extra; `make` calls it. Does nothing if that is done.
# Errors are one line on standard error and a non-zero exit code.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: launch/venv.sh FOLDER EXTRA [PYTHON]     from the root of the repository
       launch/venv.sh --list

  FOLDER   folder of the virtual environment; a working one is kept, with any version of Python
  EXTRA    an extra of setup.py: test, demo, ...
  PYTHON   the Python to use; by default the newest of python3.13, python3.12, python3.11 that runs
  --list   print the supported Pythons that run, newest first, one per line
EOF
}

supported=(3.13 3.12 3.11)
names="python3.13, python3.12 or python3.11"

die() {
    echo "codi_jax: $1" >&2
    exit 2
}

# Prints the version of a Python, as 3.12, or nothing if it cannot run (pyenv has shims for inactive versions).
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

# Dies with one line that explains the output of venv or pip, or with the whole output.
explain() {
    local doing=$1 output=$2 hint="" line
    while read -r line; do
        case $line in
            *"No space left on device"* | *"Disk quota exceeded"*)
                hint="free disk space: about 2 GB in $folder, and during installation as much in ${TMPDIR:-/tmp}" ;;
            *"Read-only file system"* | *"Permission denied"*)
                hint="use a copy of the repository in a writable folder" ;;
            *"has no ensurepip"*)
                hint="install it (on Debian and Ubuntu: apt install python$version-venv)" ;;
            *"Retrying (Retry("* | *"establish a new connection"* | *"ead timed out"* | *"name resolution"*)
                line="pip cannot reach a package index"
                hint="connect to a network, or set PIP_INDEX_URL to a reachable index" ;;
        esac
        [[ -z $hint ]] || die "$doing: ${line#ERROR: }: $hint"
    done < <(printf '%s\n' "$output")
    echo "$output" >&2
    die "$doing failed; see the output above"
}

# Sets `python` and `version`.
choose() {
    if [[ -n $given ]]; then
        python=$given version=$(version_of "$given")
        [[ -n $version ]] || die "PYTHON=$given cannot be run: use $names"
        [[ $version == 3.* && ${version#3.} -ge 11 ]] || die "PYTHON=$given is Python $version: use $names"
    else
        python=$(list)
        python=${python%%$'\n'*} # the newest comes first
        [[ -n $python ]] || die "no supported Python found: install $names, or set PYTHON=/path/to/python"
        version=$(version_of "$python")
    fi
}

works() {
    "$folder/bin/python" -c 'import pip' 2>/dev/null
}

make_venv() {
    local output clear=() absent=false
    choose
    "$python" -c 'import ensurepip, venv' 2>/dev/null || explain "making $folder" "$python has no ensurepip"
    [[ ! -e $folder/pyvenv.cfg ]] || clear=(--clear) # incomplete, or its Python was removed
    [[ -e $folder ]] || absent=true
    # venv would run ensurepip itself, but hides its output.
    if ! output=$({ "$python" -m venv --without-pip ${clear[@]+"${clear[@]}"} "$folder" &&
        "$folder/bin/python" -m ensurepip --default-pip; } 2>&1); then
        ! $absent || rm -rf "$folder"
        explain "making $folder" "$output"
    fi
    output=$("$folder/bin/python" -m pip install --quiet --upgrade pip 2>&1) ||
        explain "upgrading pip in $folder" "$output"
}

install() {
    local output stamp="$folder/.$extra"
    [[ ! $stamp -nt setup.py || ! $stamp -nt pyproject.toml ]] || return 0
    echo "codi_jax: installing the extra $extra into $folder, Python $version"
    # Half of the time of an installation is compilation, most of it of modules that nothing imports.
    output=$("$folder/bin/python" -m pip install --quiet --no-compile -e ".[$extra]" 2>&1) ||
        explain "installing $extra" "$output"
    touch "$stamp"
}

case $#:${1-} in
    1:--list)
        pythons=$(list)
        [[ -n $pythons ]] || die "no supported Python found: install $names"
        echo "$pythons"
        exit ;;
    1:--help | 1:-h) usage; exit ;;
    2:* | 3:*) folder=$1 extra=$2 given=${3-} ;;
    *) usage >&2; exit 2 ;;
esac

if works; then
    python="$folder/bin/python" version=$(version_of "$folder/bin/python")
    [[ -z $given || $(version_of "$given") == "$version" ]] ||
        die "PYTHON=$given: $folder has Python $version: remove it, or set VENV= to another folder"
else
    make_venv
fi
install
