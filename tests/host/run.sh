#!/usr/bin/env bash
# Proves the playbooks of the host (01, 02, 03, 10, 11, teardown) on a throwaway machine, reached over SSH as a real one is:
# first run, second run without a change, check mode without a difference, repair of what was altered, and the
# firewall by really connecting. Ends with "N passed, M failed". Takes a few minutes; needs root.
#
# Usage: run.sh [--keep] [01 | 02 | 03 | 10 | 11 | agent | teardown]...   only these playbooks; 01 is always run once, the
#                                                                         others need it; agent is a second machine, and needs 02
#        run.sh [--keep] site     all of site.yml in one piece, with the empty cluster of the lab that is up (tests/lab/lab.sh)
#   --keep leaves the machine up to look at
#
# Not the real thing here: k3s itself (tests/host/double-k3s.py) and the archives of the tools (scripts that answer).
# shellcheck disable=SC2016  # single quotes: what stands in them is expanded on the machine
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
# shellcheck source=../../scripts/shell.sh
source "$repository/scripts/shell.sh"
machine=$here/machine.sh
work=${DRIFTLOOP_HOST_TEST_DIR:-/tmp/driftloop-host-test}
packed=${XDG_CACHE_HOME:-$HOME/.cache}/driftloop/bundle
python=$repository/.venv-ansible/bin/python
inventory=(-i "$here/hosts.yml")
passed=0 failed=0
export ANSIBLE_CONFIG=$repository/ansible.cfg DRIFTLOOP_CONFIG_DIR=$work/config ANSIBLE_FORCE_COLOR=0 PYTHONUNBUFFERED=1
unset DRIFTLOOP_HOST_TEST_LAB

clean_up() {
  local code=$?
  trap - EXIT
  [[ -z ${server:-} ]] || kill "$server" 2>/dev/null
  if [[ ${keep:-} ]]; then echo "the machine stays up; $machine down removes it"; else "$machine" down; fi
  exit $code
}

fact() { # "sentence" COMMAND...: passes when the command succeeds; what it printed is the evidence when not
  local sentence=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok    $sentence"
  else
    failed=$((failed + 1))
    echo "FAIL  $sentence"
    printf '%s\n' "${output:-(no output)}" | tail -40 | sed 's/^/      | /'
  fi
}

soon() { within 30 "$@"; } # COMMAND...

play() { # PLAYBOOK[,PLAYBOOK]... ARGUMENTS...: output in $work/play.log
  local books
  IFS=, read -ra books <<<"$1"
  books=("${books[@]/#/$repository/playbooks/}")
  ip netns exec dlhost-outside "$repository/.venv-ansible/bin/ansible-playbook" "${inventory[@]}" \
    "${books[@]/%/.yml}" -e "@$work/variables.yml" "${@:2}" >"$work/play.log" 2>&1
}

succeeds() { play "$@" || { grep -vE '^(ok|skipping|included)' "$work/play.log" | tail -60; return 1; }; }
# Of several playbooks each ends with the sums of all until then: the last line of each machine is that of the run.
changed() { sed -nE 's/^(machine|agent) .*changed=([0-9]+) .*/\1 \2/p' "$work/play.log" | awk '{last[$1] = $2} END {for (each in last) sum += last[each]; print sum}'; }
changes() { # NUMBER PLAYBOOK ARGUMENTS...
  succeeds "${@:2}" || return 1
  [[ $(changed) != "$1" ]] || return 0
  echo "changed: $(changed)"
  grep -B4 -A30 '^changed' "$work/play.log" | head -80
  return 1
}
stops_saying() { # SAYING PLAYBOOK ARGUMENTS...
  if play "${@:2}"; then echo "it did not stop"; return 1; fi
  tr '\n' ' ' <"$work/play.log" | tr -s ' ' | grep -qF -- "$1" || { grep -A20 -E 'fatal|FAILED|\[ERROR\]' "$work/play.log"; return 1; }
}
on() { "$machine" shell "$@"; }
on_agent() { DRIFTLOOP_HOST_TEST_MACHINE=agent "$machine" shell "$@"; }
connects() { # FROM ADDRESS PORT
  "$machine" "$1" "$python" -c '
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()' "$2" "$3"
}
does_not_connect() { if connects "$@" 2>/dev/null; then echo "connected to $2:$3 from $1"; return 1; fi; }

