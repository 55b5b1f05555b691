#!/bin/sh
# Makes the environment of this folder and says in one line what it did, or what is missing and the cure.
#     sh tools/setup.sh VENV [PYTHON]     VENV: folder to make; PYTHON: name or path of an interpreter, else the best one found
# Installs again only when requirements*.txt or pyproject.toml changed since. Nothing is installed outside VENV.
set -u
cd "$(dirname "$0")/.." || exit 1
venv=$1 asked=${2:-}

fail() {
    echo "setup: $1" >&2
    echo "  cure: $2" >&2
    exit 1
}

# Really runs it: a shim may stand on PATH and still find nothing behind it. Debian ships Python without ensurepip.
works() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }
makes_venv() { "$1" -c 'import ensurepip, sqlite3, ssl, venv' 2>/dev/null; }

# Where an interpreter called $1 (python3.13) may be: on PATH, or one of pyenv's, newest first.
places() {
    echo "$1"
    case $1 in python3.*) ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/${1#python}".*/bin/python 2>/dev/null | sort -rt. -k3n ;; esac
}

find_python() {
    for name in "$@"; do
        for place in $(places "$name"); do
            works "$place" || continue
            if makes_venv "$place"; then python=$place; return 0; fi
            crippled=$place
        done
    done
    return 1
}

wanted=$(cat requirements.txt requirements-dev.txt pyproject.toml tools/setup.sh | cksum)
stamp=$venv/.ready
if [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    tail -n 1 "$stamp"
    exit 0
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python='' crippled=''
    # 3.13 is what runs in Azure; the others are tested too, 3.14 is not.
    # shellcheck disable=SC2086
    if ! find_python ${asked:-python3.13 python3.12 python3.11 python3.14 python3 python}; then
        [ -n "$crippled" ] && fail "$crippled cannot make environments (no ensurepip, sqlite3 or ssl)." \
            "apt-get install python3-venv, or install Python 3.13, then again."
        fail "no working ${asked:-Python} of 3.11 to 3.14 here." "install Python 3.13 (a package, or: pyenv install 3.13), then again."
    fi
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "$python could not make $venv." "look at the lines above."
fi

rm -f "$stamp"
log=$venv/install.log
# Only the files whose hashes stand in the requirements, and nothing built from source; then this folder itself, by those.
install() { "$venv/bin/python" -m pip install -qq --disable-pip-version-check "$@" >>"$log" 2>&1; }
: >"$log"
if ! install --require-hashes --only-binary :all: -r requirements.txt -r requirements-dev.txt ||
    ! install --no-deps --no-build-isolation -e .; then
    grep '^ *ERROR' "$log" | head -n 3 >&2
    fail "the packages could not be installed (all of it: $log)." "is your package index reachable? Then again."
fi
count=$("$venv/bin/python" -c 'from importlib.metadata import distributions as d; print(len(list(d())))')
line="python $("$venv/bin/python" -c 'import platform; print(platform.python_version())') $venv ready, $count packages"
printf '%s\n%s\n' "$wanted" "$line" >"$stamp"
echo "$line"
