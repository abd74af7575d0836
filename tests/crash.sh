#!/usr/bin/env bash
# Kills the server under load, again and again, and checks what clients, workers and watchers saw.
# usage: tests/crash.sh [--seed S] [--rounds N]      100 rounds if not said; a random seed, which is printed
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=100
while [ $# -gt 0 ]; do
    case $1 in
    --seed) export LONGHAUL_CRASH_SEED=${2:?--seed needs a number} ;;
    --rounds) rounds=${2:?--rounds needs a number} ;;
    *)
        sed -n '2,3s/^# //p' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done
export LONGHAUL_CRASH_ROUNDS=$rounds
exec cargo test --locked --test it crash:: -- --nocapture
