#!/usr/bin/env bash
# A throwaway single-node Kubernetes that needs no registry, no systemd and no nested virtualisation.
#
#   lab.sh up            build what is not cached, start, wait until the node and the addons are ready
#   lab.sh down          stop everything and show that nothing is left
#   lab.sh status        what runs; exit 0: everything, 1: not everything, 2: down, 3: down but something is left
#   lab.sh env           print the variables that kubectl, ansible-playbook and build.sh need: eval "$(lab.sh env)"
#   lab.sh certificates DAYS   give the API server a certificate that is good for so long (-1: expired yesterday)
#   lab.sh restart PART  stop one part (etcd, containerd, kubelet, kube-apiserver, ...) with SIGKILL and start it again
#   lab.sh packages      install the Debian packages that are missing
#   lab.sh able          exit 0 where a lab can be made; else say why not
#
# Everything runs in process, mount and network namespaces of its own, so that processes, mounts, iptables rules,
# bridges and listening sockets end with them; what is left to remove is one folder, one veth pair and the cgroups.
# The API is reached from outside over that veth pair, which only this machine can see.
#
# Environment:
#   DRIFTLOOP_LAB_STATE  folder of the running lab (/var/tmp/driftloop-lab); `down` removes it
#   DRIFTLOOP_LAB_DISK   size of a disk of its own for what the kubelet and volumes keep, such as 8G, so that it can be full
#   DRIFTLOOP_LAB_CACHE  binaries, images, containerd's store (~/.cache/driftloop-lab); `down` keeps it
#   DRIFTLOOP_BUILD_CA   see files/images/build.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
state=${DRIFTLOOP_LAB_STATE:-/var/tmp/driftloop-lab}
cache=${DRIFTLOOP_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftloop-lab}

readonly link=driftloop-lab host_address=10.99.99.1 lab_address=10.99.99.2
readonly pods=10.42.0.0/16 services=10.43.0.0/16 first_service=10.43.0.1 dns=10.43.0.10
readonly policies_queue=100
readonly node=lab first_run_gb=50 later_run_gb=15
readonly packages=(etcd-server containerd runc containernetworking-plugins buildah debootstrap iptables iproute2
    conntrack openssl tini util-linux)

readonly program=lab
# shellcheck source=../../scripts/shell.sh
source "$repo/scripts/shell.sh"

# Says what a lab would lack here; says nothing, and exit 0, where it can be made.
able() {
    local missing
    missing=$(
        [[ $(id -u) == 0 ]] || { echo "it needs root"; exit; }
        go version >/dev/null 2>&1 || echo "there is no Go compiler"
        command -v apt-get >/dev/null || echo "its programs are Debian's packages, and there is no apt-get"
        unshare --mount --pid --net --fork true 2>/dev/null || echo "no namespaces can be made"
        can_make_cgroups || echo "no control groups can be made"
        if init_pid >/dev/null; then echo "a lab is up already in $state"; fi
        lacks_room || true
    )
    [[ -z $missing ]] || { printf '%s\n' "$missing" | paste -sd ';' | sed 's/;/; /g'; return 1; }
}

can_make_cgroups() {
    local hierarchy
    while read -r hierarchy; do
        { mkdir "$hierarchy/driftloop-lab-probe" && rmdir "$hierarchy/driftloop-lab-probe"; } 2>/dev/null || return 1
    done < <(awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts)
}

# What a full disk breaks half an hour later: the kubelet throws images away. Says so, and exit 1, where too little is free.
lacks_room() {
    local free wanted=$later_run_gb
    # The store of images is what takes long and much room to fill.
    if [[ ! -f $cache/images/filled ]]; then wanted=$first_run_gb; fi
    mkdir -p "$cache"
    free=$(df --output=avail -B 1G "$cache" | tail -n 1 | tr -d ' ')
    ((free >= wanted)) || { echo "$cache has $free GB left of the $wanted that images and the caches of Go and uv take"; return 1; }
}

