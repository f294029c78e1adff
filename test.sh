#!/usr/bin/env bash
# Runs all tests. `--long` adds those that take hours or much disk.
# Installs the clients and servers that the end-to-end tests drive (Debian, root).
set -euo pipefail
cd "$(dirname "$0")"

cargo test --workspace
e2e/install.sh
[[ " $* " != *" --long "* ]] || e2e/install.sh garage
# What needs a server of its own. The whole workspace, so that nothing is compiled a second time.
cargo test --workspace \
  --features orlop-metadata/postgres-server,orlop-registry/postgres-server \
  --features orlop-objects/store-servers \
  --test postgres --test replicas --test s3 --test azure --test gcs --test swift --test oss
# One file that needs no other: what is tested is what goes into the container image.
target="$(rustc -vV | sed -n 's/^host: //p')"
RUSTFLAGS="-C target-feature=+crt-static" \
  cargo build --release --target "$target" -p orlop -p orlop-e2e
programs="target/$target/release"
"$programs/orlop-e2e" --binary "$programs/orlop" "$@"
