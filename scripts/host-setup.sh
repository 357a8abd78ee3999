#!/usr/bin/env bash
# Prepares a Debian 12/13 or Ubuntu 22.04/24.04 machine for twin. Running it twice changes nothing the second time.
#
#   scripts/host-setup.sh [--dry-run] [--no-pool] [--pool-size SIZE] [--state-dir DIR] [--build] [--remove]
#
#   --dry-run         says what would be done, and does nothing
#   --no-pool         makes no XFS pool, also where the state directory cannot reflink
#   --pool-size SIZE  of the sparse file behind the pool (default: half of what is free, at most 200G); one that is there
#                     and smaller grows
#   --state-dir DIR   the state directory (default: /var/lib/twin)
#   --build           installs what building twin needs, too
#   --remove          takes back what this script set up, but for packages; refuses while a lab is there, and leaves and
#                     names what neither this script nor twin made
set -euo pipefail
# Files made here are root's alone from the first moment; wider modes are set one by one.
umask 077

state_dir=/var/lib/twin
dry_run=false
pool=true
pool_size=
build=false
remove=false
changed=0

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }
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
# In a state directory that this script made, and in no other: --remove removes that directory.
mark_file=$state_dir/.made-by-twin-host-setup
# The pool is mounted at boot, where a systemd boots, and before libvirtd starts the hosts that are to start by themselves.
fstab_line="$pool_image $pool_dir xfs loop,noatime,nofail,x-systemd.before=libvirtd.service,x-systemd.before=virtqemud.service 0 0"
old_fstab_line="$pool_image $pool_dir xfs loop,noatime,nofail 0 0"
libvirt_drop_in=/etc/systemd/system/libvirtd.service.d/twin-pool.conf
qemu_conf_line="memory_backing_dir = \"$pool_dir/ram\" $marker"
# Each guest's profile includes this file, also those of guests that are not twin's: it opens no more than their QEMU's own
# memory files. README and `twin doctor` say so.
apparmor_rule="  owner $pool_dir/ram/libvirt/qemu/*/pc.ram rwk, # twin"
old_apparmor_rule="  $pool_dir/ram/** rwk, # twin"

# --- packages -------------------------------------------------------------------------------------------------------
packages=(libvirt-daemon-system libvirt-daemon libvirt-clients qemu-system-x86 qemu-utils dnsmasq-base iptables nftables
    iproute2 conntrack tcpdump xfsprogs e2fsprogs kmod mmdebstrap openssh-client ca-certificates xz-utils zstd)
if $build; then packages+=(libvirt-dev pkg-config gcc libc6-dev make git util-linux ovmf libxml2-utils shellcheck apparmor python3-minimal dbus polkitd systemd strace); fi

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
    does "install ${missing[*]}" apt_install "${options[@]}" install "${missing[@]}"
}

# Packages' own scripts count on the system's umask.
apt_install() { (umask 022 && DEBIAN_FRONTEND=noninteractive apt-get -q "$@"); }

