#!/usr/bin/env bash
# Builds promtool, amtool, Prometheus and Alertmanager from their Go modules, once,
# into the user's cache, and prints the directory that holds them. It takes about
# three minutes on two cores. QUNFA_PROMTOOLS=DIR names a directory that has them.
set -euo pipefail

prometheus=v0.316.0 # of the Go module; the release is 3.16.0
alertmanager=v0.34.2

if [ -n "${QUNFA_PROMTOOLS:-}" ]; then
  echo "$QUNFA_PROMTOOLS"
  exit
fi

dir=${XDG_CACHE_HOME:-$HOME/.cache}/qunfa/prometheus-$prometheus-alertmanager-$alertmanager
mkdir -p "$dir"
work=$(mktemp -d "$dir/build.XXXXXX")
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-trimpath
cd "$work" # no go.mod of ours here

say() { printf 'promtools: %4ds  %s\n' "$SECONDS" "$*" >&2; }

# install NAME ARGUMENT...: go install, unless the program is there already. It is
# moved to its place when it is whole, so that nobody finds half of it.
install() {
  local name=$1
  shift
  [ ! -x "$dir/$name" ] || return 0
  say "building $name (once)"
  GOBIN=$work/bin go install "$@"
  mv "$work/bin/$name" "$dir/$name"
}

# Service discovery other than static, file and http would triple the build.
install promtool -tags remove_all_sd "github.com/prometheus/prometheus/cmd/promtool@$prometheus"
install prometheus -tags remove_all_sd "github.com/prometheus/prometheus/cmd/prometheus@$prometheus"
install amtool "github.com/prometheus/alertmanager/cmd/amtool@$alertmanager"

# The module of Alertmanager lacks its web interface, which the compiler wants to embed.
if [ ! -x "$dir/alertmanager" ]; then
  say "building alertmanager (once)"
  source=$(go mod download -json "github.com/prometheus/alertmanager@$alertmanager" | sed -n 's/^\t*"Dir": "\(.*\)",*$/\1/p')
  cp -r "$source" "$work/source"
  chmod -R u+w "$work/source"
  mkdir -p "$work/source/ui/app/dist"
  echo 'No web interface in this build.' >"$work/source/ui/app/dist/index.html"
  (cd "$work/source" && go build -mod=readonly -buildvcs=false -o "$work/alertmanager" ./cmd/alertmanager)
  mv "$work/alertmanager" "$dir/alertmanager"
fi

echo "$dir"
