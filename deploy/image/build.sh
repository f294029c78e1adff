#!/usr/bin/env bash
# Builds the container image: build.sh [TAG] [PROGRAM]
# Without PROGRAM, an `orlop` that needs no other file is compiled first.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
tag="${1:-orlop}"
program="${2:-}"

if [ -z "$program" ]; then
  target="$(rustc -vV | sed -n 's/^host: //p')"
  (cd "$here/../.." && RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --profile dist --target "$target" -p orlop)
  program="$here/../../target/$target/dist/orlop"
fi
if ldd "$program" 2>/dev/null | grep -q '=>'; then
  echo "$program needs shared libraries, which the image does not have" >&2
  exit 1
fi

context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT
root="$context/root"
mkdir -p "$root/bin" "$root/etc/docker/registry" "$root/etc/distribution" \
  "$root/etc/ssl/certs" "$root/var/lib/registry" "$root/tmp"
install -m 0755 "$program" "$root/bin/registry"
strip "$root/bin/registry" 2>/dev/null || true
ln -s registry "$root/bin/orlop"
# What registry:2 and registry:3 are started with.
ln -s bin/registry "$root/entrypoint.sh"
install -m 0644 "$here/config.yml" "$root/etc/docker/registry/config.yml"
ln -s ../docker/registry/config.yml "$root/etc/distribution/config.yml"
# Whom to believe when the registry calls others.
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  install -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
fi
install -m 0644 "$here/Dockerfile" "$context/Dockerfile"
docker build --quiet --tag "$tag" "$context"
