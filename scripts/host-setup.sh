#!/usr/bin/env bash
# Prepares a Debian 12/13 or Ubuntu 22.04/24.04 machine for twin. Running it twice changes nothing the second time.
#
#   scripts/host-setup.sh [--dry-run] [--no-pool] [--pool-size SIZE] [--state-dir DIR] [--build] [--remove]
#
#   --dry-run         says what would be done, and does nothing
#   --no-pool         makes no XFS pool, also where the state directory cannot reflink
#   --pool-size SIZE  of the sparse file behind the pool (default: half of what is free, at most 200G)
#   --state-dir DIR   where twin keeps what it keeps (default: /var/lib/twin)
#   --build           installs what building twin needs, too
#   --remove          takes back what this script set up, but for packages; refuses while a lab is there
set -euo pipefail

state_dir=/var/lib/twin
dry_run=false
pool=true
pool_size=
build=false
remove=false
changed=0

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry_run=true ;;
    --no-pool) pool=false ;;
    --pool-size) pool_size=${2:?--pool-size takes a size}; shift ;;
    --state-dir) state_dir=${2:?--state-dir takes a directory}; shift ;;
    --build) build=true ;;
    --remove) remove=true ;;
    -h | --help) usage; exit 0 ;;
    *) echo "host-setup: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

say() { printf '%s\n' "$*"; }
die() { printf 'host-setup: %s\n' "$*" >&2; exit 4; }

# does WHAT COMMAND...: says what is done, and does it unless this is a dry run.
does() {
    changed=$((changed + 1))
    say "-> $1"
    shift
    if $dry_run; then say "     $*"; else "$@"; fi
}

if [ "$(id -u)" != 0 ] && ! $dry_run; then die "run as root: sudo $0"; fi
# shellcheck source=/dev/null
. /etc/os-release
case "${ID:-}:${VERSION_CODENAME:-}" in
debian:bookworm | debian:trixie | ubuntu:jammy | ubuntu:noble) ;;
*) say "note: ${PRETTY_NAME:-this system} was not tried; Debian 12 and 13, Ubuntu 22.04 and 24.04 were meant" ;;
esac
codename=${VERSION_CODENAME:-}
qemu_conf=/etc/libvirt/qemu.conf
marker='# twin: memory files on the pool'
apparmor_file=/etc/apparmor.d/local/abstractions/libvirt-qemu
pool_image=$state_dir/pool.xfs
pool_dir=$state_dir/pool
# What --remove looks for before it removes the state directory.
mark_file=$state_dir/.made-by-twin-host-setup
# The pool is mounted at boot, where a systemd boots.
fstab_line="$pool_image $pool_dir xfs loop,noatime,nofail 0 0"

# --- packages -------------------------------------------------------------------------------------------------------
packages=(libvirt-daemon-system libvirt-daemon libvirt-clients qemu-system-x86 qemu-utils dnsmasq-base iptables nftables
    iproute2 conntrack tcpdump xfsprogs e2fsprogs kmod mmdebstrap openssh-client curl ca-certificates xz-utils zstd)
if $build; then packages+=(libvirt-dev pkg-config gcc libc6-dev make git tcpdump util-linux ovmf libxml2-utils); fi

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
    local missing=() package
    for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
    if [ ${#missing[@]} = 0 ]; then say "packages: all there"; return; fi
    # Some machines have qemu-utils from a newer suite (backports) than the one that has a matching qemu-system-x86:
    # then all of QEMU has to come from the release's own suite.
    local options=(-y --no-install-recommends) version own
    if installed qemu-utils && ! installed qemu-system-x86; then
        version=$(dpkg-query -W -f='${Version}' qemu-utils)
        case $version in
        *~bpo*)
            own=()
            for package in "${missing[@]}"; do [ "$package" = qemu-utils ] || own+=("$package"); done
            missing=("${own[@]}" "qemu-utils/$codename")
            options+=(--allow-downgrades)
            ;;
        esac
    fi
    does "refresh the package lists" apt-get -q update
    # Daemons are started below, the same way with and without systemd.
    does "install ${missing[*]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "${options[@]}" install "${missing[@]}"
}

