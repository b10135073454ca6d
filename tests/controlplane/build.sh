#!/usr/bin/env bash
#
# Builds the programs of the control plane from their Go modules into target/controlplane/bin; see usage below.
# The go.mod files have the versions, and the go.sum files have the checksums of the downloads.
# A stamp beside each program holds the checksum of its sources, so that a second run builds nothing.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/controlplane/build.sh [--nodes] [--help]

Builds etcd and kube-apiserver, the control plane of the tests, into target/controlplane/bin.

The first run takes about five minutes on two cores, with --nodes about ten. Later runs return at once until a
go.mod, a go.sum or the script changes. Needs Go. The first run also needs access to a Go module proxy.

Options:
  --nodes   also build what runs pods: kube-controller-manager, kube-scheduler and kwok, which plays the nodes

Environment:
  KUBEBUILDER_ASSETS   directory with the programs, used by the tests instead of building them
USAGE
}

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/go-programs.sh
source "$tests/go-programs.sh"

# The programs of the module in this folder, and those of the module in kwok.
programs=(etcd kube-apiserver)
kwok_programs=()
if [[ ${1-} == --nodes ]]; then
    programs+=(kube-controller-manager kube-scheduler)
    kwok_programs=(kwok)
    shift
fi

begin_programs 'control plane' "$tests/controlplane" controlplane "$tests/controlplane/build.sh"
no_arguments "$@"

# all_in DIRECTORY: succeeds if the directory has every program that was asked for.
all_in() {
    local program
    for program in "${programs[@]}" "${kwok_programs[@]}"; do
        [[ -x $1/$program ]] || return 1
    done
}

if [[ -n ${KUBEBUILDER_ASSETS-} ]]; then
    if all_in "$KUBEBUILDER_ASSETS"; then
        say "nothing to build: the tests use the programs in KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS"
        exit 0
    fi
    say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks one of ${programs[*]} ${kwok_programs[*]}; building all of them"
fi

readonly advice="Install Go 1.26 or later (https://go.dev/doc/install), or set
KUBEBUILDER_ASSETS to a directory with ${programs[*]} ${kwok_programs[*]}."

# kubernetes NAME: builds a program of Kubernetes, which reports the version of the module.
kubernetes() {
    local release major minor version=k8s.io/component-base/version
    release=$(version_of k8s.io/kubernetes)
    IFS=. read -r major minor _ <<<"${release#v}"
    build "$1" "k8s.io/kubernetes/cmd/$1" \
        "-X $version.gitVersion=$release -X $version.gitMajor=$major -X $version.gitMinor=$minor"
}

# kwok: builds kwok, and copies the files that tell kwok how a node, a pod and a volume proceed. Without these files
# kwok does nothing.
kwok() {
    local stages stage file
    build kwok sigs.k8s.io/kwok/cmd/kwok
    stages=$(cd "$here" && go list -mod=readonly -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
    for stage in node/fast node/heartbeat-with-lease pod/fast volume/fast; do
        for file in "$stages/$stage"/*.yaml; do
            if grep -q '^kind: Stage$' "$file"; then
                printf -- '---\n'
                cat "$file"
            fi
        done
    done >"$work/kwok-stages.yaml"
    mv -f "$work/kwok-stages.yaml" "$bin/kwok-stages.yaml"
}

# build_missing PROGRAM...: builds the programs of one module that are not up to date.
build_missing() {
    local program missing=()
    for program in "$@"; do
        up_to_date "$program" || missing+=("$program")
    done
    ((${#missing[@]} > 0)) || return 0
    prepare_build "$advice"
    for program in "${missing[@]}"; do
        case $program in
            etcd) build etcd go.etcd.io/etcd/server/v3 ;;
            kwok) kwok ;;
            *) kubernetes "$program" ;;
        esac
    done
}

# A subshell for each module, because each has its own stamp and temporary directory.
(build_missing "${programs[@]}")
(
    begin_programs 'control plane' "$tests/controlplane/kwok" controlplane "$tests/controlplane/build.sh"
    build_missing "${kwok_programs[@]}"
)
say "the programs are in $bin"
