//go:build tools

// Package controlplane pins the two programs that tests run as a real Kubernetes control plane.
//
// Nothing here is compiled: the imports keep etcd and kube-apiserver, with all they need, in go.mod
// and go.sum, so that build.sh builds the same programs everywhere.
package controlplane

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