# --- the daemons ----------------------------------------------------------------------------------------------------
has_systemd() { [ -d /run/systemd/system ]; }
alive() { [ -S /run/libvirt/libvirt-sock ] && timeout 10 virsh -c qemu:///system uri >/dev/null 2>&1; }
# running NAME: whether the daemon of that name and of the system's own path runs.
running() { pgrep -x "$1" >/dev/null 2>&1; }

start_daemons() {
    if alive && running virtlogd; then say "libvirtd: answers"; return; fi
    if has_systemd; then
        does "start libvirtd" systemctl enable --now virtlogd.socket libvirtd.socket libvirtd.service
        return
    fi
    running virtlogd || does "start virtlogd (no systemd runs here)" virtlogd -d
    running libvirtd || does "start libvirtd (no systemd runs here)" libvirtd -d
    if ! $dry_run; then wait_for_libvirt; fi
}

wait_for_libvirt() {
    local deadline=$((SECONDS + 30))
    until alive; do
        [ $SECONDS -lt $deadline ] || die "libvirtd did not answer within 30 s; see /var/log/syslog or run libvirtd in the foreground"
        sleep 0.2
    done
}

# Where udev does not run, /dev/kvm stays root's. libvirt then finds KVM when it probes QEMU as root, and none when it
# asks for QEMU's user, takes its cached capabilities for outdated, and probes for seconds at every call.
kvm_device() {
    [ -c /dev/kvm ] && getent group kvm >/dev/null || return 0
    if [ "$(stat -c %G /dev/kvm)" = kvm ] || [ -d /run/udev/data ]; then return 0; fi
    does "give /dev/kvm to the group kvm, as udev would" chgrp kvm /dev/kvm
    does "let the group use it" chmod 660 /dev/kvm
}

restart_libvirtd() {
    if has_systemd; then
        does "restart libvirtd for its new settings (domains go on running)" systemctl restart libvirtd.service
    elif running libvirtd; then
        does "restart libvirtd for its new settings (domains go on running)" restart_by_hand
    fi
}

restart_by_hand() {
    local pid deadline=$((SECONDS + 30))
    pid=$(cat /run/libvirtd.pid 2>/dev/null || pgrep -xo libvirtd)
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || die "libvirtd (process $pid) did not end within 30 s"
        sleep 0.2
    done
    libvirtd -d
    wait_for_libvirt
}

# --- the state directory and its pool -------------------------------------------------------------------------------
can_reflink() {
    local directory=$1 from to result=1
    from=$(mktemp "$directory/.reflink.XXXXXX") && to=$(mktemp "$directory/.reflink.XXXXXX") || return 1
    echo data >"$from"
    cp --reflink=always "$from" "$to" 2>/dev/null && result=0
    rm -f "$from" "$to"
    return $result
}

mounted() { awk -v dir="$1" '$2 == dir { found = 1 } END { exit !found }' /proc/mounts; }

make_directory() {
    local directory=$1 mode=$2 owner=$3
    if [ ! -d "$directory" ]; then does "make $directory" install -d -m "$mode" -o "${owner%:*}" -g "${owner#*:}" "$directory"; return; fi
    if [ "$(stat -c %a:%U:%G "$directory")" != "$mode:$owner" ]; then
        does "set $directory to $mode $owner" chmod "$mode" "$directory"
        does "give $directory to $owner" chown "$owner" "$directory"
    fi
}

state_directory() {
    # QEMU's user passes through and lists nothing; files in it are 0600 and libvirt gives each to the guest that uses it.
    make_directory "$state_dir" 711 root:root
    [ -e "$mark_file" ] || does "mark $state_dir as this script's" touch "$mark_file"
    if [ -f "$pool_image" ]; then
        mounted "$pool_dir" || does "mount the pool on $pool_dir" mount_pool
        if findmnt -n -o OPTIONS "$pool_dir" 2>/dev/null | grep -qw discard; then
            does "mount the pool anew without discard, where nothing runs in it" remount_pool
        fi
    elif $pool; then
        if [ -d "$state_dir" ] && can_reflink "$state_dir"; then
            say "pool: $state_dir can reflink by itself"
        elif [ -d "$pool_dir" ] && [ -n "$(ls -A "$pool_dir" 2>/dev/null)" ] && ! mounted "$pool_dir"; then
            say "pool: $pool_dir has files already and cannot reflink; destroy the labs in it and remove it to get a pool"
        else
            make_pool
        fi
    fi
    if [ -f "$pool_image" ] && has_systemd && ! grep -qsxF "$fstab_line" /etc/fstab; then
        does "have the pool mounted at boot (/etc/fstab)" add_to_fstab
    fi
    make_directory "$pool_dir" 711 root:root
    if id libvirt-qemu >/dev/null 2>&1; then
        make_directory "$pool_dir/ram" 700 "libvirt-qemu:$(id -gn libvirt-qemu)"
    fi
}

make_pool() {
    local size=$pool_size free
    if [ -z "$size" ]; then
        free=$(df --output=avail -BG "$(dirname "$state_dir")" | tail -n 1 | tr -dc 0-9)
        size=$((free / 2)); [ "$size" -le 200 ] || size=200
        if [ "$size" -lt 8 ]; then say "pool: less than 16 GiB are free; none is made (--pool-size SIZE makes one all the same)"; return; fi
        size=${size}G
    fi
    does "make a sparse file of $size for an XFS pool (this file system cannot reflink)" truncate -s "$size" "$pool_image.draft"
    does "format it" mkfs.xfs -q -f -m reflink=1,crc=1 "$pool_image.draft"
    does "keep it" mv "$pool_image.draft" "$pool_image"
    does "mount the pool on $pool_dir" mount_pool
}

mount_pool() {
    mkdir -p "$pool_dir"
    # Without discard: punching holes into the file while guests stand still made restores several times slower. twin
    # gives space back when a lab is destroyed.
    mount -o loop,noatime "$pool_image" "$pool_dir"
}

add_to_fstab() { printf '%s\n' "$fstab_line" >>/etc/fstab; }

remount_pool() {
    if umount "$pool_dir" 2>/dev/null; then mount_pool; else say "pool: in use; run this again when no lab runs"; fi
}

# --- libvirt's settings ---------------------------------------------------------------------------------------------
qemu_settings() {
    [ -f "$qemu_conf" ] || $dry_run || die "there is no $qemu_conf: libvirt's QEMU driver is not installed"
    if grep -qsxF "memory_backing_dir = \"$pool_dir/ram\" $marker" "$qemu_conf"; then
        say "qemu.conf: memory files go to the pool"
        return
    fi
    does "have libvirt put memory files on the pool ($qemu_conf)" write_qemu_conf
    restart_libvirtd
}

write_qemu_conf() {
    if grep -qs '^ *memory_backing_dir' "$qemu_conf" && ! grep -qsF "$marker" "$qemu_conf"; then
        die "$qemu_conf sets memory_backing_dir already; remove that line, or set it to \"$pool_dir/ram\""
    fi
    sed -i "/$marker/d" "$qemu_conf"
    printf 'memory_backing_dir = "%s" %s\n' "$pool_dir/ram" "$marker" >>"$qemu_conf"
}

apparmor() {
    if ! command -v aa-status >/dev/null 2>&1 || ! aa-status --enabled 2>/dev/null; then say "AppArmor: not in force"; return; fi
    local rule="  $pool_dir/ram/** rwk, # twin"
    if grep -qsxF "$rule" "$apparmor_file"; then say "AppArmor: memory files are allowed"; return; fi
    # virt-aa-helper does not see memory files, so each guest's profile needs to be told of them.
    does "allow memory files in the pool ($apparmor_file)" add_apparmor_rule "$rule"
}

add_apparmor_rule() {
    mkdir -p "$(dirname "$apparmor_file")"
    printf '%s\n' "$1" >>"$apparmor_file"
}

group() {
    local user=${SUDO_USER:-}
    if [ -z "$user" ] || [ "$user" = root ]; then return; fi
    if id -nG "$user" | tr ' ' '\n' | grep -qx libvirt; then say "group: $user is in libvirt"; return; fi
    does "let $user use libvirt" usermod -aG libvirt "$user"
}

# --- taking it back -------------------------------------------------------------------------------------------------
take_back() {
    if [ -d "$state_dir" ] && [ ! -e "$mark_file" ]; then
        die "$state_dir was not made by this script (there is no $mark_file); if it is twin's all the same, remove it by hand"
    fi
    if [ -n "$(ls -A "$pool_dir/labs" 2>/dev/null)" ]; then die "there is a lab in $pool_dir/labs; run twin destroy first"; fi
    if grep -qsF "$marker" "$qemu_conf"; then
        does "take the setting out of $qemu_conf" sed -i "/$marker/d" "$qemu_conf"
        restart_libvirtd
    fi
    if grep -qs '# twin$' "$apparmor_file"; then does "take the rule out of $apparmor_file" sed -i '/# twin$/d' "$apparmor_file"; fi
    if grep -qsxF "$fstab_line" /etc/fstab; then
        does "take the pool out of /etc/fstab" sed -i "\\|^$fstab_line\$|d" /etc/fstab
    fi
    if mounted "$pool_dir"; then
        # Each running QEMU has a mount namespace of its own, which pins the pool for as long as it runs.
        if pgrep -f qemu-system >/dev/null 2>&1; then die "virtual machines run, and each pins the pool's mount; shut them down first"; fi
        does "unmount the pool" umount "$pool_dir"
    fi
    if [ -d "$state_dir" ]; then does "remove $state_dir" rm -rf --one-file-system "$state_dir"; fi
}

if $remove; then
    take_back
else
    install_packages
    kvm_device
    start_daemons
    state_directory
    qemu_settings
    apparmor
    group
fi
if $dry_run; then say "$changed steps; nothing was done"; else say "done; $changed steps"; fi
