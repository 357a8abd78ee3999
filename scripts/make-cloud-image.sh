#!/usr/bin/env bash
# Makes a small cloud image for tests: this machine's own release with cloud-init, sshd and a boot loader, as qcow2.
#   scripts/make-cloud-image.sh FILE
set -euo pipefail
out=${1:?usage: make-cloud-image.sh FILE}
# shellcheck source=/dev/null
. /etc/os-release
case $ID in
debian) kernel=linux-image-cloud-amd64 ;;
*) kernel=linux-image-kvm ;;
esac
work=$(mktemp -d)
loop=
cleanup() {
    mountpoint -q "$work/mnt" && umount "$work/mnt"
    [ -z "$loop" ] || losetup -d "$loop"
    rm -rf "$work"
}
trap cleanup EXIT
command -v extlinux >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install extlinux syslinux-common fdisk
mmdebstrap --quiet --variant=minbase --mode=root --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --include="systemd,systemd-sysv,udev,dbus,iproute2,netplan.io,openssh-server,sudo,cloud-init,$kernel" "$VERSION_CODENAME" "$work/tree"
printf 'LABEL=twin-root / ext4 errors=remount-ro 0 1\n' >"$work/tree/etc/fstab"
printf 'datasource_list: [NoCloud]\n' >"$work/tree/etc/cloud/cloud.cfg.d/90-test.cfg"
systemctl --root="$work/tree" enable systemd-networkd ssh >/dev/null 2>&1
rm -f "$work/tree"/etc/ssh/ssh_host_*
truncate -s 2G "$work/disk"
printf '2048,,L,*\n' | sfdisk -q "$work/disk"
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$work/disk" conv=notrunc bs=440 count=1 status=none
loop=$(losetup --find --show --offset $((2048 * 512)) "$work/disk")
# extlinux reads neither 64-bit block numbers nor metadata checksums.
mke2fs -q -t ext4 -O '^64bit,^metadata_csum' -L twin-root -d "$work/tree" "$loop"
mkdir "$work/mnt"
mount "$loop" "$work/mnt"
mkdir -p "$work/mnt/boot/extlinux"
kernel=$(cd "$work/mnt" && find boot -maxdepth 1 -name 'vmlinuz-*' | sort | tail -n 1)
cat >"$work/mnt/boot/extlinux/extlinux.conf" <<EOF
default linux
label linux
  kernel /$kernel
  append initrd=/${kernel/vmlinuz/initrd.img} root=LABEL=twin-root rw console=ttyS0 net.ifnames=0 mitigations=off audit=0
EOF
extlinux --install "$work/mnt/boot/extlinux" >/dev/null 2>&1
umount "$work/mnt"
losetup -d "$loop"
loop=
qemu-img convert -q -f raw -O qcow2 "$work/disk" "$out"
sha256sum "$out"
