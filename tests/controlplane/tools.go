//go:build tools

// Package controlplane pins the versions of the two programs that the tests run as a control plane.
//
// This package is never compiled. Its imports keep etcd, kube-apiserver and their dependencies in go.mod
// and go.sum, so that build.sh builds the same programs everywhere.
package controlplane

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
