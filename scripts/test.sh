#!/usr/bin/env bash
# Makes a virtual environment, installs pd_trl with what its tests need, and runs ruff, mypy and the tests.
# Arguments go to pytest: `bash scripts/test.sh -k sampler`, `bash scripts/test.sh -m slow`.
# The environment is .venv in the checkout, or $PD_TRL_VENV. More settings: scripts/venv.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

VENV=${PD_TRL_VENV:-$ROOT/.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
ensure_venv "$VENV" dev
cd "$ROOT"

BIN=$VENV/bin
"$BIN/ruff" check .
"$BIN/ruff" format --check .
"$BIN/mypy" pd_trl &
"$BIN/lint-imports" >/dev/null || "$BIN/lint-imports"
wait $!

# One thread a process and two processes: tiny models gain nothing from more threads, and two processes halve the time.
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
MEMORY=$(memory_folder)
if [ -n "$MEMORY" ]; then
    trap 'rm -rf "$MEMORY"' EXIT
    export TMPDIR=$MEMORY
fi
"$BIN/python" -m pytest -n "${PD_TRL_TEST_PROCESSES:-2}" --dist worksteal "$@"
