#!/usr/bin/env bash
# Feeds each target, or those that are named: `fuzz/run.sh [SECONDS [TARGET]...]`.
# What was interesting stays in fuzz/corpus, what has failed in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")"

seconds="${1:-60}"
targets=("${@:2}")
if [ ${#targets[@]} = 0 ]; then
  targets=(fuzz_targets/*.rs)
  targets=("${targets[@]#fuzz_targets/}")
  targets=("${targets[@]%.rs}")
fi

# What `cargo fuzz` does, without it and without a nightly compiler.
export RUSTC_BOOTSTRAP=1
host="$(rustc -vV | sed -n 's/^host: //p')"
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Zsanitizer=address -Ccodegen-units=1"
cargo build --release --target "$host" "${targets[@]/#/--bin=}"
built="$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"

# The end of a target removes none of its files.
TMPDIR="$(mktemp -d)"
export TMPDIR
trap 'rm -r "$TMPDIR"' EXIT

for target in "${targets[@]}"; do
  echo "== $target"
  mkdir -p "corpus/$target" "artifacts/$target"
  words=()
  if [ -e "$target.dict" ]; then words=("-dict=$target.dict"); fi
  "$built/$host/release/$target" -max_total_time="$seconds" -timeout=30 -len_control=10 \
    -artifact_prefix="artifacts/$target/" "${words[@]}" "corpus/$target"
done
