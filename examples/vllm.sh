#!/usr/bin/env bash
# Measure open models on one H200, one vLLM server after another, into one store; then the report over all.
# Needs vllm and telemetry in PATH. Stopped, it can be started again: what is recorded is not repeated.
set -euo pipefail
here=$(dirname "$0")
models=(
    openai/gpt-oss-120b           # MXFP4, 65 GB
    Qwen/Qwen3.6-35B-A3B-FP8      # mixture of experts, 3 B active
    Qwen/Qwen3.6-27B-FP8          # dense
    google/gemma-4-31B-it         # dense, bfloat16
)
for model in "${models[@]}"; do
    # No prefix cache: a prompt asked twice must cost twice. One name for all would make one plan of all.
    vllm serve "$model" --port 8000 --max-model-len 8192 --no-enable-prefix-caching &
    server=$!
    plan=$(mktemp --suffix=.toml --tmpdir="$here")
    trap 'kill "$server" 2>/dev/null || true; rm -f "$plan"' EXIT
    until curl --silent --fail http://127.0.0.1:8000/health >/dev/null; do
        kill -0 "$server" || { echo "vLLM ended while loading $model" >&2; exit 1; }
        sleep 5
    done
    sed "s|\"served\"|\"$model\"|" "$here/vllm.toml" >"$plan"
    telemetry bench "$plan"
    rm "$plan"
    kill "$server"
    wait "$server" || true
done
telemetry report