serves_a_model() {
  on k3s kubectl get --raw /api/v1/namespaces/serving/services/driftloop-server:8500/proxy/model | tee /dev/stderr | jq -e '.stub | not' >/dev/null
}

make_doubles() {
  local bundle=$work/bundle name version member checksum
  mkdir -p "$bundle/binaries" "$bundle/images" "$work/archive" "$work/broken/binaries"
  cp "$here/double-k3s.py" "$bundle/binaries/k3s-v0.0.0-amd64"
  echo 'not an image, only a file that must arrive' >"$bundle/images/example.tar"
  {
    echo "bundle: $bundle"
    echo "k3s_version: v0.0.0"
    echo "k3s_url: http://192.0.2.1:8000/k3s-v0.0.0-amd64"
    echo "k3s_sha256: {amd64: $(sha256sum <"$bundle/binaries/k3s-v0.0.0-amd64" | cut -d' ' -f1)}"
    echo "s3_endpoint: http://192.0.2.1:9000"
    echo "cmapss_source: \"${CMAPSS_DIR:-}\""
    echo "tools:"
    while read -r name version member; do
      mkdir -p "$work/archive/$name/$(dirname "$member")"
      printf '#!/bin/sh\necho "%s %s"\n' "$name" "$version" >"$work/archive/$name/$member"
      chmod +x "$work/archive/$name/$member"
      tar -C "$work/archive/$name" -czf "$bundle/binaries/$name-$version-amd64.tar.gz" .
      checksum=$(sha256sum <"$bundle/binaries/$name-$version-amd64.tar.gz" | cut -d' ' -f1)
      echo "  - {name: $name, version: $version, url: 'http://192.0.2.1:8000/$name-$version-amd64.tar.gz', sha256: {amd64: $checksum}, member: $member, names: [$name], probe: version}"
    done <<<'helm v1 linux-amd64/helm
kustomize v1 kustomize
kubectx v1 kubectx
kubens v1 kubens
kubectl-neat v1 kubectl-neat'
  } >"$work/variables.yml"
  ln -s "$packed/wheels" "$bundle/wheels"
}

sections=()
for argument in "$@"; do
  case $argument in
    --keep) keep=yes ;;
    01 | 02 | 03 | 10 | 11 | agent | teardown | site) sections+=("$argument") ;;
    *) echo "host tests: unknown argument $argument" >&2; exit 2 ;;
  esac
