#!/usr/bin/env bash
# Makes a virtual environment, installs pd_trl with what its documentation needs, and builds it into docs/_build/html.
# Arguments go to scripts/build_docs.py. The environment is .venv in the checkout, or $PD_TRL_VENV. More settings: scripts/venv.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

VENV=${PD_TRL_VENV:-$ROOT/.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
ensure_venv "$VENV" dev
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
exec "$VENV/bin/python" "$ROOT/scripts/build_docs.py" "$@"
