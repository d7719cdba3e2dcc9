#!/usr/bin/env bash
# GitOps, where it is on: what Git says is what runs, what is altered is put back, and Flux can do no more than it must.
# shellcheck disable=SC2016  # code for later in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
gitops=${NAMESPACE_GITOPS:-gitops} environment=${GITOPS_ENVIRONMENT:-production}
if ! installed "$gitops"; then
  skip "what Git says is what runs" "Git does not say what runs (playbook 20)"
  exit 0
fi

applied() {
  local source fetched
  source=$(jsonpath '.spec.sourceRef.kind' -n "$gitops" kustomization "$environment")
  fetched=$(jsonpath '.status.artifact.revision' -n "$gitops" "${source,,}" driftloop)
  same "True $fetched" "$(jsonpath '.status.conditions[?(@.type=="Ready")].status' -n "$gitops" kustomization "$environment") $(
    jsonpath '.status.lastAppliedRevision' -n "$gitops" kustomization "$environment")"
}
# What is of a kind that Git holds, and of no owner but a manifest, is from Git: KIND NAMESPACE
from_git() {
  k -n "$2" get "$1" -o json | jq -r '.items[] | select(.metadata.ownerReferences == null)
    | select(.metadata.labels["kustomize.toolkit.fluxcd.io/name"] == null) | "not from Git: \(.metadata.namespace)/\(.metadata.name)"' | none
}
# The newest revision is applied once more, and with it what somebody altered.
look_now() { k -n "$gitops" annotate --overwrite kustomization "$environment" "reconcile.fluxcd.io/requestedAt=$(date +%s.%N)" >/dev/null; }
budget() { jsonpath '.spec.maxUnavailable' -n "$serving" poddisruptionbudget driftloop-server; }
alter() { k -n "$serving" patch poddisruptionbudget driftloop-server --type merge -p '{"spec": {"maxUnavailable": 2}}' >/dev/null && look_now; }
has_budget() { same "$1" "$(budget)"; }
puts_back() { local before; before=$(budget); same 1 "$before" && alter && soon 60 has_budget 1; }
there() { exists -n "$serving" poddisruptionbudget driftloop-server; }
brings_back() { k -n "$serving" delete poddisruptionbudget driftloop-server >/dev/null && look_now && soon 60 there; }
leaves_replicas() {
  k -n "$serving" get deployment driftloop-server -o json --show-managed-fields | jq -r '.metadata.managedFields[]
    | select(.manager == "kustomize-controller" and (.fieldsV1["f:spec"] | has("f:replicas"))) | "Flux sets the replicas"' | none
}
cannot() { # ACCOUNT VERB WHAT NAMESPACE
  local answer
  answer=$(k auth can-i "$2" "$3" -n "$4" --as "system:serviceaccount:$gitops:$1" 2>/dev/null)
  same no "$answer"
}

fact "the newest commit of $environment is applied" soon 120 applied
for namespace in "$storage" "$mlflow" "$serving"; do
  for kind in deployments statefulsets services cronjobs; do
    fact "$kind of $namespace are from Git" from_git $kind "$namespace"
  done
done
fact "what is altered in the cluster is put back" puts_back
fact "what is deleted in the cluster is brought back" brings_back
fact "the number of servers is not Git's" leaves_replicas
for account in "$environment" kustomize-controller source-controller; do
  fact "$account may not read secrets of the platform" cannot "$account" get secrets "$serving"
  fact "$account may not give rights" cannot "$account" create rolebindings "$serving"
  fact "$account may not change other namespaces" cannot "$account" patch deployments kube-system
done
true
