#!/usr/bin/env bash
# What pods may do, and what they may reach.
# shellcheck disable=SC2016  # jq and Python in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
pods=$(of_platform pods) || pods='[]'
# node-exporter looks at the machine itself; it is the one exception, and only to these.
ordinary=$(jq '[.[] | select(.metadata.labels["app.kubernetes.io/name"] != "node-exporter")]' <<<"$pods")

containers() { # JQ CONDITION over a container $c of pod $p: names those for which it does not hold
  in_pods "$ordinary" '. as $p | (.spec.containers + (.spec.initContainers // []))[] as $c | select(('"$1"') | not) | "\($p.metadata.namespace)/\($p.metadata.name) \($c.name)"'
}
in_pods() { # PODS JQ FILTER of one pod: what it finds is wrong
  jq -r 'if . == [] then error("there are no pods to look at") else .[] | '"$2"' end' <<<"$1" | none
}
refuses() { # a pod that breaks the rule is refused by the API server: NAMESPACE SPEC
  local answer
  if answer=$(k -n "$1" apply --dry-run=server -f - <<<"{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"suite-refused\"}, \"spec\": $2}" 2>&1); then
    echo "it was accepted: $answer"
    return 1
  fi
  grep -q 'violates PodSecurity' <<<"$answer" || { echo "$answer"; return 1; }
}
enforces() { same "${2:-restricted}" "$(k get namespace "$1" -o json | jq -r '.metadata.labels["pod-security.kubernetes.io/enforce"]')"; }
denies_by_default() {
  k -n "$1" get networkpolicies -o json | jq -e 'any(.items[]; .spec.podSelector == {} and (.spec.policyTypes | sort) == ["Egress", "Ingress"]
    and ((.spec.ingress // []) | length) == 0 and ((.spec.egress // []) | length) == 0)' >/dev/null || { k -n "$1" get networkpolicies; return 1; }
}
no_open_ports() { k get services --all-namespaces -o json | jq -r '.items[] | select(.spec.type == "NodePort" or .spec.type == "LoadBalancer") | "\(.metadata.namespace)/\(.metadata.name): \(.spec.type)"' | none; }
tokens_named() { # a pod without a service account of its own holds no token
  in_pods "$pods" 'select((.spec.serviceAccountName // "default") == "default" and ([.spec.volumes[]? | select(.projected.sources[]?.serviceAccountToken)] | length > 0)) | "\(.metadata.namespace)/\(.metadata.name)"'
}
no_cluster_admin() { k get clusterrolebindings -o json | jq -r --argjson names "$(printf '%s\n' "${namespaces[@]}" | jq -R . | jq -s .)" '.items[] | select(.roleRef.name == "cluster-admin") | .metadata.name as $b | .subjects[]? | select(.kind == "ServiceAccount" and (.namespace as $n | $names | index($n))) | "\($b): \(.namespace)/\(.name)"' | none; }
no_plain_secrets() {
  in_pods "$pods" '. as $p | (.spec.containers + (.spec.initContainers // []))[] | .env[]? | select((.name | test("PASSWORD$|SECRET|TOKEN$|ACCESS_KEY")) and (.value // "") != "" and (.name | test("_FILE$") | not)) | "\($p.metadata.name): \(.name)"'
}
no_secret_arguments() {
  in_pods "$pods" '. as $p | (.spec.containers + (.spec.initContainers // []))[] | ((.command // []) + (.args // []))[] | select(test("(password|secret|token)=[^$/ ]{8}"; "i")) | "\($p.metadata.name): \(.[0:60])"'
}
quantity='def mebibytes: capture("^(?<number>[0-9.]+)(?<unit>[A-Za-z]*)$") | (.number | tonumber)
  * ({"": 1, "k": 1000, "M": 1000000, "G": 1000000000, "Ki": 1024, "Mi": 1048576, "Gi": 1073741824}[.unit] // error("unit \(.unit)")) / 1048576; '
fits_16_gb() { # requests in MiB of everything that runs or waits for a place: what does not fit never runs
  at_most 12288 "$(k get pods --all-namespaces -o json | jq "$quantity"'[.items[] | select(.status.phase == "Running" or .status.phase == "Pending")
    | .spec.containers[].resources.requests.memory // "0" | mebibytes] | add')"
}
memory_in_use() { # MiB of the platform's pods, idle: at most 6 GiB
  local namespace
  at_most 6144 "$(for namespace in "${namespaces[@]}"; do
    k get --raw "/apis/metrics.k8s.io/v1beta1/namespaces/$namespace/pods" | jq "$quantity"'if .items == [] then error("no figures") else .items[].containers[].usage.memory | mebibytes end' || exit 1
  done | jq -s add || echo nothing)"
}

for namespace in "${namespaces[@]}"; do
  fact "$namespace admits only pods that Pod Security allows there" enforces "$namespace" "$([[ $namespace == "$monitoring" ]] && echo privileged)"
  fact "$namespace lets nothing in or out that no policy names" denies_by_default "$namespace"
done
fact "a privileged pod is refused" refuses "$serving" '{"containers": [{"name": "c", "image": "none", "securityContext": {"privileged": true}}]}'
fact "a pod that shares the machine's network is refused" refuses "$serving" '{"hostNetwork": true, "containers": [{"name": "c", "image": "none"}]}'
fact "no container runs as root" containers '$c.securityContext.runAsNonRoot == true or ($p.spec.securityContext.runAsNonRoot == true and $c.securityContext.runAsNonRoot != false)'
fact "every root file system is read-only" containers '$c.securityContext.readOnlyRootFilesystem == true'
fact "every container gives up all capabilities" containers '($c.securityContext.capabilities.drop // []) | index("ALL") != null'
fact "no container may gain privileges" containers '$c.securityContext.allowPrivilegeEscalation == false'
fact "every container has the runtime's seccomp profile" containers '($c.securityContext.seccompProfile.type // $p.spec.securityContext.seccompProfile.type) == "RuntimeDefault"'
fact "every container asks for memory and processor and has a limit of memory" containers '$c.resources.requests.memory and $c.resources.requests.cpu and $c.resources.limits.memory'
fact "no image is called latest and none is always pulled" containers '($c.image | test(":latest$|^[^:@]+$") | not) and $c.imagePullPolicy != "Always"'
fact "only pods with an account of their own hold a token" tokens_named
fact "no account of the platform administers the cluster" no_cluster_admin
fact "no secret stands in a pod's environment in plain" no_plain_secrets
fact "no secret stands among a process' arguments" no_secret_arguments
fact "no service is open to the outside" no_open_ports
fact "all requests of memory fit a machine of 16 GB with a quarter to spare" fits_16_gb
fact "the platform uses at most 6 GiB" memory_in_use
true
