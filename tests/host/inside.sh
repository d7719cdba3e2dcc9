#!/usr/bin/env bash
# The throwaway machine's boot: lays out its file system and becomes its systemd. Run by machine.sh in new namespaces.
set -euo pipefail
lower=$1 work=$2 name=$3 lab=$4
root=$work/root

mount --make-rprivate /
mount -t overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/overlay" overlay "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
  : >dev/$node
  mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
if [[ -d /sys/fs/cgroup/systemd ]]; then
  mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
else
  umount sys/fs/cgroup
  mount -t cgroup2 cgroup2 sys/fs/cgroup
fi

# At its own place, since volumes are named by their paths.
if [[ -n $lab ]]; then
  mkdir -p ".$lab"
  mount --bind "$lab" ".$lab"
  ln -s "$lab" srv/lab
fi

# Settings that have no namespace would change the machine this runs on: plain files stand in for them.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
  fs/inotify/max_user_instances fs/inotify/max_user_watches; do
  echo 0 >"$work/proc-sys/${setting//\//.}"
  mount --bind "$work/proc-sys/${setting//\//.}" proc/sys/$setting
done
echo 2 >"$work/proc-sys/vm.panic_on_oom"

hostname "$name"
pivot_root . mnt
umount -l /mnt
exec env -i container="$name" PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
  /sbin/init "--$name" --log-target=journal --show-status=no
