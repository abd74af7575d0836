#!/usr/bin/env bash
# Random requests, made from the OpenAPI document by schemathesis, against a server with every dialect and every example of routes:
# none may be answered with a 5xx, and each answer has to be what the document says.
#
#     tests/schemathesis.sh [EXAMPLES [SEED]]
#
# EXAMPLES is how many requests are made for each operation, 50 if left out. `make schemathesis` installs what it needs and runs it.
set -euo pipefail
cd "$(dirname "$0")/.."

examples=${1:-50}
seed=${2:-$RANDOM}
data=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$data"' EXIT

cargo build --locked --quiet
target/debug/longhaul serve --listen 127.0.0.1:0 --data-dir "$data/jobs" --routes examples/routes >"$data/out" 2>"$data/log" &
server=$!
until url=$(sed -n 's/^listening on //p' "$data/out") && [ -n "$url" ]; do
    kill -0 "$server" || { cat "$data/log" >&2; exit 1; }
    sleep 0.1
done

echo "seed $seed, $examples examples of each operation, against $url"
PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 target/tools/schemathesis/bin/schemathesis --config-file tests/schemathesis.toml run "$url/openapi.json" --max-examples "$examples" --seed "$seed"

# What was thrown at it has not changed how it ends.
kill -TERM "$server"
wait "$server"
if grep -E 'panicked|ERROR' "$data/log"; then
    exit 1
fi
