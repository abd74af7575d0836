#!/usr/bin/env bash
# Kills and stops nodes of a cluster and crashes its database under load, and checks what clients, workers and watchers saw.
# usage: tests/cluster.sh [--seed S] [--scale PERCENT]      all of it if not said: 50 kills, 10 stops, 20 crashes, 50 cuts; a random seed, which is printed
set -euo pipefail
cd "$(dirname "$0")/.."

percent=100
while [ $# -gt 0 ]; do
    case $1 in
    --seed) export LONGHAUL_CLUSTER_SEED=${2:?--seed needs a number} ;;
    --scale) percent=${2:?--scale needs a number} ;;
    *)
        sed -n '2,3s/^# //p' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done
export LONGHAUL_CLUSTER_PERCENT=$percent
exec cargo test --locked --test it cluster::storm::a_cluster -- --nocapture
