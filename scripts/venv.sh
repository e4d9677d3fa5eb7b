# Sourced by test.sh, quickstart.sh and .ci/run. After `ensure_venv FOLDER EXTRA`, FOLDER is a virtual environment with
# pd_trl installed in editable mode with that extra ("" for none). A second call finds a stamp and returns at once.
#
#   PD_TRL_PYTHON   the Python to use instead of the first suitable one found
#   PD_TRL_TORCH    what to give pip for torch, e.g. "torch==2.14.1" or "torch --index-url https://…/whl/cpu"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TORCH=${PD_TRL_TORCH:-torch==2.13.0}
# pip leaves bytecode to the first import. Without it, each process compiles torch and transformers again: 17 s in place of 7.
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "pd_trl: $*"; }
die() {
    printf 'pd_trl: %s\n' "$@" >&2
    exit 1
}

# Prints the first Python that runs and whose version is in [3.10, 3.13], which the tests cover; a newer one if there is no other.
find_python() {
    local candidate newer=""
    for candidate in ${PD_TRL_PYTHON:+"$PD_TRL_PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 || continue
        if [ "$candidate" = "${PD_TRL_PYTHON:-}" ] ||
            "$candidate" -c 'import sys; sys.exit(sys.version_info >= (3, 14))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
        newer=${newer:-$candidate}
    done
    printf '%s\n' "$newer"
}

# What the environment depends on: the dependencies, the extra, torch and the Python that made it.
stamp_of() {
    "$1" - "$ROOT/setup.py" "$2" "$TORCH" "$ROOT" <<'PY'
import hashlib, pathlib, sys
parts = [pathlib.Path(sys.argv[1]).read_text(), *sys.argv[2:], sys.version]
print(hashlib.sha256("\0".join(parts).encode()).hexdigest())
PY
}

make_venv() {
    local venv=$1 python
    python=$(find_python)
    [ -n "$python" ] || die "No Python 3.10 or newer was found (tried python3, python3.13 to python3.10 and python)." \
        "Install one, e.g. 'apt-get install python3 python3-venv', 'brew install python@3.12' or from python.org," \
        "or name one: PD_TRL_PYTHON=/path/to/python bash $0"
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        die "$("$python" --version) has no venv or ensurepip module, so no virtual environment with pip can be made." \
            "On Debian and Ubuntu: apt-get install python3-venv. Elsewhere, use a complete Python: PD_TRL_PYTHON=/path/to/python"
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv" 2>/dev/null || echo file)" ]; then
        die "$venv is there already and is no virtual environment; it is left alone." \
            "Move it away, or put the environment elsewhere: PD_TRL_VENV=/path/to/new/folder bash $0"
    fi
    say "making a virtual environment in $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" ||
        die "The virtual environment could not be made in $venv. See the message above: is the folder writable, is the disk full?"
}

# Installs with pip, quietly; on failure shows pip's last lines and says in plain words what to do.
pip_install() {
    local venv=$1 log
    shift
    log=$(mktemp)
    if "$venv/bin/python" -m pip install -q --no-compile --disable-pip-version-check "$@" >"$log" 2>&1; then
        rm -f "$log"
        return
    fi
    grep -v "is ignored: it is neither" "$log" | tail -n 12 >&2 || true
    local why="pip could not install: $*. See its message above."
    if grep -qiE "No space left on device|Errno 28" "$log"; then
        why="The disk is full: free some space and run this again."
    elif grep -qiE "NewConnectionError|Name or service not known|name resolution|Max retries|timed out|Network is unreachable|ProxyError|No route to host|Connection refused" "$log"; then
        why="pip cannot reach its package index. Check the network, or the proxy and index settings (pip config list), and run this again."
    elif grep -q "cancelled by user" "$log"; then
        why="Interrupted. Run this again to go on."
    elif grep -qF "(from versions: none)" "$log"; then
        why="pip found no release at all of what it names above: it cannot reach its package index (network, proxy, pip config list), or there is none for this Python and system."
    elif grep -qE "No matching distribution found for torch" "$log"; then
        why="There is no '$TORCH' for this Python and system. Name another: PD_TRL_TORCH='torch>=2.6' bash $0"
    fi
    rm -f "$log"
    die "$why"
}

check_disk() {
    local venv=$1 parent free_mb need_mb=3000
    # Without a wheel on this machine, Linux x86-64 gets PyPI's CUDA build of torch: about 3 GB to fetch, 7 GB unpacked.
    if [ "$2" = remote ] && [ "$(uname -sm)" = "Linux x86_64" ]; then need_mb=11000; fi
    parent=$(dirname "$venv")
    free_mb=$(df -Pk "$parent" | awk 'NR == 2 {print int($4 / 1024)}')
    [ "$free_mb" -ge "$need_mb" ] ||
        die "Too little disk: about $need_mb MB are needed in $parent and $free_mb MB are free." \
            "Free some, or put the environment on another disk: PD_TRL_VENV=/path/to/new/folder bash $0"
}

ensure_venv() {
    local venv=$1 extra=$2 stamp where=remote
    if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
        mkdir -p "$(dirname "$venv")" || die "$(dirname "$venv") cannot be made: choose another folder with PD_TRL_VENV."
        make_venv "$venv"
    fi
    stamp=$(stamp_of "$venv/bin/python" "$extra")
    [ "$(cat "$venv/.pd_trl_stamp" 2>/dev/null)" != "$stamp" ] || return 0

    # torch comes first and by itself: asked for by another package, pip would take the newest one, which on Linux x86-64
    # is a CUDA build of gigabytes. Pinned, a wheel in pip's find-links (often a CPU build) is enough. Where there is
    # none, plain PyPI is used all the same and no --index-url: PyPI is the one index that every mirror and proxy serves,
    # and its builds also run on CPUs. For the small CPU build, name the index yourself in PD_TRL_TORCH.
    # shellcheck disable=SC2086
    if "$venv/bin/python" -c 'import torch' >/dev/null 2>&1 ||
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --dry-run --no-deps --no-index $TORCH >/dev/null 2>&1; then
        where=here
    fi
    check_disk "$venv" "$where"
    say "installing torch ($TORCH)$([ "$where" = here ] || echo ', a large download'); this takes a while the first time"
    # shellcheck disable=SC2086
    pip_install "$venv" $TORCH
    say "installing pd_trl${extra:+ with its '$extra' extra} and what it needs"
    pip_install "$venv" -e "$ROOT${extra:+[$extra]}"
    printf '%s\n' "$stamp" >"$venv/.pd_trl_stamp"
}

# Tests make tens of thousands of small files, which need not wait for a disk: a folder in memory, or nothing where there is no room.
memory_folder() {
    if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "$(df --output=avail -k /dev/shm | tail -n 1)" -gt 4000000 ]; then
        mktemp -d /dev/shm/pd_trl.XXXXXX
    fi
}
