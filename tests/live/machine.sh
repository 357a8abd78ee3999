#!/bin/bash
# A machine of its own: a libvirtd, a network stack and a disk that end together when its first process is killed, as a machine
# does whose power goes. It is the first process of new namespaces and says `ready` once libvirt answers.
#
#   unshare --mount --net --pid --fork --kill-child --mount-proc bash machine.sh DISK STATE BOOT [TWIN]
#
# With TWIN, twin's own units run before libvirtd and after it.
#
# DISK has the directories `state`, mounted as STATE, and `libvirt` and `etc`, where libvirt keeps what it knows. BOOT is what
# the kernel says which boot this is.
set -eu
# Whatever the caller's is: a system's services run with this one.
umask 022
disk=$1 state=$2 boot=$3 twin=${4:-}
mount --make-rprivate /
place=$(mktemp -d)
mount -t xfs -o noatime "$disk" "$place"
mkdir -p "$place/libvirt" "$place/etc/networks" "$place/etc/autostart"
mount --bind "$place/state" "$state"
mount --bind "$place/libvirt" /var/lib/libvirt
mount --bind "$place/etc" /etc/libvirt/qemu
for volatile in /run/libvirt /run/twin; do
    mkdir -p "$volatile"
    mount -t tmpfs -o mode=755 volatile "$volatile"
done
echo "$boot" >/run/twin/boot
mount --bind /run/twin/boot /proc/sys/kernel/random/boot_id
ip link set lo up
if [ -n "$twin" ]; then "$twin" recover --before-libvirt >/run/twin/said 2>&1; fi
virtlogd -p /run/libvirt/virtlogd.pid >/dev/null 2>&1 &
libvirtd -p /run/libvirt/libvirtd.pid >/dev/null 2>&1 &
deadline=$((SECONDS + 30))
until virsh -c qemu:///system uri >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { echo "no libvirtd"; exit 1; }
    sleep 0.05
done
if [ -n "$twin" ]; then "$twin" recover --after-boot >>/run/twin/said 2>&1 || echo "ended with $?" >>/run/twin/said; fi
echo ready
# Until the power goes.
wait
