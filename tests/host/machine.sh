#!/usr/bin/env bash
# A throwaway machine for the playbooks of the host: a Debian root file system with its own systemd, SSH server, process
# list, mounts and network, made of namespaces. Its only way out is a cable to the network namespace `outside`.
#
# Usage: machine.sh up | down | shell COMMAND... | outside COMMAND... | pod COMMAND...
#   up       makes and starts it (the first time debootstrap makes the root file system, kept in the cache)
#   down     stops it and removes every process, mount, namespace and control group that `up` made
#   shell    runs a command inside it;  outside: in the network of whoever comes from the Internet
#   pod      runs a command in a network namespace behind the machine's bridge cni0, where Kubernetes would put a pod
#
# With DRIFTLOOP_HOST_TEST_MACHINE=agent, `up` and `shell` mean a second machine in the same network, which comes after the
# first; `down` removes both.
# With DRIFTLOOP_HOST_TEST_LAB, the folder of a running lab (tests/lab/lab.sh), the machine sees that folder as /srv/lab and
# has a second cable, to the lab's API server and Services.
#
# Needs root, debootstrap, iproute2, util-linux. Real: systemd, sshd, apt, ufw and the kernel's netfilter. Doubles, because
# they would change the machine this runs on: the settings vm.* kernel.* fs.* are plain files over /proc/sys.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/driftloop/host
work=${DRIFTLOOP_HOST_TEST_DIR:-/tmp/driftloop-host-test}
tag=dlhost
name=${DRIFTLOOP_HOST_TEST_MACHINE:-machine} home=$work/${DRIFTLOOP_HOST_TEST_MACHINE:-machine}
outside_address=192.0.2.1 machine_address=192.0.2.2 agent_address=192.0.2.3 pod_address=10.42.0.2
lab=${DRIFTLOOP_HOST_TEST_LAB:-} lab_address=10.99.99.2 services=10.43.0.0/16
suite=bookworm
packages=ca-certificates,dbus,iproute2,kmod,openssh-server,procps,python3,python3-apt,sudo,systemd,systemd-sysv
# What playbook 01 installs; fetched beforehand because the machine has no way to the mirrors.
wanted_by_playbooks="ca-certificates curl git iptables jq netcat-openbsd python3-venv ufw"

prepare() {
  local stamp root=$cache/root
  stamp=$(printf '%s' "$suite $packages $wanted_by_playbooks" | sha256sum | cut -c1-16)
  [[ -f $cache/complete && $(<"$cache/complete") == "$stamp" ]] && return
  echo "machine: making the root file system with debootstrap" >&2
  rm -rf "$cache"
  mkdir -p "$cache"
  debootstrap --variant=minbase --include="$packages" "$suite" "$root" >"$cache/debootstrap.log" 2>&1 || {
    tail -5 "$cache/debootstrap.log" >&2
    return 1
  }
  # netcat is for our own probes; everything else is left for the playbook to install.
  chroot "$root" apt-get install --yes -q --no-install-recommends netcat-openbsd >>"$cache/debootstrap.log" 2>&1
  # shellcheck disable=SC2086
  chroot "$root" apt-get install --yes -q --no-install-recommends --download-only $wanted_by_playbooks \
    >>"$cache/debootstrap.log" 2>&1
  # The kernel has these built in; the list says so to modprobe, as it would on a machine with the kernel's package.
  mkdir -p "$root/lib/modules/$(uname -r)"
  printf 'kernel/fs/overlayfs/overlay.ko\nkernel/net/bridge/br_netfilter.ko\n' \
    >"$root/lib/modules/$(uname -r)/modules.builtin"
  : >"$root/lib/modules/$(uname -r)/modules.order"
  chroot "$root" depmod 2>>"$cache/debootstrap.log"
  echo 'UUID=5a5a5a5a-0000-4000-8000-000000000000 none swap sw 0 0' >"$root/etc/fstab"
  echo "$stamp" >"$cache/complete"
}

# What is outside, and a place for a pod behind the first machine.
surroundings() {
  ip netns add $tag-outside
  ip netns add $tag-pod
  ip -n $tag-outside link set lo up
  ip -n $tag-outside link add cable type bridge
  ip -n $tag-outside address add $outside_address/24 dev cable
  ip -n $tag-outside link set cable up
  # So that answers to a pod find their way back: k3s masquerades here, this test only needs to see the packet pass.
  ip -n $tag-outside route add 10.42.0.0/16 via $machine_address
}

network() { # ADDRESS
  ip netns add "$tag-$name"
  ip -n "$tag-$name" link set lo up
  ip -n $tag-outside link add "$name" type veth peer name eth0 netns "$tag-$name"
  ip -n $tag-outside link set "$name" master cable up
  ip -n "$tag-$name" address add "$1/24" dev eth0
  ip -n "$tag-$name" link set eth0 up
  ip -n "$tag-$name" route add default via $outside_address
}

