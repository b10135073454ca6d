#!/usr/bin/env bash
#
# Proves the Helm chart and config/ on a real API server; see usage below.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/chart/run.sh [--help] [ARGUMENT...]

Builds what it needs when it is not there yet: etcd and kube-apiserver (tests/controlplane/build.sh, about five
minutes), helm, kubeconform and promql (tests/chart/build.sh, about three). Then runs the tests of the chart: lint,
rendering over a matrix of values against schemas of the API server's own OpenAPI, bad values, alerts, the life of a
release, and the binary with the ServiceAccount, the ConfigMap and the flags of a release.

ARGUMENTs go to the test binary in place of "chart::", which is in the name of each of these tests:
chart::values, chart::permissions --nocapture, ...

Environment:
  KUBEBUILDER_ASSETS   a directory that holds etcd and kube-apiserver, to be used instead of building them
  UPDATE_GENERATED     if set: write what is generated from the chart instead of comparing it
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

printf 'chart: the control plane and the tools\n' >&2
tests/controlplane/build.sh
tests/chart/build.sh

if (($# == 0)); then
    set -- chart::
fi
printf 'chart: the tests %s\n' "$*" >&2
exec cargo test --locked --test integration -- --include-ignored "$@"
