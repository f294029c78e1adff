#!/usr/bin/env bash
# Runs all tests. `--long` adds those that take hours or much disk.
# Installs the clients and servers that the end-to-end tests drive (Debian, root).
set -euo pipefail
cd "$(dirname "$0")"

cargo test --workspace
e2e/install.sh
cargo test -p orlop-metadata --features postgres-server --test postgres
cargo build --release -p orlop -p orlop-e2e
target/release/orlop-e2e --binary target/release/orlop "$@"
