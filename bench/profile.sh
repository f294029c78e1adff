#!/usr/bin/env bash
# Draws where Orlop's time goes in the rows that matter most: docs/profiles/*.svg.
# Needs perf (Debian: linux-perf), and root or kernel.perf_event_paranoid at 1 or less.
#   bench/profile.sh [FOLDER FOR DATA]
set -euo pipefail
cd "$(dirname "$0")/.."

data=${1:-/tmp}
pictures=docs/profiles
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# Without frame pointers perf can not tell who called whom.
export RUSTFLAGS="-C force-frame-pointers=yes"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/profile
cargo build --release -p orlop -p orlop-bench
programs=$CARGO_TARGET_DIR/release

# draw NAME ROW: the server has core 0 for itself.
draw() {
    perf record --quiet -C 0 -F 1999 -g -o "$work/perf.data" -- \
        "$programs/orlop-bench" --orlop "$programs/orlop" --data "$data" --short --rounds 5 \
        --without docker-registry --without distribution --without zot --without nginx \
        --without bare --only "$2" >"$work/log"
    perf script -i "$work/perf.data" -F comm,ip,sym,dso 2>"$work/log" |
        "$programs/flame" --title "$2" --without swapper --without perf --without orlop-bench \
            --from web::server::serve --from blocking::task --from write_in_groups \
            >"$pictures/$1.svg"
    echo "$pictures/$1.svg"
}

mkdir -p "$pictures"
draw manifest-get "manifest GET by tag, everybody may (c16)"
draw blob-get-small "blob GET 4 KiB (c8)"
draw blob-get-large "blob GET 100 MiB (c8)"
draw blob-get-tls "TLS, blob GET 1 MiB (c8)"
draw push-large "push 8 MiB, POST+PUT (c16)"
draw push-small "push 4 KiB, POST+PUT (c16)"
draw manifest-put "manifest PUT, new tag each (c16)"