# --- the daemons ----------------------------------------------------------------------------------------------------
has_systemd() { [ -d /run/systemd/system ]; }
alive() { [ -S /run/libvirt/libvirt-sock ] && timeout 10 virsh -c qemu:///system uri >/dev/null 2>&1; }
# running NAME: whether the daemon of that name and of the system's own path runs.
running() { pgrep -x "$1" >/dev/null 2>&1; }

# daemon NAME: starts it. What it makes is for others too: dnsmasq reads libvirt's files as a user of its own.
daemon() { (umask 022 && "$1" -d); }

start_daemons() {
    if alive && running virtlogd; then say "libvirtd: answers"; return; fi
    if has_systemd; then
        does "start libvirtd" systemctl enable --now virtlogd.socket libvirtd.socket libvirtd.service
        return
    fi
    running virtlogd || does "start virtlogd (no systemd runs here)" daemon virtlogd
    running libvirtd || does "start libvirtd (no systemd runs here)" daemon libvirtd
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
    daemon libvirtd
    wait_for_libvirt
}

# --- files of the system --------------------------------------------------------------------------------------------
# has_line FILE LINE: whether the file has exactly this line.
has_line() { [ -f "$1" ] && grep -qxF -- "$2" "$1"; }

# keep_copy FILE: keeps what the file was before twin changed it for the first time.
keep_copy() { if [ -f "$1" ] && [ ! -e "$1.before-twin" ]; then cp -p -- "$1" "$1.before-twin"; fi; }

# with_line FILE LINE: appends the line. A last line without its end gets one, or the two would be one line.
with_line() {
    local file=$1 line=$2 draft=$1.twin-draft
    (umask 022 && mkdir -p -- "$(dirname "$file")")
    keep_copy "$file"
    if [ -f "$file" ]; then
        cp -p -- "$file" "$draft"
        if [ -s "$draft" ] && [ -n "$(tail -c 1 -- "$draft")" ]; then printf '\n' >>"$draft"; fi
    else
        install -m 644 /dev/null "$draft"
    fi
    printf '%s\n' "$line" >>"$draft"
    sync -- "$draft"
    mv -f -- "$draft" "$file"
}

# without_line FILE LINE: takes out this line, where it stands exactly so.
without_line() {
    local file=$1 line=$2 draft=$1.twin-draft
    keep_copy "$file"
    cp -p -- "$file" "$draft"
    grep -vxF -- "$line" "$file" >"$draft" || [ $? = 1 ]
    sync -- "$draft"
    mv -f -- "$draft" "$file"
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

# empty DIR: whether nothing is in the directory.
empty() { [ -z "$(ls -A -- "$1" 2>/dev/null)" ]; }

state_directory() {
    # QEMU's user passes through and lists nothing; files in it are 0600 and libvirt gives each to the guest that uses it.
    if [ ! -d "$state_dir" ] || empty "$state_dir"; then
        make_directory "$state_dir" 711 root:root
        does "mark $state_dir as made by this script" touch "$mark_file"
    elif [ -e "$mark_file" ]; then
        make_directory "$state_dir" 711 root:root
    else
        say "note: $state_dir was there before and has files: it is used as it is, and --remove will not remove it"
        case $(stat -c %A "$state_dir") in
        *x | *t) ;;
        *) die "QEMU's user cannot pass through $state_dir: chmod o+x \"$state_dir\", or choose another --state-dir" ;;
        esac
    fi
    if [ -f "$pool_image" ]; then
        if [ "$(stat -c %a "$pool_image")" != 600 ]; then
            # All memory and all disks of all guests are in it.
            does "take $pool_image from other users" chmod 600 "$pool_image"
        fi
        mounted "$pool_dir" || does "mount the pool on $pool_dir" mount_pool
        if findmnt -n -o OPTIONS "$pool_dir" 2>/dev/null | grep -qw discard; then
            does "mount the pool anew without discard, where nothing runs in it" remount_pool
        fi
        [ -z "$pool_size" ] || grow_pool
    elif $pool; then
        if [ -d "$state_dir" ] && can_reflink "$state_dir"; then
            say "pool: $state_dir can reflink by itself"
        elif [ -d "$pool_dir" ] && ! empty "$pool_dir" && ! mounted "$pool_dir"; then
            say "pool: $pool_dir has files already and cannot reflink; destroy the labs in it and remove it to get a pool"
        else
            make_pool
        fi
    fi
    if [ -f "$pool_image" ] && has_systemd; then mount_at_boot; fi
    make_directory "$pool_dir" 711 root:root
    if id libvirt-qemu >/dev/null 2>&1; then
        make_directory "$pool_dir/ram" 700 "libvirt-qemu:$(id -gn libvirt-qemu)"
    fi
}

# libvirtd starts hosts at boot whose disks are in the pool.
mount_at_boot() {
    if has_line /etc/fstab "$old_fstab_line"; then
        does "take the pool's old line out of /etc/fstab" without_line /etc/fstab "$old_fstab_line"
    fi
    has_line /etc/fstab "$fstab_line" || does "have the pool mounted at boot (/etc/fstab)" with_line /etc/fstab "$fstab_line"
    if [ "$(cat "$libvirt_drop_in" 2>/dev/null)" != "$(drop_in)" ]; then
        does "have libvirtd wait for the pool ($libvirt_drop_in)" write_drop_in
    fi
}

drop_in() { printf '[Unit]\nRequiresMountsFor=%s\n' "$pool_dir"; }

write_drop_in() {
    install -d -m 755 "$(dirname "$libvirt_drop_in")"
    install -m 644 /dev/null "$libvirt_drop_in"
    drop_in >"$libvirt_drop_in"
    systemctl daemon-reload
}