done
wanted() { [[ ${#sections[@]} == 0 || " ${sections[*]} " == *" $1 "* ]]; }
if [[ " ${sections[*]} " == *' site '* ]]; then
  if [[ ${#sections[@]} != 1 ]]; then echo "host tests: site is run alone" >&2; exit 2; fi
  # Its secrets are those that the cluster's volumes know, its images those that were built for the cluster.
  lab=${DRIFTLOOP_LAB_STATE:-/var/tmp/driftloop-lab}
  if [[ ! -e $lab/init.pid ]]; then echo "host tests: site needs a lab that is up: tests/lab/lab.sh up" >&2; exit 2; fi
  eval "$("$repository/tests/lab/lab.sh" env)"
  install -D "${DRIFTLOOP_KUBECTL% kubectl}" "$lab/bin/kube"
  install "$(command -v ctr)" "$lab/bin/ctr"
  export DRIFTLOOP_HOST_TEST_LAB=$lab
fi
# On the machine these are k3s' own.
unset KUBECONFIG DRIFTLOOP_CTR DRIFTLOOP_KUBECTL
if [[ $EUID != 0 ]]; then echo "host tests: need root for namespaces" >&2; exit 2; fi
"$repository/scripts/setup-ansible.sh" || exit 1
trap clean_up EXIT
trap 'exit 130' INT TERM
"$machine" up || exit 1
# Kept until a lock or the machine's Python changes.
machine_python=$("$machine" shell python3 -c 'import platform; print(platform.python_version())')
locks=$(cat "$repository"/files/host/*.lock <(echo "$machine_python") | sha256sum)
if [[ ! -f $packed/locks || $(<"$packed/locks") != "$locks" ]]; then
  echo "host tests: packing the packages of files/host/*.lock for Python $machine_python" >&2
  rm -rf "$packed"
  "$repository/scripts/bundle" --only wheels --python "$machine_python" "$packed" >&2 || exit 1
  echo "$locks" >"$packed/locks"
fi
make_doubles

"$machine" outside "$python" -m http.server --bind 192.0.2.1 --directory "$work/bundle/binaries" 8000 >"$work/http.log" 2>&1 &
server=$!
cp "$work/bundle/binaries/"* "$work/broken/binaries/"

if [[ ${lab:-} ]]; then
  echo "# site.yml, in one piece"
  everything=(site -e s3_endpoint= -e "observability_dir=$work/observability")
  began=$SECONDS
  fact "site.yml turns a bare machine and an empty cluster into the platform" succeeds "${everything[@]}"
  echo "      that run took $((SECONDS - began)) s"
  fact "the prediction server serves a trained model" serves_a_model
  fact "the volume with the mirrored baseline has its name on the machine" on test -d /opt/driftloop/baseline/
  fact "DVC brings the data to the platform's object store and back" on sudo -u driftloop sh -euc '
    cd /opt/driftloop/data
    PATH=/opt/driftloop/dev-venv/bin:$PATH
    dvc add -q raw && dvc push -q && rm -r raw .dvc/cache && dvc pull -q && test -d raw'
  began=$SECONDS
  fact "site.yml changes nothing the second time" changes 0 "${everything[@]}"
  echo "      that run took $((SECONDS - began)) s"
  fact "site.yml finds nothing to change in check mode" changes 0 "${everything[@]}" --check --diff
elif wanted 01; then
  echo "# 01 system preparation"
  on systemd-run --quiet --unit=probe-9999 nc -lk -p 9999
  on systemd-run --quiet --unit=probe-10250 nc -lk -p 10250
  fact "before the firewall, port 9999 of the machine is reached from outside" soon connects outside 192.0.2.2 9999
  fact "playbook 01 stops where SSH would be locked out" stops_saying "ssh_allowed_from is empty" 01-system-prep -e '{"ssh_allowed_from": []}'
  fact "playbook 01 stops on a machine that is too small" stops_saying "needed: 2 and 99999999" 01-system-prep -e minimum_memory_mb=99999999
  fact "playbook 01 prepares a bare machine" succeeds 01-system-prep
  fact "playbook 01 changes nothing the second time" changes 0 01-system-prep
  fact "playbook 01 finds nothing to change in check mode" changes 0 01-system-prep --check --diff
  fact "swap stays off after a restart" on bash -c '! grep -E "^[^#].*\sswap\s" /etc/fstab'
  fact "the kernel's settings are kept for the next start" on grep -q '^vm.overcommit_memory = 1' /etc/sysctl.d/90-driftloop.conf
  fact "the kernel modules are loaded at the next start" on grep -rq br_netfilter /etc/modules-load.d
  on sysctl -q -w kernel.panic=0
  fact "playbook 01 repairs one altered kernel setting and nothing else" changes 1 01-system-prep
  on ufw --force delete allow from 10.42.0.0/16 >/dev/null
  fact "playbook 01 puts back one firewall rule that was deleted" changes 1 01-system-prep

  echo "# the firewall, by connecting"
  fact "SSH from outside is let in" connects outside 192.0.2.2 22
  fact "port 9999 is refused from outside" does_not_connect outside 192.0.2.2 9999
  fact "the kubelet's port is refused from outside" does_not_connect outside 192.0.2.2 10250
  fact "a pod reaches the machine" connects pod 10.42.0.1 9999
  fact "a pod reaches the kubelet" connects pod 10.42.0.1 10250
  fact "a pod reaches the world through the machine" soon connects pod 192.0.2.1 8000
  "$machine" pod "$python" -m http.server --bind 10.42.0.2 8001 >/dev/null 2>&1 &
  pod_server=$!
  fact "the pod's server answers the machine" soon on bash -c 'exec 3<>/dev/tcp/10.42.0.2/8001'
  fact "a pod is not reached from outside, even by who routes to it" does_not_connect outside 10.42.0.2 8001
  on ufw --force disable >/dev/null
  fact "without the firewall the same connections are made, so it is what refuses them" bash -c "
    '$machine' outside bash -c 'exec 3<>/dev/tcp/192.0.2.2/9999' && '$machine' outside bash -c 'exec 3<>/dev/tcp/10.42.0.2/8001'"
  fact "playbook 01 switches the firewall on again" changes 1 01-system-prep
  fact "port 9999 is refused from outside again" does_not_connect outside 192.0.2.2 9999
  kill $pod_server
else
  fact "playbook 01 prepares a bare machine" succeeds 01-system-prep
fi

if wanted 02; then
  echo "# 02 k3s (a double of the binary)"
  fact "no secret exists before the first playbook that needs one" bash -c "! compgen -G '$DRIFTLOOP_CONFIG_DIR/secrets-*'"
  fact "playbook 02 stops where the checksum is not known" stops_saying "sha256sum-amd64.txt" 02-k3s -e '{"k3s_sha256": {"amd64": ""}}'
  echo '# altered' >>"$work/broken/binaries/k3s-v0.0.0-amd64"
  fact "playbook 02 refuses an altered binary of a bundle" stops_saying "Stop if the bundle's k3s is not the pinned one" 02-k3s -e "bundle=$work/broken"
  fact "nothing of the altered binary was installed" on test ! -e /usr/local/bin/k3s
  fact "playbook 02 installs and starts k3s" succeeds 02-k3s
  first_secrets=$(cat "$DRIFTLOOP_CONFIG_DIR/"secrets-*.yml | sha256sum)
  fact "k3s was started once" on grep -q '"starts": 1,' /run/k3s-double.json
  fact "playbook 02 changes nothing the second time" changes 0 02-k3s
  fact "playbook 02 finds nothing to change in check mode" changes 0 02-k3s --check --diff
  fact "k3s was not restarted" on grep -q '"starts": 1,' /run/k3s-double.json
  fact "playbook 02 restarts k3s once when a setting changes" changes 2 02-k3s -e audit_log_days=31
  fact "k3s was restarted exactly once" on grep -q '"starts": 2,' /run/k3s-double.json
  fact "k3s comes back when it is killed" on bash -c 'systemctl kill -s KILL k3s; for i in $(seq 100); do grep -q "\"starts\": 3," /run/k3s-double.json && exit; sleep 0.2; done; exit 1'
  fact "the token and the configuration are readable by root only" on bash -c '[[ $(stat -c %a /etc/rancher/k3s/token /etc/rancher/k3s/config.yaml | sort -u) == 600 ]]'
  fact "the bundle's images lie where k3s loads them" on test -s /var/lib/rancher/k3s/agent/images/example.tar
  fact "the API server's port is refused from outside" does_not_connect outside 192.0.2.2 6443
  fact "a pod reaches the API server" connects pod 10.42.0.1 6443
  on rm -rf /opt/driftloop/downloads
  fact "playbook 02 refuses an altered download" stops_saying "checksum" 02-k3s -e bundle= -e k3s_url=http://192.0.2.1:8000/helm-v1-amd64.tar.gz
  fact "playbook 02 downloads k3s and checks it, and goes back to the setting from before" changes 3 02-k3s -e bundle=
fi

if wanted 03; then
  echo "# 03 tools (doubles of the archives)"
  fact "playbook 03 stops where the checksum of a tool is not known" stops_saying "sha256.amd64 of helm" 03-helm-tools -e '{"tools": [{"name": "helm", "version": "v1", "url": "http://192.0.2.1:8000/helm", "sha256": {"amd64": ""}, "member": "helm", "names": ["helm"], "probe": "version"}]}'
  echo x >>"$work/broken/binaries/helm-v1-amd64.tar.gz"
  fact "playbook 03 refuses an altered archive of a bundle" stops_saying "Stop if the bundle's archive is not the pinned one" 03-helm-tools -e "bundle=$work/broken"
  fact "playbook 03 installs the tools" succeeds 03-helm-tools
  fact "playbook 03 changes nothing the second time" changes 0 03-helm-tools
  fact "playbook 03 finds nothing to change in check mode" changes 0 03-helm-tools --check --diff
  on sh -c 'rm /usr/local/bin/kubens; echo x >>/opt/driftloop/downloads/helm-v1.tar.gz'
  fact "playbook 03 puts back a tool's name and an altered archive, and nothing else" changes 2 03-helm-tools
  fact "the tools answer by name" on sh -c 'helm version && kustomize version && kubectl-neat'
fi

if wanted 10; then
  echo "# 10 data and development environment"
  fact "playbook 10 sets up data, packages and DVC" succeeds 10-data-and-dev-env
  fact "playbook 10 changes nothing the second time" changes 0 10-data-and-dev-env
  fact "playbook 10 finds nothing to change in check mode" changes 0 10-data-and-dev-env --check --diff
  fact "DVC's remote is the platform's object store" on sh -c 'cd /opt/driftloop/data && sudo -u driftloop /opt/driftloop/dev-venv/bin/dvc remote list | grep -q s3://thesis-data/dvc'
  fact "DVC's key is readable by its user only" on sh -c '[ "$(stat -c %U:%a /opt/driftloop/data/.dvc/config.local)" = driftloop:600 ]'
  if [[ -n ${CMAPSS_DIR:-} ]]; then
    on sh -c 'echo broken >> /opt/driftloop/data/raw/cmapss/train_FD001.txt'
    fact "playbook 10 repairs one damaged data file and nothing else" changes 1 10-data-and-dev-env
    fact "NASA's data has its published checksums" bash -c "'$machine' shell sh -c 'cd /opt/driftloop/data/raw/cmapss && sha256sum --quiet -c -' <'$repository/files/host/cmapss.sha256'"
  fi
fi

if wanted 11; then
  echo "# 11 Jupyter"
  fact "playbook 11 starts Jupyter" succeeds 11-jupyter
  fact "playbook 11 changes nothing the second time" changes 0 11-jupyter
  fact "playbook 11 finds nothing to change in check mode" changes 0 11-jupyter --check --diff
  fact "Jupyter listens on 127.0.0.1 only" on sh -c 'ss -Hltn "sport = :8888" | awk "{print \$4}" | grep -qx 127.0.0.1:8888 && [ "$(ss -Hltn "sport = :8888" | wc -l)" = 1 ]'
  fact "Jupyter is not reached from outside" does_not_connect outside 192.0.2.2 8888
  fact "Jupyter's token is in no process list" on sh -c '. /etc/driftloop/jupyter.env; ! ps -eo args | grep -F "$JUPYTER_TOKEN" | grep -v grep'
  on rm /etc/systemd/system/driftloop-jupyter.service
  fact "playbook 11 puts back a deleted unit and restarts once" changes 2 11-jupyter

  fact "the secrets were made once and never rewritten" bash -c "[[ -z '${first_secrets:-}' || '${first_secrets:-}' == \"\$(cat '$DRIFTLOOP_CONFIG_DIR'/secrets-*.yml | sha256sum)\" ]]"
fi

if [[ ${#sections[@]} == 0 ]]; then
  echo "# all of them"
  began=$SECONDS
  fact "all playbooks of the host change nothing in one run" \
    changes 0 01-system-prep,02-k3s,03-helm-tools,10-data-and-dev-env,11-jupyter
  echo "      that run took $((SECONDS - began)) s"
fi

if wanted agent; then
  echo "# a second machine (its k3s and containerd are doubles too)"
  inventory+=(-i "$here/agent.yml")
  minio=$("$repository/files/images/build.sh" refs | jq -r .minio)
  echo "$minio" >"$work/bundle/images/minio-${minio##*:}.tar"
  both=01-system-prep,02-k3s
  image=(../tests/host/images -e "repository=$repository")
  fact "the second machine starts" env DRIFTLOOP_HOST_TEST_MACHINE=agent "$machine" up
  fact "playbooks 01 and 02 make it a node of the first" succeeds $both
  fact "it joined with the server's token" on_agent grep -q '"joined": "https://192.0.2.2:6443"' /run/k3s-double.json
  fact "the server has taken it in" on grep -qF '"nodes": ["192.0.2.3"]' /run/k3s-double.json
  fact "its token and configuration are readable by root only" on_agent bash -c '[[ $(stat -c %a /etc/rancher/k3s/token /etc/rancher/k3s/config.yaml | sort -u) == 600 ]]'
  fact "it holds nothing that only a server needs" on_agent bash -c '! ls /etc/rancher/k3s | grep -vxE "token|config.yaml"'
  fact "the bundle's images lie where its k3s loads them" on_agent test -s /var/lib/rancher/k3s/agent/images/example.tar
  fact "an image comes to both machines" succeeds "${image[@]}"
  fact "the server has the image" on sh -c "k3s ctr -n k8s.io images list -q | grep -qx $minio"
  fact "the second machine has the image" on_agent sh -c "k3s ctr -n k8s.io images list -q | grep -qx $minio"
  fact "nothing changes the second time on either machine" changes 0 $both
  fact "nothing is found to change in check mode" changes 0 $both --check --diff
  fact "the image is not brought twice" changes 0 "${image[@]}"
  on_agent systemd-run --quiet --unit=probe-10250 nc -lk -p 10250
  fact "the server reaches the second machine's kubelet" soon on bash -c 'exec 3<>/dev/tcp/192.0.2.3/10250'
  fact "the second machine reaches the API server" on_agent bash -c 'exec 3<>/dev/tcp/192.0.2.2/6443'
  fact "SSH from outside is let in to the second machine" connects outside 192.0.2.3 22
  fact "its kubelet's port is refused from outside" does_not_connect outside 192.0.2.3 10250
  fact "the API server's port is still refused from outside" does_not_connect outside 192.0.2.2 6443
  on_agent sh -c 'echo wrong >/etc/rancher/k3s/token'
  fact "playbook 02 puts back the second machine's token and restarts its k3s alone" changes 2 02-k3s
  fact "nothing failed on the second machine" on_agent bash -c '[[ -z $(systemctl --failed --no-legend) ]] || { systemctl --failed; exit 1; }'
fi

if wanted teardown; then
  echo "# teardown"
  fact "teardown stops where nobody confirmed it" stops_saying "add -e confirm=yes" teardown
  fact "teardown takes the platform down" succeeds teardown -e confirm=yes
  fact "no service of the platform is left" on sh -c '! systemctl list-unit-files --no-legend "k3s*" "driftloop*" | grep . && ! pgrep -a k3s'
  fact "no file of the platform is left" on sh -c '! ls -d /etc/rancher /var/lib/rancher /etc/driftloop /opt/driftloop /usr/local/bin/k3s /usr/local/bin/helm 2>/dev/null | grep .'
  fact "the user of the development environment is gone" on sh -c '! id driftloop 2>/dev/null'
  fact "the firewall still lets SSH in" connects outside 192.0.2.2 22
  fact "teardown changes nothing the second time" changes 0 teardown -e confirm=yes
  fact "the machine can be prepared again" succeeds 01-system-prep
fi

echo "# secrets, afterwards"
# 01 alone needs none and makes none.
[[ " ${sections[*]} " == ' 01 ' ]] || fact "the secrets are encrypted" bash -c "head -qn1 '$DRIFTLOOP_CONFIG_DIR'/secrets-*.yml | grep -q '^.ANSIBLE_VAULT;1.1;AES256$'"
fact "the vault's key is readable by its owner only" [ "$(stat -c %a "$DRIFTLOOP_CONFIG_DIR/vault-key")" = 600 ]
fact "nothing failed on the machine in the meantime" on bash -c '[[ -z $(systemctl --failed --no-legend) ]] || { systemctl --failed; exit 1; }'

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
