//go:build tools

// Package controlplane pins the versions of the programs that the tests run as a control plane.
//
// This package is never compiled. Its imports keep the programs and their dependencies in go.mod and
// go.sum, so that build.sh builds the same programs everywhere.
package controlplane

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kube-scheduler"
)
