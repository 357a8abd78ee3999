#!/bin/bash
# Another machine's libvirtd: of an identity of its own, with no domains and no networks, in namespaces that end with it. It
# listens in a directory that this machine sees, as a forwarded socket does. Says `ready` once it answers.
#
#   unshare --mount --net --pid --fork --kill-child --mount-proc bash other_libvirtd.sh DIRECTORY UUID
set -eu
# Whatever the caller's is: a system's services run with this one.
umask 022
directory=$1 uuid=$2
mount --make-rprivate /
for place in /run/libvirt /etc/libvirt/qemu /var/lib/libvirt /var/cache/libvirt; do
    mkdir -p "$place"
    mount -t tmpfs -o mode=755 other "$place"
done
mkdir -p /etc/libvirt/qemu/networks /var/lib/libvirt/qemu
ip link set lo up
cat >"$directory/libvirtd.conf" <<CONF
host_uuid = "$uuid"
unix_sock_dir = "$directory"
auth_unix_ro = "none"
auth_unix_rw = "none"
CONF
virtlogd -p /run/libvirt/virtlogd.pid >/dev/null 2>&1 &
libvirtd -f "$directory/libvirtd.conf" -p /run/libvirt/libvirtd.pid >/dev/null 2>&1 &
deadline=$((SECONDS + 30))
until virsh -c "qemu+unix:///system?socket=$directory/libvirt-sock" uri >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { echo "no libvirtd"; exit 1; }
    sleep 0.05
done
echo ready
wait
