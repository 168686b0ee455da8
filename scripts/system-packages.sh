#!/usr/bin/env bash
# Makes sure that system packages are there: system-packages.sh PACKAGE...
# As root on Debian and its relatives it installs what is missing; otherwise it names it and fails.
set -euo pipefail

has_header() {
    echo "#include <$1>" | gcc -E - >/dev/null 2>&1
}

# Whether what a package is needed for is there, whoever installed it.
have() {
    case "$1" in
        gcc) command -v cc >/dev/null && command -v gcc >/dev/null ;;
        libc6-dev) [ -e /usr/include/stdio.h ] || has_header stdio.h ;;
        librocksdb-dev) [ -e /usr/include/rocksdb/c.h ] || has_header rocksdb/c.h ;;
        xfsprogs) command -v mkfs.xfs >/dev/null ;;
        e2fsprogs) command -v mkfs.ext4 >/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust (see rustup.rs), then run this again" >&2
    exit 1
fi

missing=()
for package in "$@"; do
    have "$package" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
        apt-get update -qq
        apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null
    }
    exit 0
fi

echo "these system packages are missing: ${missing[*]}" >&2
echo "install them, for example: sudo apt-get install ${missing[*]}" >&2
exit 1
