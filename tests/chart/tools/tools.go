//go:build tools

// Package tools pins the versions of the programs and CRDs that the tests of the chart use.
//
// This package is never compiled. Its imports keep the modules and their dependencies in go.mod and go.sum, so that
// build.sh builds the same programs everywhere.
package tools

import (
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
	_ "github.com/yannh/kubeconform/cmd/kubeconform"
	_ "helm.sh/helm/v3/cmd/helm"
)
