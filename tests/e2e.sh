#!/usr/bin/env bash
#
# Runs the tests that need a real control plane; see usage below.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/e2e.sh [--help] [ARGUMENT...]

Builds the programs of the control plane that are missing (tests/controlplane/build.sh --nodes, about ten minutes):
etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok. Then runs the integration tests on them.
`cargo test` runs the same tests on the in-memory API server. The tests of the chart also need helm, so
tests/chart/run.sh runs them. Needs kubectl, which creates the nodes.
The tests start the programs on free ports of 127.0.0.1 and end them.

ARGUMENTs are passed to the test binaries: a part of a test's name, --nocapture, --test-threads 1, ...

Environment:
  KUBEBUILDER_ASSETS   directory with these programs, used instead of building them
  TEST_SOAK_MINUTES    how long the soak runs, with 5,000 objects (default: one minute, with 1,000)
  TEST_CLAIMS          claims of the proof of claims over HTTP (default: 400)
  TEST_FAULT_SEED      seed of the random faults of both (default: a new one, which a failure prints)
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."

printf 'e2e: building the control plane\n' >&2
tests/controlplane/build.sh --nodes

printf 'e2e: running all integration tests on the control plane: cargo test --workspace --locked --test integration -- --include-ignored --skip chart:: %s\n' "$*" >&2
TEST_API_SERVER=real exec cargo test --workspace --locked --test integration -- --include-ignored --skip chart:: "$@"