pods_network() {
  ip -n $tag-machine link add cni0 type bridge
  ip -n $tag-machine address add 10.42.0.1/24 dev cni0
  ip -n $tag-machine link set cni0 up
  ip -n $tag-pod link add eth0 type veth peer name pod0 netns $tag-machine
  ip -n $tag-machine link set pod0 master cni0 up
  ip -n $tag-pod address add $pod_address/24 dev eth0
  ip -n $tag-pod link set lo up
  ip -n $tag-pod link set eth0 up
  ip -n $tag-pod route add default via 10.42.0.1
}

# The cable to the lab's API server and Services.
lab_network() {
  local init
  init=$(<"$lab/init.pid")
  ip link add lab netns $tag-machine type veth peer name machine netns "$init"
  ip -n $tag-machine address add 10.99.98.1/30 dev lab
  ip -n $tag-machine link set lab up
  nsenter --target "$init" --net ip address add 10.99.98.2/30 dev machine
  nsenter --target "$init" --net ip link set machine up
  ip -n $tag-machine route add $lab_address via 10.99.98.2
  ip -n $tag-machine route add $services via 10.99.98.2
}

groups() { # NAME: the control group folders of the machine of that name
  printf '%s\n' "/sys/fs/cgroup/systemd/$tag-$1" "/sys/fs/cgroup/unified/$tag-$1"
}

up() {
  [[ ! -e $home/pid ]] || { echo "machine: it is up already; machine.sh down" >&2; return 1; }
  prepare
  if [[ $name == machine ]]; then
    rm -rf "$work"
    mkdir -p "$work"
    ssh-keygen -q -t ed25519 -N '' -f "$work/key"
    surroundings
    network $machine_address
    pods_network
    [[ -z $lab ]] || lab_network
  else
    network $agent_address
  fi
  mkdir -p "$home"/{upper,overlay,root,proc-sys}
  mkdir -p "$home/upper/root/.ssh" "$home/upper/var/lib/apt/periodic" "$home/upper/etc"
  # sudo looks its own machine up; without an answer it waits for name servers that are not there.
  echo "driftloop-$name" >"$home/upper/etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 driftloop-%s\n::1 localhost\n' "$name" >"$home/upper/etc/hosts"
  chmod 700 "$home/upper/root" "$home/upper/root/.ssh"
  cp "$work/key.pub" "$home/upper/root/.ssh/authorized_keys"
  : >"$home/upper/var/lib/apt/periodic/update-success-stamp"
  local group
  for group in $(groups "$name"); do [[ ! -d $(dirname "$group") ]] || mkdir -p "$group"; done
  (
    for group in $(groups "$name"); do [[ ! -d $group ]] || echo $BASHPID >"$group/cgroup.procs"; done
    exec setsid ip netns exec "$tag-$name" unshare --mount --uts --ipc --pid --cgroup --fork \
      "$here/inside.sh" "$cache/root" "$home" "driftloop-$name" "$lab" >"$home/console.log" 2>&1 </dev/null
  ) &
  local tries
  for ((tries = 0; tries < 150; tries++)); do
    pgrep -f "^/sbin/init --driftloop-$name" >"$home/pid" && shell systemctl is-active --quiet ssh 2>/dev/null && break
    sleep 0.2
  done
  shell systemctl is-active --quiet ssh || { echo "machine: $name does not start:" >&2; tail "$home/console.log" >&2; down; return 1; }
  printf '%s %s\n' "$(ip -n "$tag-$name" -brief address show eth0 | sed 's|.* \([0-9.]*\)/24.*|\1|')" \
    "$(cut -d' ' -f1,2 "$cache/root/etc/ssh/ssh_host_ed25519_key.pub")" >>"$work/known_hosts"
}

down() {
  local each group
  for each in agent machine; do
    if [[ -s $work/$each/pid ]]; then
      # PID 1 of a process namespace: with it go all the others in it.
      kill -KILL "$(<"$work/$each/pid")" 2>/dev/null || true
      while kill -0 "$(<"$work/$each/pid")" 2>/dev/null; do sleep 0.1; done
    fi
  done
  for each in outside pod machine agent; do
    [[ ! -e /run/netns/$tag-$each ]] || { ip netns pids $tag-$each | xargs -r kill; ip netns delete $tag-$each; }
  done
  while read -r group; do
    for _ in $(seq 50); do
      [[ -d $group ]] || break
      find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || sleep 0.1
    done
  done < <(groups machine; groups agent)
  rm -rf "$work"
}

shell() { nsenter --target "$(<"$home/pid")" --mount --uts --ipc --net --pid --cgroup --root --wd -- "$@"; }

case ${1:-} in
  up) up ;;
  down) down ;;
  shell) shift; shell "$@" ;;
  outside | pod) ip netns exec "$tag-$1" "${@:2}" ;;
  *) sed -n '2,21s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
