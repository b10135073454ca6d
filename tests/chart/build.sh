#!/usr/bin/env bash
#
# Builds the programs that the tests of the chart need; see usage below.
# tools/go.mod has the versions, and tools/go.sum has the checksums of the downloads.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/chart/build.sh [--help]

Builds helm, kubeconform and promql into target/chart/bin, and copies the CRDs of ServiceMonitor and PrometheusRule to
target/chart/crds. promql evaluates expressions with the code of Prometheus.

The first run takes about three minutes on two cores. Later runs return at once until go.mod, go.sum or a source
changes. Needs Go. The first run also needs access to a Go module proxy.
USAGE
}

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/go-programs.sh
source "$tests/go-programs.sh"
begin_programs 'chart tools' "$tests/chart/tools" chart "$tests/chart/build.sh" "$tests"/chart/tools/promql/*.go

no_arguments "$@"

# The copied CRDs have no stamp. The CRDs are complete if helm is up to date, because helm is built last.
if up_to_date helm && up_to_date kubeconform && up_to_date promql; then
    say "up to date in $bin"
    exit 0
fi

prepare_build 'Install Go 1.26 or later (https://go.dev/doc/install).'

# copy_crds: copies the CRDs of the Prometheus operator for the two kinds that the chart creates.
copy_crds() {
    local module=github.com/prometheus-operator/prometheus-operator source
    (cd "$here" && go mod download "$module")
    source=$(cd "$here" && go list -mod=readonly -m -f '{{.Dir}}' "$module")/example/prometheus-operator-crd
    mkdir -p "$folder/crds"
    install -m 644 "$source"/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml "$folder/crds/"
}

helm=$(version_of helm.sh/helm/v3)
# The Kubernetes version that helm assumes without a cluster.
IFS=. read -r _ minor _ <<<"$(version_of k8s.io/client-go)"
kubernetes=helm.sh/helm/v3/pkg/chartutil.k8sVersion
lint=helm.sh/helm/v3/pkg/lint/rules.k8sVersion

copy_crds
build kubeconform github.com/yannh/kubeconform/cmd/kubeconform
build promql ./promql
build helm helm.sh/helm/v3/cmd/helm "-X helm.sh/helm/v3/internal/version.version=$helm \
    -X ${kubernetes}Major=1 -X ${kubernetes}Minor=$minor -X ${lint}Major=1 -X ${lint}Minor=$minor"
