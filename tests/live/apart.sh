#!/bin/bash
# Runs a script beside a bus, polkit and a libvirtd of its own, in a mount namespace that ends with it. Started by `unshare -m`.
#
#   unshare -m bash apart.sh SCRIPT
set -eu
# Whatever the caller's is: a system's services run with this one.
umask 022
mount --make-rprivate /
for place in /run/libvirt /run/dbus /etc/libvirt/qemu /var/lib/libvirt /var/cache/libvirt; do
    mkdir -p "$place"
    mount -t tmpfs -o mode=755 apart "$place"
done
mkdir -p /etc/libvirt/qemu/networks /var/lib/libvirt/qemu
started=()
trap 'kill "${started[@]}" 2>/dev/null; wait' EXIT
daemon() { "$@" >/dev/null 2>&1 & started=($! "${started[@]}"); }
answers() { # what has to succeed, within 20 s
    local deadline=$((SECONDS + 20))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "no answer: $*" >&2; exit 1; }
        sleep 0.1
    done
}
daemon dbus-daemon --system --nofork --nopidfile --address=unix:path=/run/dbus/system_bus_socket
answers test -S /run/dbus/system_bus_socket
for polkit in /usr/lib/polkit-1/polkitd /usr/libexec/polkitd; do [ -x "$polkit" ] && break; done
daemon "$polkit" --no-debug
answers pkcheck --action-id org.libvirt.unix.monitor --process $$
daemon virtlogd -p /run/libvirt/virtlogd.pid
daemon libvirtd -p /run/libvirt/libvirtd.pid
answers virsh -c qemu:///system uri
bash -c "$1"
