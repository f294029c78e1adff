#!/usr/bin/env bash
# Runs all tests. `--long` adds those that take hours or much disk.
# Installs the clients and servers that the end-to-end tests drive (Debian, root).
set -euo pipefail
cd "$(dirname "$0")"

cargo test --workspace
e2e/install.sh
cargo test -p orlop-metadata --features postgres-server --test postgres
cargo test -p orlop-registry --features postgres-server --test replicas
cargo test -p orlop-objects --features store-servers
# One file that needs no other: what is tested is what goes into the container image.
target="$(rustc -vV | sed -n 's/^host: //p')"
RUSTFLAGS="-C target-feature=+crt-static" \
  cargo build --release --target "$target" -p orlop -p orlop-e2e
programs="target/$target/release"
"$programs/orlop-e2e" --binary "$programs/orlop" "$@"
