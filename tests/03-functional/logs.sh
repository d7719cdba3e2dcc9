#!/usr/bin/env bash
# Central logs, where they are on: what containers say can be found, whole and by its fields; what others send too.
# shellcheck disable=SC2016  # code for later in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
logs=${NAMESPACE_LOGS:-logs}
if ! installed "$logs"; then
  skip "what containers say can be found" "central logs are off (playbook 21)"
  exit 0
fi

search() { ask "$logs" victoria-logs:9428 "/select/logsql/query?limit=100000&query=$(jq -rn --arg q "$1" '$q | @uri')"; } # LOGSQL
found() { [[ -n $(search "$1") ]] || { echo "nothing is found by: $1"; return 1; }; }

# Every line of a pod that ended before now is in the store, once.
whole() { # NAMESPACE LABELS
  local pod said stored
  pod=$(k -n "$1" get pods -l "$2" -o json | jq -r '[.items[] | select(.status.phase == "Running")][0].metadata.name')
  said=$(k -n "$1" logs "$pod" | wc -l)
  stored=$(search "_time:30d kubernetes.pod_name:=\"$pod\" | stats count() lines" | jq -r .lines)
  at_least 1 "$said" && at_least "$said" "$stored" && at_most $((said + 50)) "$stored"
}
# A request with an id of ours, and the line about it.
request=suite-$RANDOM$RANDOM
with_an_id() {
  tunnel "$serving" driftloop-server 8500 && curl --silent --fail --max-time 20 -H "X-Request-Id: $request" "http://$address/model" >/dev/null
}
told() {
  search "_time:10m request_id:=\"$request\"" | jq -es --arg namespace "$serving" 'length == 1 and (.[0] |
    ._msg == "request" and .component == "server" and .path == "/model" and .status == "200" and (.fleet | length > 0)
    and (.release | length > 0) and (.model_version | length > 0) and .["kubernetes.pod_namespace"] == $namespace)'
}
lines_of() { search "_time:30d kubernetes.pod_namespace:=\"$1\" | stats count() lines" | jq -e '(.lines | tonumber) > 0'; } # NAMESPACE
as_json() { search "_time:30d component:=$1 level:* where:* | limit 1" | jq -e --arg c "$1" '.component == $c'; } # COMPONENT

# One line in Elasticsearch's bulk format, as Filebeat sends it, from a pod with these labels: NAME LABELS WORD
sends() {
  local image
  image=$(jsonpath '.spec.template.spec.containers[0].image' -n "$serving" deployment/driftloop-console)
  k -n "$serving" delete pod "$1" --ignore-not-found --now >/dev/null
  k -n "$serving" apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: $serving, labels: {$2}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: sender
      image: $image
      imagePullPolicy: IfNotPresent
      command: [python3, -c]
      args:
        - |
          import datetime, json, socket, urllib.request
          address = socket.getaddrinfo("vlagent.$logs", 9429)[0][4]
          socket.create_connection(address, 5).close()
          line = {"@timestamp": datetime.datetime.now(datetime.UTC).isoformat(), "message": "$3", "host": {"name": "$1"}}
          body = json.dumps({"create": {}}) + "\n" + json.dumps(line) + "\n"
          asked = urllib.request.Request(
              "http://vlagent.$logs:9429/insert/elasticsearch/_bulk?_msg_field=message&_time_field=@timestamp&_stream_fields=host.name",
              body.encode(), {"Content-Type": "application/x-ndjson"})
          answer = json.load(urllib.request.urlopen(asked, timeout=20))
          assert answer["errors"] is False, answer
      resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 96Mi}}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
YAML
  soon 60 ended "$1"
}
ended() { [[ $(jsonpath '.status.phase' -n "$serving" pod "$1") =~ ^(Succeeded|Failed)$ ]]; }
succeeds() { sends "$@" && same Succeeded "$(jsonpath '.status.phase' -n "$serving" pod "$1")"; }
cannot() { sends "$@" && same Failed "$(jsonpath '.status.phase' -n "$serving" pod "$1")" && k -n "$serving" logs "$1" | grep -qE 'TimeoutError|timed out|refused'; }
always 'k -n "$serving" delete pod suite-sends suite-sends-not --ignore-not-found --now'

for namespace in "${namespaces[@]}"; do
  fact "what containers of $namespace say can be found" soon 60 lines_of "$namespace"
done
fact "every line of the retrainer is there, once" soon 60 whole "$serving" app.kubernetes.io/name=driftloop-retrainer
# Some have nothing to say until they are asked.
for each in driftloop-server:8500/model driftloop-retrainer:8600/status driftloop-console:8400/api/v1/me driftloop-units:8700/status; do
  ask "$serving" "${each%%/*}" "/${each#*/}" >/dev/null 2>&1
done
for component in server retrainer console units watch mlflow; do
  fact "what $component says has fields" soon 60 as_json $component
done
fact "a request with an id is answered" with_an_id
fact "it can be found by its id, with component, fleet, release and model" soon 60 told
fact "a pod with the label may send lines in bulk" succeeds suite-sends "driftloop/logs: sends, app.kubernetes.io/name: suite-sends" "sent in bulk $request"
fact "what it sent can be found" soon 60 found "_time:10m host.name:=suite-sends _msg:=\"sent in bulk $request\""
fact "a pod without the label may not" cannot suite-sends-not "app.kubernetes.io/name: suite-sends-not" "not sent $request"
true
