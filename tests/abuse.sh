#!/usr/bin/env bash
# Attacks a server as abusive peers do, and asserts what a busy machine can not: that others wait less than twice as long meanwhile. For a quiet machine.
# usage: tests/abuse.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# One attack at a time: each is compared with the time before it.
export LONGHAUL_ABUSE_P99=1
exec cargo test --locked --release --test abuse -- --nocapture --test-threads 1
