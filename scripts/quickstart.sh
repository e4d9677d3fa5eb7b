#!/usr/bin/env bash
# Makes a virtual environment, installs pd_trl, selects from the bundled sample of readable pairs, and then runs the whole pipeline,
# offline, on a small made-up language world.
# Usage: bash scripts/quickstart.sh [OUTPUT_FOLDER [further arguments of `pd-trl run`]]
# The environment is .venv in the checkout, or $PD_TRL_VENV. More settings: scripts/venv.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

VENV=${PD_TRL_VENV:-$ROOT/.venv}
case $VENV in /*) ;; *) VENV=$PWD/$VENV ;; esac
# An environment that test.sh has made holds all of this already.
if [ ! -x "$VENV/bin/python" ] || [ "$(cat "$VENV/.pd_trl_stamp" 2>/dev/null)" != "$(stamp_of "$VENV/bin/python" dev)" ]; then
    ensure_venv "$VENV" report
fi

OUTPUT=${1:-runs/quickstart}
[ $# -eq 0 ] || shift

say "1/2: the 150 readable pairs that come with pd_trl, by their ratings"
"$VENV/bin/pd-trl" run --config sample --output_dir "$OUTPUT-sample"
"$VENV/bin/python" "$ROOT/scripts/first_pairs.py" "$OUTPUT-sample/select"
say "why each pair was kept or dropped: open $OUTPUT-sample/report/report.html in a browser"

say "2/2: the whole pipeline in a made-up world, minutes on 2 cores"
exec "$VENV/bin/pd-trl" run --config quickstart --output_dir "$OUTPUT" "$@"
