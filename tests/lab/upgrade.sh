# shellcheck shell=bash
# shellcheck disable=SC2154  # what test.sh has set
# From an earlier version to this one, under traffic and while the loop retrains; then what going back says. Sourced by test.sh.

readonly upgrade_from=${DRIFTLOOP_UPGRADE_FROM:-v0.1.0}

stage_upgrade() {
    local old=$state/$upgrade_from sender events before began report=$results/upgrade-traffic.json
    "$here/lab.sh" down
    stage_up
    mkdir -p "$old"
    git archive "$upgrade_from" | tar -x -C "$old"
    ln -s "$repo/.venv" "$repo/.venv-ansible" "$old/"
    packages_above_todays
    if [[ -n ${CMAPSS_DIR:-} ]]; then
        install -D -m 644 "$CMAPSS_DIR/train_FD001.txt" "$state/platform/data/raw/cmapss/train_FD001.txt"
    fi
    began=$SECONDS
    old_play old-installed
    say "$upgrade_from installed in $((SECONDS - began)) s"

    addresses
    behind "$state/traffic.pid" .venv/bin/python "$here/traffic.py" "$DRIFTLOOP_SERVER_URL" "$report" >"$results/upgrade-traffic.log" 2>&1
    sender=$!
    soon 180 verdict_is no_drift || die "the fleet does not count as unchanged: $(tail -n 3 "$results/upgrade-traffic.log")"
    old_driftloop archive add "$(changed_runs)" >/dev/null
    kill -USR1 "$(<"$state/traffic.pid")"
    soon 300 old_told retraining_started || die "$upgrade_from starts no retraining"
    events=$(old_driftloop events --json | jq -s 'map(select(.kind != "verdict")) | last.seq')
    before=$(kept old_driftloop "$events")

    began=$SECONDS
    ansible upgraded
    say "upgraded in $((SECONDS - began)) s"
    ansible upgraded-again
    unchanged upgraded-again
    platform_token
    soon 900 closed || die "the loop that ran meanwhile does not close: $(on_node curl --silent --max-time 5 "$DRIFTLOOP_RETRAINER_URL/status")"
    kill -0 "$(<"$state/traffic.pid")" || die "the traffic ended by itself: $(tail -n 3 "$results/upgrade-traffic.log")"
    kill "$(<"$state/traffic.pid")"
    wait "$sender" || die "the traffic has no report: $(tail -n 3 "$results/upgrade-traffic.log")"
    jq -r '"traffic: \(.failed) of \(.sent) requests failed, median \(.median_s) s, slowest \(.slowest_s) s, answered by \(.versions)"' "$report"
    jq -e '.failed == 0' "$report" >/dev/null || die "requests were lost: $(jq -c .failures "$report")"
    diff <(printf '%s\n' "$before") <(kept driftloop "$events") >&2 || die "events, runs or versions of $upgrade_from are not what they were"
    suite suite-upgraded

    # Back without a restore: either the earlier version goes on with what this one has kept, or it says why it does not.
    if (old_play old-again -e component_timeout=120) 2>/dev/null; then
        soon 300 recovered_or_idle || die "$upgrade_from went back, and its retrainer does not go on: $(refusal)"
        soon 120 serves_production || die "$upgrade_from went back, and does not serve what is in production"
        diff <(printf '%s\n' "$before") <(kept old_driftloop "$events") >&2 || die "events, runs or versions are not what they were"
        say "back: $upgrade_from goes on with what this version has kept"
    else
        soon 60 refuses_newer || die "$upgrade_from does not say why it stops: $(refusal)"
        say "back: $(refusal | grep -o 'kept in [^"]*' | head -n 1)"
    fi
    ansible forth-again
    ansible forth-again-unchanged
    unchanged forth-again-unchanged
    soon 120 serves_production || die "the server does not serve what is in production"
}

# What the earlier version's retrainer imports, at its own versions, as a layer above this version's: the CUDA build of torch
# beside another of it would fill the disk.
packages_above_todays() {
    local todays file=$old/files/images/trainer-packages/Containerfile extras
    todays=$(files/images/build.sh refs | jq -r '."trainer-packages"')
    [[ $("$old/files/images/build.sh" refs | jq -r '."trainer-packages"') != "$todays" ]] || return 0
    files/images/build.sh build trainer-packages
    extras=$(grep -o -- '--extra [a-z]*' "$file" | paste -sd ' ')
    cat >"$file" <<CONTAINERFILE
ARG IMAGE_python_build
FROM \${IMAGE_python_build} AS build
WORKDIR /source
FROM $todays
COPY --from=build /opt/uv /opt/uv
WORKDIR /source
COPY pyproject.toml requirements.lock ./
RUN VIRTUAL_ENV=/opt/venv UV_NATIVE_TLS=1 UV_PYTHON_DOWNLOADS=never /opt/uv/bin/uv pip install --quiet --no-cache \\
    --requirements pyproject.toml $extras --constraints requirements.lock
CONTAINERFILE
}

# The playbooks of the earlier version, those that it has: NAME [OPTION...]
old_play() {
    local playbook its=()
    for playbook in "${playbooks[@]}"; do
        [[ ! -f $old/$playbook ]] || its+=("$playbook")
    done
    (cd "$old" && play "$1" "${its[@]}" "${@:2}")
}

old_driftloop() { on_node env PYTHONPATH="$old/src" .venv/bin/python -m driftloop.cli "$@"; }

# Services by the addresses that they keep while their pods are replaced; tunnels end with a pod.
# shellcheck disable=SC2034  # read by driftloop
addresses() {
    platform_variables
    DRIFTLOOP_SERVER_URL=$(address_of serving driftloop-server)
    DRIFTLOOP_RETRAINER_URL=$(address_of serving driftloop-retrainer)
    DRIFTLOOP_MLFLOW_URL=$(address_of mlflow mlflow)
}

address_of() { k -n "$1" get service "$2" -o 'jsonpath=http://{.spec.clusterIP}:{.spec.ports[0].port}'; } # NAMESPACE SERVICE

changed_runs() {
    local data=${CMAPSS_DIR:-$state/simulated}
    [[ -d $data ]] || driftloop data simulate --out "$data" --seed 1 >/dev/null
    printf '%s' "$data/train_FD002.txt"
}

verdict_is() { # VERDICT
    k get --raw "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query?query=driftloop_drift_verdict%7Bverdict%3D%22$1%22%7D%3D%3D1" |
        jq -e '.data.result | length > 0' >/dev/null
}

old_told() { old_driftloop events --json | jq -es --arg kind "$1" 'any(.kind == $kind)' >/dev/null; } # KIND

# What a version has kept: the first so many events, the runs of its archive, the versions of its registry. COMMAND EVENTS
kept() {
    "$1" events --json | jq -c "select(.seq <= $2 and .kind != \"verdict\") | [.seq, .kind, .time, .cause, .model_version]"
    "$1" archive list --json | jq -r '.. | .run_id? // empty' | sort
    sql mlflow "SELECT version, storage_location FROM model_versions WHERE version = 1"
}

# The loop has verified a recovery, by a version that is served now. It may wait again: all requests come from the changed fleet.
closed() { told 0 recovery_verified >/dev/null && [[ $(production) != 1 ]] && serves_production; }

refusal() { k -n serving logs driftloop-retrainer-0 --tail=20 2>&1 || true; }

refuses_newer() { refusal | grep -q 'by a newer driftloop'; }