need() {
    [[ $(id -u) == 0 ]] || die "must run as root: it makes namespaces, cgroups and mounts"
    command -v go >/dev/null || die "there is no Go compiler: install golang-go (1.24 or newer)"
    local missing=() package
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
    done
    if [[ ${#missing[@]} -gt 0 ]]; then
        say "installing ${missing[*]}"
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        # Where there is an init system Debian would start etcd and containerd for itself.
        local policy=/usr/sbin/policy-rc.d ours=false
        if [[ ! -e $policy ]]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod +x "$policy"
            ours=true
        fi
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
        if $ours; then rm "$policy"; fi
    fi
}

# --- namespaces ---------------------------------------------------------------------------------------------------

init_pid() {
    local pid
    [[ -f $state/init.pid ]] || return 1
    pid=$(<"$state/init.pid")
    # A pid file that outlived its process may name somebody else's.
    [[ -d /proc/$pid ]] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q 'tini -- sleep infinity' && printf '%s' "$pid"
}

inside() {
    nsenter --target "$(init_pid)" --mount --pid --net -- "$@"
}

start_namespaces() {
    local tries=0 child folder
    mkdir -p "$state"/{logs,root/run,root/log,root/cni-conf,root/cni-state,root/kubelet,root/volumes,pids,disk}
    for folder in /etc/cni /etc/cni/net.d /var/lib/cni /var/lib/kubelet; do
        [[ -d $folder ]] && continue
        mkdir "$folder"
        printf '%s\n' "$folder" >>"$state/made-folders"
    done
    (cd / && exec setsid unshare --mount --pid --net --fork --kill-child --propagation private \
        tini -- sleep infinity </dev/null >"$state/logs/init.log" 2>&1) &
    printf '%s' $! >"$state/unshare.pid"
    until child=$(pgrep -P "$(<"$state/unshare.pid")" tini); do
        ((tries++ < 50)) || die "namespaces cannot be made: $(tail -n 3 "$state/logs/init.log")"
        sleep 0.1
    done
    printf '%s' "$child" >"$state/init.pid"
    # shellcheck disable=SC2016  # expanded by the inner shell
    inside bash -euc '
        mount -t proc proc /proc
        mount --make-rshared /
        if [[ -n $2 ]]; then
            truncate -s "$2" "$1/disk.img"
            mkfs.ext4 -q -m 0 "$1/disk.img"
            mount -o loop "$1/disk.img" "$1/disk"
            for folder in kubelet volumes; do
                mkdir "$1/disk/$folder"
                mount --bind "$1/disk/$folder" "$1/root/$folder"
            done
        fi
        mount --bind "$1/root/log" /var/log
        mount --bind "$1/root/cni-conf" /etc/cni/net.d
        mount --bind "$1/root/cni-state" /var/lib/cni
        mount --bind "$1/root/kubelet" /var/lib/kubelet
        mount -t tmpfs -o mode=755 tmpfs /run
        mkdir -p /run/lock /run/containerd
        ip link set lo up
        sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
    ' _ "$state" "${DRIFTLOOP_LAB_DISK:-}"
    ip link add "$link" type veth peer name eth0 netns "$child"
    ip address add "$host_address/30" dev "$link"
    ip link set "$link" up
    # shellcheck disable=SC2016  # expanded by the inner shell
    inside bash -euc 'ip address add "$1/30" dev eth0; ip link set eth0 up; ip route add default via "$2"' \
        _ "$lab_address" "$host_address"
}

# The kubelet wants its cgroup to be there in every hierarchy, with the CPUs and memory that it may use.
make_cgroups() {
    local hierarchy name
    while read -r hierarchy; do
        mkdir -p "$hierarchy/driftloop-lab"
        for name in cpuset.cpus cpuset.mems; do
            if [[ -f $hierarchy/$name && -w $hierarchy/driftloop-lab/$name ]]; then
                cat "$hierarchy/$name" >"$hierarchy/driftloop-lab/$name"
            fi
        done
        # The whole lab would otherwise weigh as much as a single process of this machine does. The node's own programs
        # and its clients stand beside the pods, which must not outweigh the tunnels that they are asked through.
        if [[ -f $hierarchy/driftloop-lab/cpu.shares ]]; then
            echo 32768 >"$hierarchy/driftloop-lab/cpu.shares"
        elif [[ -f $hierarchy/driftloop-lab/cpu.weight ]]; then
            echo 3200 >"$hierarchy/driftloop-lab/cpu.weight"
        else
            continue
        fi
        mkdir -p "$hierarchy/driftloop-lab/node"
        [[ ! -f $hierarchy/driftloop-lab/node/cpu.shares ]] || echo 2048 >"$hierarchy/driftloop-lab/node/cpu.shares"
        printf '%s' "$hierarchy/driftloop-lab/node/cgroup.procs" >"$state/node-cgroup"
    done < <(awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts)
}

# --- certificates -------------------------------------------------------------------------------------------------

certificate() { # NAME SUBJECT USAGE [SANS [DAYS]]
    local folder=$state/pki
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" \
        -keyout "$folder/$1.key" -out "$folder/$1.csr" 2>/dev/null
    openssl x509 -req -in "$folder/$1.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial -days "${5:-30}" \
        -extfile <(printf 'extendedKeyUsage=%s\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n' "$3"; [[ -z ${4:-} ]] || printf 'subjectAltName=%s\n' "$4") \
        -out "$folder/$1.crt" 2>/dev/null
}

certificate_of_apiserver() { # DAYS
    certificate apiserver /CN=kube-apiserver serverAuth \
        "IP:127.0.0.1,IP:$lab_address,IP:$first_service,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc" "$1"
}

kubeconfig() { # NAME
    local folder=$state/pki
    cat <<YAML
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://$lab_address:6443", certificate-authority-data: $(base64 -w0 "$folder/ca.crt")}}]
users: [{name: lab, user: {client-certificate-data: $(base64 -w0 "$folder/$1.crt"), client-key-data: $(base64 -w0 "$folder/$1.key")}}]
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
current-context: lab
YAML
}

make_identities() {
    local name
    mkdir -p "$state/pki"
    chmod 700 "$state/pki"
    # Python 3.13 insists on the key's usage.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=driftloop-lab \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$state/pki/ca.key" -out "$state/pki/ca.crt" 2>/dev/null
    openssl ecparam -name prime256v1 -genkey -noout -out "$state/pki/accounts.key"
    openssl ec -in "$state/pki/accounts.key" -pubout -out "$state/pki/accounts.pub" 2>/dev/null
    certificate_of_apiserver 30
    certificate kubelet-server "/CN=$node" serverAuth "IP:$lab_address,DNS:$node"
    certificate aggregator /CN=aggregator clientAuth
    certificate admin /O=system:masters/CN=admin clientAuth
    certificate kube-controller-manager /CN=system:kube-controller-manager clientAuth
    certificate kube-scheduler /CN=system:kube-scheduler clientAuth
    certificate kube-proxy /CN=system:kube-proxy clientAuth
    certificate kubelet "/O=system:nodes/CN=system:node:$node" clientAuth
    for name in admin kube-controller-manager kube-scheduler kube-proxy kubelet; do
        kubeconfig "$name" >"$state/pki/$name.yaml"
    done
    chmod 600 "$state/pki"/*
    install -m 600 "$state/pki/admin.yaml" "$state/kubeconfig"
}

# --- configuration ------------------------------------------------------------------------------------------------

write_configuration() {
    mkdir -p "$state/etc"
    cat >"$state/etc/containerd.toml" <<TOML
version = 2
root = "$cache/containerd"
state = "/run/containerd"
[grpc]
  address = "$state/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
TOML
    cat >"$state/root/cni-conf/10-lab.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.42.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
    cat >"$state/etc/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $lab_address
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $state/pki/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /driftloop-lab
clusterDNS: [$dns]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$state/containerd.sock
failCgroupV1: false
failSwapOn: false
healthzBindAddress: 127.0.0.1
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 2%, imagefs.available: 2%}
maxPods: 110
oomScoreAdj: 0
resolvConf: /dev/null
tlsCertFile: $state/pki/kubelet-server.crt
tlsPrivateKeyFile: $state/pki/kubelet-server.key
YAML
    # The same rule for pods as k3s gets from playbook 02: restricted unless a namespace says otherwise.
    cat >"$state/etc/admission.yaml" <<YAML
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
  - name: PodSecurity
    configuration:
      apiVersion: pod-security.admission.config.k8s.io/v1
      kind: PodSecurityConfiguration
      defaults: {enforce: restricted, enforce-version: latest, warn: restricted, warn-version: latest}
      exemptions: {namespaces: [kube-system]}
YAML
    cat >"$state/etc/encryption.yaml" <<YAML
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers: [{aescbc: {keys: [{name: lab, secret: $(head -c 32 /dev/urandom | base64 -w0)}]}}, {identity: {}}]
YAML
    chmod 600 "$state/etc"/*
}

# --- processes ----------------------------------------------------------------------------------------------------

arguments() {
    local pki=$state/pki
    case $1 in
    etcd) printf '%s\n' etcd --data-dir "$state/etcd" --unsafe-no-fsync --logger zap --log-level warn \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380 ;;
    containerd) printf '%s\n' containerd --config "$state/etc/containerd.toml" --log-level warn ;;
    kube-apiserver) printf '%s\n' "$kube" kube-apiserver --etcd-servers http://127.0.0.1:2379 \
        --bind-address "$lab_address" --advertise-address "$lab_address" --secure-port 6443 \
        --service-cluster-ip-range "$services" --authorization-mode Node,RBAC --allow-privileged \
        --enable-admission-plugins NodeRestriction --admission-control-config-file "$state/etc/admission.yaml" \
        --encryption-provider-config "$state/etc/encryption.yaml" \
        --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
        --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
        --kubelet-client-certificate "$pki/admin.crt" --kubelet-client-key "$pki/admin.key" \
        --requestheader-client-ca-file "$pki/ca.crt" --requestheader-allowed-names aggregator \
        --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
        --requestheader-extra-headers-prefix X-Remote-Extra- --proxy-client-cert-file "$pki/aggregator.crt" \
        --proxy-client-key-file "$pki/aggregator.key" --enable-aggregator-routing \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$pki/accounts.pub" \
        --service-account-signing-key-file "$pki/accounts.key" ;;
    kube-controller-manager) printf '%s\n' "$kube" kube-controller-manager --kubeconfig "$pki/$1.yaml" \
        --use-service-account-credentials --service-account-private-key-file "$pki/accounts.key" \
        --root-ca-file "$pki/ca.crt" --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
        --allocate-node-cidrs --cluster-cidr "$pods" --leader-elect=false \
        --bind-address 127.0.0.1 --horizontal-pod-autoscaler-sync-period 5s ;;
    kube-scheduler) printf '%s\n' "$kube" kube-scheduler --kubeconfig "$pki/$1.yaml" --leader-elect=false \
        --bind-address 127.0.0.1 ;;
    kubelet) printf '%s\n' "$kube" kubelet --kubeconfig "$pki/$1.yaml" --config "$state/etc/kubelet.yaml" \
        --hostname-override "$node" --node-ip "$lab_address" --root-dir /var/lib/kubelet ;;
    kube-proxy) printf '%s\n' "$kube" kube-proxy --kubeconfig "$pki/$1.yaml" --hostname-override "$node" \
        --proxy-mode iptables --cluster-cidr "$pods" --conntrack-max-per-core 0 --oom-score-adj 0 \
        --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0 --healthz-bind-address 127.0.0.1 \
        --metrics-bind-address 127.0.0.1 ;;
    *) die "no part is called '$1'; there are: ${parts[*]}" ;;
    esac
}

readonly parts=(etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

start() {
    local command
    mapfile -t command < <(arguments "$1")
    [[ ${#command[@]} -gt 0 ]] || exit 1
    # The pid file holds the pid inside the lab, which only the lab's own commands use.
    # shellcheck disable=SC2016  # expanded by the inner shell
    inside setsid --fork bash -c 'echo 0 >"$3"; echo $$ >"$1"; exec "${@:4}" >>"$2" 2>&1 </dev/null' \
        _ "$state/pids/$1" "$state/logs/$1.log" "$(<"$state/node-cgroup")" "${command[@]}"
}

alive() {
    [[ -f $state/pids/$1 ]] && inside kill -0 "$(<"$state/pids/$1")" 2>/dev/null
}

# Waits until a command succeeds; on timeout shows what it said and the end of a log.
wait_for() { # SECONDS WHAT LOG COMMAND...
    local deadline=$((SECONDS + $1)) what=$2 log=$3 said
    shift 3
    until said=$("$@" 2>&1); do
        if ((SECONDS >= deadline)); then
            tail -n 15 "$state/logs/$log.log" >&2 || true
            die "$what: not in time; the last answer was: $said"
        fi
        sleep 0.3
    done
}

kubectl() {
    "$kube" kubectl --kubeconfig "$state/kubeconfig" "$@"
}

# --- what is built ------------------------------------------------------------------------------------------------

build_kube() {
    local hash
    hash=$(cat "$here"/node/{main.go,go.mod,go.sum} | sha256sum | cut -c1-12)
    kube=$cache/kube-$hash
    if [[ ! -x $kube ]]; then
        say "building Kubernetes (some minutes, once)"
        local version
        version=$(sed -n 's|^\tk8s.io/kubernetes \(v.*\)$|\1|p; s|^require k8s.io/kubernetes \(v.*\)$|\1|p' "$here/node/go.mod")
        mkdir -p "$cache"
        local room
        room=$(lacks_room) || die "$room: make room, or set DRIFTLOOP_LAB_CACHE"
        (cd "$here/node" && CGO_ENABLED=0 go build -trimpath -o "$kube.part" -ldflags \
            "-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")" .)
        mv "$kube.part" "$kube"
    fi
    ln -sfn "$kube" "$cache/kube"
}

images() {
    DRIFTLOOP_IMAGES_CACHE=$cache/images DRIFTLOOP_IMAGE_FOLDERS="$repo/files/images $here/addons" \
        DRIFTLOOP_CTR="ctr -a $state/containerd.sock -n k8s.io" "$repo/files/images/build.sh" "$@"
}

image() {
    sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" <<<"$references"
}

# --- network policies ---------------------------------------------------------------------------------------------

# The first packet of every connection of a pod with another, the node or the world, with the addresses that it has behind a
# Service, waits for the verdict of kube-network-policies; with nobody to ask it is dropped. What the node's own programs
# send as root, such as probes, passes, as on k3s. The rules that kube-network-policies makes itself need an expression of
# nftables that not every kernel has, and come in addition where it has.
enforce_policies() {
    wait_for 60 "who enforces the NetworkPolicies" kubelet inside grep -q "^ *$policies_queue " /proc/net/netfilter/nfnetlink_queue
    # shellcheck disable=SC2016  # expanded by the inner shell
    inside bash -euc '
        iptables -t mangle -N NETWORK-POLICIES
        iptables -t mangle -A NETWORK-POLICIES -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
        for end in --source --destination; do
            iptables -t mangle -A NETWORK-POLICIES $end "$1" -j NFQUEUE --queue-num "$2"
        done
        iptables -t mangle -I POSTROUTING -m owner ! --uid-owner 0 -j NETWORK-POLICIES
        iptables -t mangle -I INPUT -j NETWORK-POLICIES
    ' _ "$pods" "$policies_queue"
}

# --- commands -----------------------------------------------------------------------------------------------------

up() {
    need
    build_kube
    if init_pid >/dev/null; then
        say "is up already"
        status
        return
    fi
    left >/dev/null || down
    local references name
    references=$(images refs)
    images archive pause coredns local-path-provisioner metrics-server network-policies base >/dev/null
    start_namespaces
    make_cgroups
    make_identities
    write_configuration "$(image pause)"
    start containerd
    start etcd
    wait_for 30 etcd etcd inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/2379'
    start kube-apiserver
    wait_for 30 containerd containerd ctr -a "$state/containerd.sock" version
    images import pause coredns local-path-provisioner metrics-server network-policies base
    wait_for 60 "the API server" kube-apiserver kubectl get --raw /readyz
    for name in kube-controller-manager kube-scheduler kubelet kube-proxy; do start "$name"; done
    sed -e "s|@coredns@|$(image coredns)|; s|@local-path-provisioner@|$(image local-path-provisioner)|" \
        -e "s|@metrics-server@|$(image metrics-server)|; s|@helper@|$(image base)|; s|@dns@|$dns|" \
        -e "s|@volumes@|$state/root/volumes|; s|@network-policies@|$(image network-policies)|; s|@queue@|$policies_queue|" "$here/addons/addons.yml" >"$state/etc/addons.yml"
    wait_for 30 "the addons' objects" kube-apiserver kubectl apply --server-side -f "$state/etc/addons.yml"
    wait_for 60 "the node" kubelet kubectl wait --for=condition=Ready --timeout=1s "node/$node"
    for name in coredns local-path-provisioner metrics-server kube-network-policies; do
        wait_for 120 "$name" kubelet kubectl -n kube-system rollout status --timeout=1s "deployment/$name"
    done
    enforce_policies
    say "ready after $SECONDS s; kubeconfig: $state/kubeconfig"
}

# Lists what a lab leaves behind; exit 0 if nothing.
left() {
    local found
    found=$(
        for process in /proc/[0-9]*; do
            if tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -qE "^[^ ]*(etcd|containerd|containerd-shim-runc-v2|kube-[0-9a-f]{12}) .*($state|$cache)"; then
                printf 'process %s: %s\n' "${process#/proc/}" "$(tr '\0' ' ' 2>/dev/null <"$process/cmdline" | cut -c1-120)"
            fi
        done
        init_pid >/dev/null && printf 'process %s: the lab'"'"'s init\n' "$(init_pid)"
        awk -v s="$state" -v c="$cache/containerd" 'index($5, s) == 1 || index($5, c) == 1 {print "mount " $5}' /proc/self/mountinfo
        find /sys/fs/cgroup -maxdepth 3 -type d -name driftloop-lab -printf 'cgroup %p\n'
        ip -brief link show 2>/dev/null | awk -v l="$link" '$1 ~ "^" l || $1 ~ /^cni0/ {print "interface " $1}'
        iptables-save 2>/dev/null | grep -E '^:(KUBE|CNI)-' | sed 's/^/iptables chain /' || true
        [[ ! -e $state ]] || printf 'folder %s\n' "$state"
    )
    [[ -z $found ]] || { printf '%s\n' "$found"; return 1; }
}

down() {
    local pid tries=0 found
    if pid=$(init_pid); then
        # The end of the namespace's first process ends every process in it; the kernel takes mounts and interfaces away.
        kill -9 "$pid"
    fi
    while init_pid >/dev/null || [[ -f $state/unshare.pid && -d /proc/$(<"$state/unshare.pid") ]]; do
        ((tries++ < 100)) || die "the lab's processes do not end"
        sleep 0.1
    done
    ip link delete "$link" 2>/dev/null || true
    while read -r folder; do
        tries=0
        until find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null; do
            ((tries++ < 300)) || die "cgroup $folder cannot be removed"
            sleep 0.1
        done
    done < <(find /sys/fs/cgroup -maxdepth 3 -type d -name driftloop-lab)
    if [[ -f $state/made-folders ]]; then tac "$state/made-folders" | xargs rmdir; fi
    rm -rf "$state"
    # Sandboxes of a lab that is gone would confuse the next one; images and their layers stay.
    rm -rf "$cache/containerd/io.containerd.grpc.v1.cri" "$cache/containerd/io.containerd.runtime.v2.task"
    if found=$(left); then
        say "down; no process, mount, cgroup, interface, iptables chain or folder is left"
    else
        printf '%s\n' "$found"
        die "is down, but the above is left"
    fi
}

status() {
    if ! init_pid >/dev/null; then
        say "is down"
        left || return 3
        return 2
    fi
    build_kube
    local part failed=0
    for part in "${parts[@]}"; do
        if alive "$part"; then say "$part runs"; else
            say "$part is not running; its log ends: $(tail -n 1 "$state/logs/$part.log")"
            failed=1
        fi
    done
    kubectl get nodes,pods -A -o wide || failed=1
    return $failed
}

environment() {
    build_kube
    printf 'export KUBECONFIG=%q\n' "$state/kubeconfig"
    printf 'export DRIFTLOOP_IMAGES_CACHE=%q\n' "$cache/images"
    printf 'export DRIFTLOOP_CTR=%q\n' "ctr -a $state/containerd.sock -n k8s.io"
    printf 'export DRIFTLOOP_KUBECTL=%q\n' "$cache/kube kubectl"
    # The platform's passwords end with the volumes that know them.
    printf 'export DRIFTLOOP_CONFIG_DIR=%q\n' "$state/secrets"
}

restart() {
    build_kube
    init_pid >/dev/null || die "is down: there is nothing to restart"
    arguments "$1" >/dev/null
    if alive "$1"; then inside kill -9 "$(<"$state/pids/$1")"; fi
    while alive "$1"; do sleep 0.05; done
    start "$1"
}

# Programs that hold a connection keep it until the API server starts anew.
certificates() {
    certificate_of_apiserver "$1"
    restart kube-apiserver
}

case ${1:-} in
up) up ;;
down) down ;;
status) status ;;
env) environment ;;
certificates) certificates "${2:?for how many days?}" ;;
restart) restart "${2:?which part?}" ;;
packages) need ;;
able) able ;;
*) die "usage: lab.sh up | down | status | env | certificates DAYS | restart PART | packages | able" ;;
esac
