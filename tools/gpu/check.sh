#!/usr/bin/env bash
# What only a real GPU can answer (docs/gpu-checks.md), in two parts of under ten minutes each:
#     tools/gpu/check.sh record OUT      doctor, raw readings under known loads, imported and reported
#     tools/gpu/check.sh probe OUT       the probe, and what a collector costs the GPU's work
# PYTHON names the interpreter that has the package (and torch or CuPy). A step that fails does not stop the next;
# OUT/steps.txt says what each answered, OUT/<step>.txt what it printed. Exits 1 when any failed.
set -u
part=${1:?record or probe}
out=${2:?a folder for the results}
here=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python}
mkdir -p "$out"
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} TELEMETRY_STORE=$out/store.db TELEMETRY_RUNTIME_DIR=$out/run
failed=0

step() { # NAME COMMAND…
    local name=$1 began=$SECONDS code=0
    shift
    "$@" > "$out/$name.txt" 2>&1 || code=$?
    echo "$name: exit $code after $((SECONDS - began)) s" | tee -a "$out/steps.txt"
    if [ "$code" -ne 0 ]; then
        failed=1
        tail -n 5 "$out/$name.txt"
    fi
}

telemetry() { "$python" -m telemetry.cli "$@"; }

case $part in
record)
    step nvidia-smi nvidia-smi -q
    step doctor telemetry doctor
    step record "$python" "$here/tools/gpu/record.py" "$out/record"
    step import telemetry import "$out/record"
    step report telemetry report --format json -o "$out/report.json"
    ;;
probe)
    step probe telemetry probe --source nvml -o "$out/device_profile.json"
    step overhead "$python" "$here/tools/gpu/overhead.py" "$out/overhead.json"
    ;;
*)
    echo "There is no part $part: it is record or probe." >&2
    exit 2
    ;;
esac
exit "$failed"