make_pool() {
    local size=$pool_size free
    if [ -z "$size" ]; then
        free=$(df --output=avail -BG "$(dirname "$state_dir")" | tail -n 1 | tr -dc 0-9)
        size=$((free / 2)); [ "$size" -le 200 ] || size=200
        if [ "$size" -lt 8 ]; then say "pool: less than 16 GiB are free; none is made (--pool-size SIZE makes one all the same)"; return; fi
        size=${size}G
    fi
    # Closed to others from the first moment: a process that has opened it keeps it open.
    does "make a file for an XFS pool (this file system cannot reflink)" install -m 600 /dev/null "$pool_image.draft"
    does "let it grow to $size" truncate -s "$size" "$pool_image.draft"
    does "format it" mkfs.xfs -q -f -m reflink=1,crc=1 "$pool_image.draft"
    does "keep it" mv "$pool_image.draft" "$pool_image"
    does "mount the pool on $pool_dir" mount_pool
}

# Guests may run meanwhile.
grow_pool() {
    local wanted has sized
    has=$(stat -c %s "$pool_image")
    sized=$(mktemp)
    truncate -s "$pool_size" "$sized" || { rm -f "$sized"; die "--pool-size $pool_size is no size"; }
    wanted=$(stat -c %s "$sized")
    rm -f "$sized"
    if [ "$wanted" -lt "$has" ]; then
        say "pool: it has $(numfmt --to=iec "$has") and does not get smaller"
    elif [ "$wanted" -gt "$has" ]; then
        does "let the pool grow to $pool_size" enlarge_pool
    fi
}

enlarge_pool() {
    truncate -s "$pool_size" "$pool_image"
    losetup -c "$(findmnt -n -o SOURCE "$pool_dir")"
    xfs_growfs -d "$pool_dir" >/dev/null
}

mount_pool() {
    mkdir -p "$pool_dir"
    # Without discard: punching holes into the file while guests stand still made restores several times slower. twin
    # gives space back when a lab is destroyed.
    mount -o loop,noatime "$pool_image" "$pool_dir"
}

remount_pool() {
    if umount "$pool_dir" 2>/dev/null; then mount_pool; else say "pool: in use; run this again when no lab runs"; fi
}

# --- libvirt's settings ---------------------------------------------------------------------------------------------
qemu_settings() {
    [ -f "$qemu_conf" ] || $dry_run || die "there is no $qemu_conf: libvirt's QEMU driver is not installed"
    if has_line "$qemu_conf" "$qemu_conf_line"; then
        say "qemu.conf: memory files go to the pool"
        return
    fi
    does "have libvirt put memory files on the pool ($qemu_conf)" write_qemu_conf
    restart_libvirtd
}

write_qemu_conf() {
    local line
    while IFS= read -r line; do
        case $line in
        *"$marker") without_line "$qemu_conf" "$line" ;;
        *) die "$qemu_conf sets memory_backing_dir already; remove that line, or set it to \"$pool_dir/ram\"" ;;
        esac
    done < <(grep '^ *memory_backing_dir' "$qemu_conf" || true)
    with_line "$qemu_conf" "$qemu_conf_line"
}

apparmor() {
    if ! command -v aa-status >/dev/null 2>&1 || ! aa-status --enabled 2>/dev/null; then say "AppArmor: not in force"; return; fi
    if has_line "$apparmor_file" "$old_apparmor_rule"; then
        does "take an older, wider rule out of $apparmor_file" without_line "$apparmor_file" "$old_apparmor_rule"
    fi
    if has_line "$apparmor_file" "$apparmor_rule"; then say "AppArmor: memory files are allowed"; return; fi
    # virt-aa-helper does not see memory files, so each guest's profile needs to be told of them.
    does "allow memory files in the pool ($apparmor_file)" with_line "$apparmor_file" "$apparmor_rule"
}

group() {
    local user=${SUDO_USER:-}
    if [ -z "$user" ] || [ "$user" = root ]; then return; fi
    if id -nG "$user" | tr ' ' '\n' | grep -qx libvirt; then say "group: $user is in libvirt"; return; fi
    does "let $user use libvirt" usermod -aG libvirt "$user"
}

