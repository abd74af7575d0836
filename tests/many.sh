#!/usr/bin/env bash
# Follows jobs through 20 kills of the server, with many watchers of which each has to see the end of its job.
# usage: tests/many.sh [WATCHERS]      10,000 if not said, ten for each job
set -euo pipefail
cd "$(dirname "$0")/.."

export LONGHAUL_MANY_WATCHERS=${1:-10000}
exec cargo test --locked --test it many::many_watchers -- --nocapture
