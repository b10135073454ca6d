#!/usr/bin/env bash
#
# Builds etcd and kube-apiserver from their Go modules into target/controlplane/bin; see usage below.
# The versions are those of go.mod; go.sum holds what is downloaded to its checksums.
# A stamp beside each program says from what it was built, so a second run has nothing to do.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/controlplane/build.sh [--help]

Builds etcd and kube-apiserver, the control plane that tests run on, into target/controlplane/bin.
The first time this takes about five minutes on two cores; afterwards it is done at once until go.mod,
go.sum or the script changes. Needs Go and, the first time, access to a Go module proxy.

Environment:
  KUBEBUILDER_ASSETS   a directory that holds etcd and kube-apiserver: nothing is built, tests use these
USAGE
}

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/go-programs.sh
source "$tests/go-programs.sh"
begin_programs 'control plane' "$tests/controlplane" controlplane "$tests/controlplane/build.sh"

no_arguments "$@"

if [[ -n ${KUBEBUILDER_ASSETS-} ]]; then
    if [[ -x $KUBEBUILDER_ASSETS/etcd && -x $KUBEBUILDER_ASSETS/kube-apiserver ]]; then
        say "using etcd and kube-apiserver of KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS; nothing to build"
        exit 0
    fi
    say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS holds no etcd and kube-apiserver; building them here"
fi

if up_to_date etcd && up_to_date kube-apiserver; then
    say "up to date in $bin"
    exit 0
fi

prepare_build "Install Go 1.25 or later (https://go.dev/doc/install), or set
KUBEBUILDER_ASSETS to a directory that holds etcd and kube-apiserver."

kubernetes=$(version_of k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
version=k8s.io/component-base/version

build etcd go.etcd.io/etcd/server/v3
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver \
    "-X $version.gitVersion=$kubernetes -X $version.gitMajor=$major -X $version.gitMinor=$minor"