# --- taking it back -------------------------------------------------------------------------------------------------
# marked_domains: names of libvirt's domains that carry a mark of twin's, by what libvirt says and by its files.
marked_domains() {
    local name file
    while IFS= read -r name; do
        [ -n "$name" ] || continue
        if virsh -c qemu:///system dumpxml -- "$name" 2>/dev/null | grep -q 'urn:twin:mark:1'; then printf '%s\n' "$name"; fi
    done < <(virsh -c qemu:///system list --all --name 2>/dev/null || true)
    for file in /etc/libvirt/qemu/*.xml /run/libvirt/qemu/*.xml; do
        if grep -qs 'urn:twin:mark:1' "$file"; then basename "$file" .xml; fi
    done
}

# Files and directories of twin's in the state directory, beside the pool.
known_files=(journal.sqlite journal.sqlite-wal journal.sqlite-shm accelerator.json self-test.json halt pool.xfs.draft)
known_directories=(log keys reports captured)

take_back() {
    local domains other name
    if [ -d "$state_dir" ] && [ ! -e "$mark_file" ]; then
        die "$state_dir was not made by this script (there is no $mark_file); if it is twin's all the same, remove it by hand"
    fi
    if [ -f "$pool_image" ] && ! mounted "$pool_dir"; then
        die "the pool $pool_image is not mounted, and labs may be in it: mount -o loop,noatime $pool_image $pool_dir"
    fi
    domains=$(marked_domains | sort -u | tr '\n' ' ')
    if [ -n "$domains" ]; then die "libvirt has domains with a mark of twin's: ${domains% }; run twin destroy first"; fi
    if ! empty "$pool_dir/labs"; then die "there is a lab in $pool_dir/labs; run twin destroy first"; fi
    if mounted "$pool_dir"; then
        # Each running QEMU has a mount namespace of its own, which pins the pool for as long as it runs.
        if pgrep -f qemu-system >/dev/null 2>&1; then die "virtual machines run, and each pins the pool's mount; shut them down first"; fi
    fi
    # What is in the pool and not twin's would go with its file.
    other=$({ find "$pool_dir" -mindepth 1 -maxdepth 1 ! -name images ! -name labs ! -name ram 2>/dev/null || true; } | sed -n 1,5p | tr '\n' ' ')
    if [ -f "$pool_image" ] && [ -n "$other" ]; then die "these in the pool are not twin's: ${other% }; move them away first"; fi
    if has_line "$qemu_conf" "$qemu_conf_line"; then
        does "take the setting out of $qemu_conf" without_line "$qemu_conf" "$qemu_conf_line"
        restart_libvirtd
    fi
    for name in "$apparmor_rule" "$old_apparmor_rule"; do
        if has_line "$apparmor_file" "$name"; then does "take the rule out of $apparmor_file" without_line "$apparmor_file" "$name"; fi
    done
    for name in "$fstab_line" "$old_fstab_line"; do
        if has_line /etc/fstab "$name"; then does "take the pool out of /etc/fstab" without_line /etc/fstab "$name"; fi
    done
    if [ -e "$libvirt_drop_in" ]; then
        does "remove $libvirt_drop_in" rm -f -- "$libvirt_drop_in"
        if has_systemd; then does "have systemd forget it" systemctl daemon-reload; fi
    fi
    if mounted "$pool_dir"; then does "unmount the pool" umount "$pool_dir"; fi
    if [ -d "$state_dir" ]; then remove_state_directory; fi
}

# Removes names that twin makes; what else is there stays, and is named.
remove_state_directory() {
    local name left
    if [ -f "$pool_image" ]; then does "remove $pool_image" rm -f -- "$pool_image"; fi
    for name in "${known_files[@]}"; do
        if [ -f "$state_dir/$name" ]; then does "remove $state_dir/$name" rm -f -- "$state_dir/$name"; fi
    done
    for name in "${known_directories[@]}" pool/images pool/ram; do
        if [ -d "$state_dir/$name" ] && [ ! -L "$state_dir/$name" ]; then
            does "remove $state_dir/$name" rm -rf --one-file-system -- "${state_dir:?}/$name"
        fi
    done
    for name in pool/labs pool; do
        if [ -d "$state_dir/$name" ] && empty "$state_dir/$name"; then does "remove $state_dir/$name" rmdir -- "$state_dir/$name"; fi
    done
    left=$({ find "$state_dir" -mindepth 1 -maxdepth 2 ! -path "$mark_file" 2>/dev/null || true; } | sed -n 1,10p)
    if [ -n "$left" ] && ! $dry_run; then
        say "left, since neither this script nor twin made it:"
        printf '  %s\n' "$left"
        return
    fi
    does "remove $state_dir" remove_marked_directory
}

remove_marked_directory() { rm -f -- "$mark_file" && rmdir -- "$state_dir"; }

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
