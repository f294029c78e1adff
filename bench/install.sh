#!/usr/bin/env bash
# Installs the peers that the benchmark compares Orlop with: Debian's
# docker-registry and nginx, and distribution and zot, built from their Go
# modules at a pinned version into bench/.tools/bin, which git ignores. For the
# rows of --cluster also Debian's PostgreSQL, and SeaweedFS by e2e/install.sh.
#
#   bench/install.sh
#
# The Debian packages need root. It starts nothing, skips what is already
# there, and fails if anything is missing at the end.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$here/.tools/bin

distribution=github.com/distribution/distribution/v3
distribution_version=v3.1.2
# peers/zot/go.mod has its version.
zot=zotregistry.io/zot
zot_version=v1.4.3

say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The program, its module and its version, as go wrote them into it.
is_built() {
  local found
  found=$(go version -m "$bin/$1" 2>/dev/null |
    awk -v module="$2" '($1 == "mod" || $1 == "dep") && $2 == module { print $3 }')
  [[ $found == "$3" ]]
}

debian_packages=(docker-registry nginx-light postgresql curl)

has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }

install_debian_packages() {
  command -v docker-registry >/dev/null && command -v nginx >/dev/null &&
    command -v curl >/dev/null && has_postgres && return
  ((EUID == 0)) || die "run as root, or install the packages ${debian_packages[*]}"
  local policy=/usr/sbin/policy-rc.d placed=
  if [[ ! -e $policy ]]; then # nothing may be started by the installation
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    placed=$policy
  fi
  say "Debian packages: ${debian_packages[*]}"
  local apt=(apt-get -o DPkg::Lock::Timeout=300 -q -y)
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" update >&2
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends \
    "${debian_packages[@]}" >&2
  [[ -z $placed ]] || rm -f "$placed"
}

install_distribution() {
  is_built distribution "$distribution" "$distribution_version" && return
  say "distribution $distribution_version"
  # From outside any module, so that only the program's own versions count.
  (cd / && GOBIN=$bin GOFLAGS=-buildvcs=false CGO_ENABLED=0 \
    go install "$distribution/cmd/registry@$distribution_version") >&2
  mv "$bin/registry" "$bin/distribution"
}

install_zot() {
  is_built zot "$zot" "$zot_version" && return
  say "zot $zot_version"
  # Without extensions, and without the C library for signatures.
  (cd "$here/peers/zot" && CGO_ENABLED=0 \
    go build -mod=readonly -trimpath -buildvcs=false -tags containers_image_openpgp \
    -ldflags "-X $zot/pkg/api/config.Commit=$zot_version" \
    -o "$bin/zot" "$zot/cmd/zot") >&2
}

export PATH=$PATH:/usr/sbin:/sbin
command -v go >/dev/null || die "Go is needed for distribution and zot"
mkdir -p "$bin"
install_debian_packages
install_distribution
install_zot
"$here/../e2e/install.sh" weed
has_postgres || die "PostgreSQL is missing"
for program in docker-registry nginx curl "$bin/distribution" "$bin/zot"; do
  command -v "$program" >/dev/null || die "$program is missing"
done
say "all there"
