#!/usr/bin/env bash
#
# Builds the programs that the tests of the chart run; see usage below.
# The versions are those of tools/go.mod; tools/go.sum holds what is downloaded to its checksums.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/chart/build.sh [--help]

Builds helm, kubeconform and promql (which asks Prometheus' own code about expressions) into target/chart/bin, and
puts the CRDs of ServiceMonitor and PrometheusRule into target/chart/crds. The first time this takes about three
minutes on two cores; afterwards it is done at once until go.mod, go.sum or a source changes. Needs Go and, the
first time, access to a Go module proxy.
USAGE
}

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/go-programs.sh
source "$tests/go-programs.sh"
begin_programs 'chart tools' "$tests/chart/tools" chart "$tests/chart/build.sh" "$tests"/chart/tools/promql/*.go

no_arguments "$@"

# The last of what is built stands for all of it: whatever ends the build early leaves it without its stamp.
if up_to_date helm && up_to_date kubeconform && up_to_date promql; then
    say "up to date in $bin"
    exit 0
fi

prepare_build 'Install Go 1.26 or later (https://go.dev/doc/install).'

# copy_crds: of the kinds that the chart has objects of, where the Prometheus operator is.
copy_crds() {
    local module=github.com/prometheus-operator/prometheus-operator source
    (cd "$here" && go mod download "$module")
    source=$(cd "$here" && go list -mod=readonly -m -f '{{.Dir}}' "$module")/example/prometheus-operator-crd
    mkdir -p "$folder/crds"
    install -m 644 "$source"/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml "$folder/crds/"
}

helm=$(version_of helm.sh/helm/v3)
# The version of Kubernetes that helm takes for given while it has no cluster.
IFS=. read -r _ minor _ <<<"$(version_of k8s.io/client-go)"
kubernetes=helm.sh/helm/v3/pkg/chartutil.k8sVersion
lint=helm.sh/helm/v3/pkg/lint/rules.k8sVersion

copy_crds
build kubeconform github.com/yannh/kubeconform/cmd/kubeconform
build promql ./promql
build helm helm.sh/helm/v3/cmd/helm "-X helm.sh/helm/v3/internal/version.version=$helm \
    -X ${kubernetes}Major=1 -X ${kubernetes}Minor=$minor -X ${lint}Major=1 -X ${lint}Minor=$minor"
