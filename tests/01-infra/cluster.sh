#!/usr/bin/env bash
# The cluster itself.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"

api_ready() { same ok "$(k get --raw /readyz 2>&1)"; }
nodes_ready() { k get nodes -o json | jq -r 'if .items == [] then error("there is no node") else .items[] end | select(any(.status.conditions[]; .type == "Ready" and .status == "True") | not).metadata.name' | none; }
no_pressure() { k get nodes -o json | jq -r '.items[] | .metadata.name as $n | .status.conditions[] | select(.type != "Ready" and .status == "True") | "\($n): \(.message)"' | none; }
dns_runs() { at_least 1 "$(k -n kube-system get pods -l k8s-app=kube-dns -o json | jq '[.items[] | select(any(.status.conditions[]?; .type == "Ready" and .status == "True"))] | length')"; }
node_figures() { same "$(k get nodes -o name | wc -l)" "$(k get --raw /apis/metrics.k8s.io/v1beta1/nodes | jq '.items | length')"; }
one_default_class() { same 1 "$(k get storageclass -o json | jq '[.items[] | select(.metadata.annotations["storageclass.kubernetes.io/is-default-class"] == "true")] | length')"; }
namespace_there() { exists namespace "$1" || { k get namespaces; return 1; }; }
pods_ready() {
  installed "$1" || { echo "there is no pod in $1"; return 1; }
  k -n "$1" get pods -o json | jq -r '.items[] | select(.status.phase != "Succeeded")
    | select(any(.metadata.ownerReferences[]?; .kind == "Job") | not)
    | select(any(.status.conditions[]?; .type == "Ready" and .status == "True") | not)
    | "\(.metadata.name): \(.status.phase) \([.status.containerStatuses[]?.state | to_entries[] | .value.reason // empty] | join(" "))"' | none || return 1
  # A pod that could not even be made is in no list of pods.
  k -n "$1" get deployments,statefulsets,daemonsets -o json | jq -r '.items[]
    | (.status.desiredNumberScheduled // .spec.replicas) as $wanted | (.status.numberReady // .status.readyReplicas // 0) as $ready
    | select($ready < $wanted) | "\(.kind) \(.metadata.name): \($ready) of \($wanted) pods are ready"' | none
}
never_out_of_memory() {
  of_platform pods | jq -r '.[] | .metadata as $m | .status.containerStatuses[]?
    | select(.lastState.terminated.reason == "OOMKilled" or .state.terminated.reason == "OOMKilled") | "\($m.namespace)/\($m.name) \(.name)"' | none
}
jobs_done() {
  of_platform jobs | jq -r '.[] | select(any(.status.conditions[]?; .type == "Failed" and .status == "True")) | "\(.metadata.namespace)/\(.metadata.name)"' | none
}
no_kubernetes_defaults() { # nothing is left in the namespace where everybody looks first
  k -n default get pods,deployments,statefulsets -o name | none
}

fact "the API server is ready" api_ready
fact "every node is ready" nodes_ready
fact "no node is short of memory, disk or process ids" no_pressure
fact "name resolution runs" dns_runs
fact "the metrics server knows every node" node_figures
fact "there is exactly one default storage class" one_default_class
for namespace in "${namespaces[@]}"; do
  fact "the namespace $namespace exists" namespace_there "$namespace"
  fact "every pod in $namespace is ready" soon 120 pods_ready "$namespace"
done
fact "no container was ended for want of memory" never_out_of_memory
fact "no Job has failed" jobs_done
fact "the namespace default is empty" no_kubernetes_defaults
true
