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
go.sum or this script changes. Needs Go and, the first time, access to a Go module proxy.

Environment:
  KUBEBUILDER_ASSETS   a directory that holds etcd and kube-apiserver: nothing is built, tests use these
USAGE
}

say() {
    printf 'control plane: %s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

checksum() {
    if command -v sha256sum >/dev/null; then
        sha256sum
    else
        shasum -a 256
    fi | cut -d ' ' -f 1
}

# The version that go.mod requires of a module.
version_of() {
    awk -v module="$1" '$1 == module { print $2; exit }' "$here/go.mod"
}

# up_to_date NAME: the program is there and was built from these very files.
up_to_date() {
    [[ -x $bin/$1 && -f $bin/$1.stamp && $(<"$bin/$1.stamp") == "$stamp" ]]
}

# build NAME PACKAGE LDFLAGS: a program appears under its own name only when it is whole.
build() {
    local name=$1 package=$2 ldflags=$3 started=$SECONDS
    if up_to_date "$name"; then
        return
    fi
    say "building $name $(version_of "${package%/cmd/*}") ..."
    (cd "$here" && CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false \
        -ldflags "-s -w $ldflags" -o "$work/$name" "$package") || die "building $name failed, see above"
    rm -f "$bin/$name.stamp"
    mv -f "$work/$name" "$bin/$name"
    printf '%s\n' "$stamp" >"$work/$name.stamp"
    mv -f "$work/$name.stamp" "$bin/$name.stamp"
    say "built $bin/$name in $((SECONDS - started)) s"
}

case ${1-} in
    '') ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        die "unknown argument: $1"
        ;;
esac

if [[ -n ${KUBEBUILDER_ASSETS-} ]]; then
    if [[ -x $KUBEBUILDER_ASSETS/etcd && -x $KUBEBUILDER_ASSETS/kube-apiserver ]]; then
        say "using etcd and kube-apiserver of KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS; nothing to build"
        exit 0
    fi
    say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS holds no etcd and kube-apiserver; building them here"
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=$root/target/controlplane/bin
stamp=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | checksum)

if up_to_date etcd && up_to_date kube-apiserver; then
    say "up to date in $bin"
    exit 0
fi

command -v go >/dev/null || die "go is not on the PATH. Install Go 1.25 or later (https://go.dev/doc/install), or set
KUBEBUILDER_ASSETS to a directory that holds etcd and kube-apiserver."

mkdir -p "$bin"
work=$(mktemp -d "$root/target/controlplane/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Two builds at a time would only get in each other's way: the second waits, then finds all done.
if command -v flock >/dev/null; then
    exec 9>"$root/target/controlplane/lock"
    flock 9
fi

kubernetes=$(version_of k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
version=k8s.io/component-base/version

build etcd go.etcd.io/etcd/server/v3 ''
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver \
    "-X $version.gitVersion=$kubernetes -X $version.gitMajor=$major -X $version.gitMinor=$minor"
