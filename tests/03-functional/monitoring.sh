#!/usr/bin/env bash
# Metrics and alerts.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
targets=$(ask "$monitoring" prometheus:9090 '/api/v1/targets?state=active' 2>/dev/null)

all_up() { ask "$monitoring" prometheus:9090 '/api/v1/targets?state=active' | jq -r '.data.activeTargets | if . == [] then error("there are no targets") else .[] end | select(.health != "up") | "\(.labels.job) \(.scrapeUrl): \(.lastError)"' | none; }
enough_up() { at_least 15 "$(query 'sum(up)')" || { jq -r '.data.activeTargets[] | "\(.health) \(.labels.job) \(.scrapeUrl)"' <<<"$targets"; return 1; }; }
scraped() { at_least 1 "$(query "count(up{job=~\".*$1.*\"} == 1)")"; }
rules_loaded() { at_least 5 "$(ask "$monitoring" prometheus:9090 /api/v1/rules | jq '[.data.groups[].rules[]] | length')"; }
rules_well() { ask "$monitoring" prometheus:9090 /api/v1/rules | jq -r '[.data.groups[].rules[]] | if . == [] then error("there are no rules") else .[] end | select(.health == "err") | "\(.name): \(.lastError)"' | none; }
rule_there() { ask "$monitoring" prometheus:9090 /api/v1/rules | jq -e --arg name "$1" 'any(.data.groups[].rules[]; .name == $name)' >/dev/null || { ask "$monitoring" prometheus:9090 /api/v1/rules | jq -r '.data.groups[].rules[].name'; return 1; }; }
knows_alertmanager() { at_least 1 "$(ask "$monitoring" prometheus:9090 /api/v1/alertmanagers | jq '.data.activeAlertmanagers | length')"; }
configuration() { ask "$monitoring" alertmanager:9093 /api/v2/status | jq -er .config.original; }
routes_at_once() {
  local configuration route
  configuration=$(configuration) || return 1
  route=$(grep -A8 DriftloopDrift <<<"$configuration")
  [[ $route == *'group_wait: 0s'* ]] || { printf '%s\n' "$configuration"; return 1; }
}
calls_the_retrainer() { # Alertmanager does not show a webhook's address: what it was given is looked at
  local given running
  given=$(k -n "$monitoring" get secret alertmanager-config -o json | jq -er '.data[] | @base64d') && running=$(configuration) || return 1
  [[ $given == *'url: http://driftloop-retrainer.'* && $running == *'receiver: retrainer'* ]] || { printf '%s\n' "$given" "$running"; return 1; }
}
no_token_shown() { configuration | { grep -iE 'credentials: [^<]' || true; } | none; }
pushed() {
  tunnel "$monitoring" pushgateway 9091 || return 1
  curl --silent --show-error --fail --data-binary "driftloop_suite_mark $mark
" "http://$address/metrics/job/suite-$mark" || return 1
  always "curl --silent -X DELETE http://$address/metrics/job/suite-$mark"
  soon 90 has_value
}
has_value() { same "$mark" "$(query "max(driftloop_suite_mark{exported_job=\"suite-$mark\"} or driftloop_suite_mark{job=\"suite-$mark\"})")"; }
node_figures() { at_least 1 "$(query 'count(node_memory_MemAvailable_bytes)')"; }
server_figures() { at_least 1 "$(query 'count(driftloop_model_info)')"; }
survives() { # samples from before are there after Prometheus' pod was made anew
  local before pod
  before=$(query 'min(min_over_time(timestamp(up)[1h:30s]))')
  pod=$(k -n "$monitoring" get pods -l app.kubernetes.io/name=prometheus -o name | head -n 1)
  k -n "$monitoring" delete "$pod" --wait=true >/dev/null || return 1
  soon 120 answers_again || return 1
  at_most "$(awk -v b="$before" 'BEGIN {printf "%.3f", b + 60}')" "$(query 'min(min_over_time(timestamp(up)[1h:30s]))')"
}
answers_again() { at_least 1 "$(query 'count(up)')"; }
mark=$RANDOM

fact "every target of Prometheus is up" soon 60 all_up
fact "Prometheus has 15 targets or more that are up" soon 60 enough_up
for job in server retrainer watch "$store" node-exporter pushgateway alertmanager prometheus; do
  fact "Prometheus scrapes $job" soon 60 scraped "$job"
done
fact "the machine's memory is measured" node_figures
fact "the served model's version is measured" server_figures
fact "Prometheus has loaded the rules" rules_loaded
fact "every rule can be evaluated" rules_well
fact "there is a rule for predictions that fail" rule_there PredictionsFail
fact "Prometheus knows an Alertmanager" knows_alertmanager
fact "an alert of drift is sent without waiting for others" routes_at_once
fact "Alertmanager calls the retrainer" calls_the_retrainer
fact "Alertmanager does not show the retrainer's token" no_token_shown
fact "a figure that is pushed arrives in Prometheus" pushed
fact "Prometheus keeps its samples over the end of its pod" survives
true
