#!/bin/sh
# Runs a script in a root file system of its own, in a mount namespace that ends with it: this machine's programs, a copy of
# its /etc without what host-setup.sh has put there, and an empty /var, /run and /srv. Started by `unshare -m`.
#
#   unshare -m sh chroot.sh ROOT SCRIPT
set -e
root=$1 script=$2
mount --make-rprivate /
mkdir -p "$root/usr" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/srv" "$root/run/libvirt" "$root/var/lib/dpkg" \
    "$root/var/log" "$root/var/tmp" "$root/root" "$root/stubs" "$root/repo"
for name in bin sbin lib lib64; do [ -L "$root/$name" ] || ln -s "usr/$name" "$root/$name"; done
if [ ! -d "$root/etc" ]; then
    cp -a /etc "$root/etc"
    rm -f "$root"/etc/libvirt/qemu/*.xml "$root/etc/systemd/system/libvirtd.service.d/twin-pool.conf"
    find "$root/etc" -name '*.before-twin' -delete
fi
for place in usr dev proc sys var/lib/dpkg; do mount --bind "/$place" "$root/$place"; done
mount --bind "$(dirname "$0")/../.." "$root/repo"
exec env -i PATH="/stubs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root LC_ALL=C \
    chroot "$root" bash -c "$script"
