#!/usr/bin/env bash
#
# Tests the Helm chart and config/ on a real API server; see usage below.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/chart/run.sh [--help] [ARGUMENT...]

Builds the missing programs: those of the control plane (tests/controlplane/build.sh --nodes, about ten minutes), and
helm, kubeconform and promql (tests/chart/build.sh, about three minutes). Then runs the tests of the chart:
  - lint
  - rendering with many combinations of values, validated with the OpenAPI schemas of the API server
  - invalid values
  - alerts
  - install, upgrade, roll back and uninstall of a release
  - the binary with the ServiceAccount, the ConfigMap and the flags of a release
  - its requests, compared with the roles of a release by the audit log

ARGUMENTs are passed to the test binary. Default: "chart::", which is in the name of each of these tests.
Examples: chart::values, chart::permissions --nocapture

Environment:
  KUBEBUILDER_ASSETS   directory with the programs of the control plane, used instead of building them
  UPDATE_GENERATED     if set: write the files that are generated from the chart instead of comparing them
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

printf 'chart: building the control plane and the tools\n' >&2
tests/controlplane/build.sh --nodes
tests/chart/build.sh

if (($# == 0)); then
    set -- chart::
fi
printf 'chart: running the tests %s\n' "$*" >&2
exec cargo test --locked --test integration -- --include-ignored "$@"
