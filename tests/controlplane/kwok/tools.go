//go:build tools

// Package kwok pins the version of kwok, which plays the nodes of the control plane of the tests.
//
// kwok is a module of its own, because it needs newer libraries of Kubernetes than kube-apiserver in the folder
// above. This package is never compiled.
package kwok

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
