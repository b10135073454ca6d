#!/usr/bin/env bash
#
# Builds etcd and kube-apiserver from their Go modules into target/controlplane/bin; see usage below.
# go.mod has the versions, and go.sum has the checksums of the downloads.
# A stamp beside each program holds the checksum of its sources, so that a second run builds nothing.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/controlplane/build.sh [--help]

Builds etcd and kube-apiserver, the control plane of the tests, into target/controlplane/bin.

The first run takes about five minutes on two cores. Later runs return at once until go.mod, go.sum or the
script changes. Needs Go. The first run also needs access to a Go module proxy.

Environment:
  KUBEBUILDER_ASSETS   directory with etcd and kube-apiserver, used by the tests instead of building them
USAGE
}

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/go-programs.sh
source "$tests/go-programs.sh"
begin_programs 'control plane' "$tests/controlplane" controlplane "$tests/controlplane/build.sh"

no_arguments "$@"

if [[ -n ${KUBEBUILDER_ASSETS-} ]]; then
    if [[ -x $KUBEBUILDER_ASSETS/etcd && -x $KUBEBUILDER_ASSETS/kube-apiserver ]]; then
        say "nothing to build: the tests use etcd and kube-apiserver in KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS"
        exit 0
    fi
    say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks etcd or kube-apiserver; building both"
fi

if up_to_date etcd && up_to_date kube-apiserver; then
    say "up to date in $bin"
    exit 0
fi

prepare_build "Install Go 1.25 or later (https://go.dev/doc/install), or set
KUBEBUILDER_ASSETS to a directory with etcd and kube-apiserver."

kubernetes=$(version_of k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
version=k8s.io/component-base/version

build etcd go.etcd.io/etcd/server/v3
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver \
    "-X $version.gitVersion=$kubernetes -X $version.gitMajor=$major -X $version.gitMinor=$minor"
