#!/usr/bin/env bash
# Crash images of stores on XFS and ext4, 1,000 each, and a disk that lies about flushes, which must be
# caught; and disks that fail. Ends with 77 where it cannot run: it needs root, /dev/fuse and loop devices.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -ne 0 ]; then
    echo "NOT RUN: only root can mount"
    exit 77
fi
if ! scripts/system-packages.sh xfsprogs e2fsprogs; then
    echo "NOT RUN: mkfs.xfs or mkfs.ext4 is missing"
    exit 77
fi
images=(cargo run --release --package isotherm-faults --)
"${images[@]}" --images 100 --lying
"${images[@]}" --failing
"${images[@]}" --images "${ISOTHERM_CRASH_IMAGES:-1000}"
