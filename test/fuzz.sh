#!/usr/bin/env bash
# Runs every fuzz target for FUZZTIME, one after the other: `go test -fuzz` takes
# one target of one package at a time. What it finds is kept in testdata/fuzz of
# the package, and from then on run by every `go test`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${GO:=go}" "${FUZZTIME:=30s}"

ran=0
for dir in $(git grep -l --untracked '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do
  for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/func //' | sort -u); do
    echo "--- $dir $target ($FUZZTIME)"
    "$GO" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "./$dir"
    ran=$((ran + 1))
  done
done
[ "$ran" -gt 0 ] || { echo "no fuzz target was found"; exit 1; }
echo "$ran targets, nothing found"
