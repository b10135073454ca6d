//go:build tools

// Package tools pins the programs that the tests of the chart run, and the CRDs that they install.
//
// Nothing here is compiled: the imports keep these modules, with all they need, in go.mod and go.sum, so that
// build.sh makes the same of them everywhere.
package tools

import (
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
	_ "github.com/yannh/kubeconform/cmd/kubeconform"
	_ "helm.sh/helm/v3/cmd/helm"
)
