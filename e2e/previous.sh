#!/usr/bin/env bash
# Builds the version before this one, of which the file `previous` has the commit, and prints where
# the program is. Everything lands below target/, and is built once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
commit=$(git -C "$here" rev-parse --verify --quiet "$(cat "$here/previous")^{commit}") || {
  echo "previous.sh: the commit $(cat "$here/previous") is not in this copy: git fetch --unshallow" >&2
  exit 1
}
folder=$here/../target/previous/$commit
program=$folder/target/debug/orlop

if [[ ! -x $program ]]; then
  rm -rf "$folder"
  mkdir -p "$folder/source"
  git -C "$here/.." archive "$commit" | tar -x -C "$folder/source"
  # Elsewhere than what is under test, whatever the caller has set.
  CARGO_TARGET_DIR=$folder/target \
    cargo build --quiet --locked --manifest-path "$folder/source/Cargo.toml" -p orlop >&2
fi
realpath "$program"
