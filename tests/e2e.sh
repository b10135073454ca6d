#!/usr/bin/env bash
#
# Runs the tests that need a real control plane; see usage below.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/e2e.sh [--help] [ARGUMENT...]

Builds etcd and kube-apiserver when they are not there yet (tests/controlplane/build.sh: about five minutes the
first time), then runs the integration tests on them, which `cargo test` runs on an API server in memory.
Those of the chart need helm, too, and are left out (tests/chart/run.sh).
The tests start the programs on free ports of 127.0.0.1 themselves and leave none behind.

ARGUMENTs go to the test binaries: a part of a test's name, --nocapture, --test-threads 1, ...

Environment:
  KUBEBUILDER_ASSETS   a directory that holds etcd and kube-apiserver, to be used instead of building them
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."

printf 'e2e: the control plane\n' >&2
tests/controlplane/build.sh

printf 'e2e: all integration tests on it: cargo test --workspace --locked --test integration -- --include-ignored --skip chart:: %s\n' "$*" >&2
TEST_API_SERVER=real exec cargo test --workspace --locked --test integration -- --include-ignored --skip chart:: "$@"
