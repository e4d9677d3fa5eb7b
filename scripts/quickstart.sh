#!/usr/bin/env bash
# Makes a virtual environment, installs pd_trl and runs the whole pipeline, offline, on a small made-up language world.
# Usage: bash scripts/quickstart.sh [OUTPUT_FOLDER [further arguments of `pd-trl run`]]
# The environment is .venv in the checkout, or $PD_TRL_VENV. More settings: scripts/venv.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

VENV=${PD_TRL_VENV:-$ROOT/.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
# An environment that test.sh has made holds all of this already.
if [ ! -x "$VENV/bin/python" ] || [ "$(cat "$VENV/.pd_trl_stamp" 2>/dev/null)" != "$(stamp_of "$VENV/bin/python" dev)" ]; then
    ensure_venv "$VENV" ""
fi

OUTPUT=${1:-runs/quickstart}
[ $# -eq 0 ] || shift
exec "$VENV/bin/pd-trl" run --config quickstart --output_dir "$OUTPUT" "$@"
