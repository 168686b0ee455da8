#!/usr/bin/env bash
# The C library: `library.sh install` builds it and installs header, libraries and isotherm.pc under
# DESTDIR/PREFIX; `library.sh uninstall` removes them; `library.sh build` leaves the library beside
# what cargo makes. LIBDIR, INCLUDEDIR and CARGO_PROFILE may be set.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
includedir=${INCLUDEDIR:-$prefix/include}
destdir=${DESTDIR:-}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
abi=$(sed -n 's/^pub const ISOTHERM_ABI_VERSION: u32 = \([0-9]*\);/\1/p' ffi/src/version.rs)
shared=libisotherm.so.$version
soname=libisotherm.so.$abi
# What Rust's standard library needs: rustc --print native-static-libs.
system_libraries='-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc'

installed=(
    "$libdir/libisotherm.a" "$libdir/$shared" "$libdir/$soname" "$libdir/libisotherm.so"
    "$libdir/pkgconfig/isotherm.pc" "$includedir/isotherm.h"
)

# The archive that cargo makes, and where the shared library goes.
build() {
    local profile=${CARGO_PROFILE:-release} directory
    case $profile in dev | test) directory=debug ;; *) directory=$profile ;; esac
    "${CARGO:-cargo}" build --profile "$profile" --package isotherm-ffi
    archive=${CARGO_TARGET_DIR:-target}/$directory/libisotherm_ffi.a
    built=${CARGO_TARGET_DIR:-target}/$directory/$shared
    link
}

# Not a cdylib: rustc would pass a version script of its own, and give no soname. The library is never
# unloaded, because its threads run in it.
link() {
    # shellcheck disable=SC2086 # several libraries are several words
    "${CC:-cc}" -shared -o "$built" \
        -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -Wl,--gc-sections \
        -Wl,--version-script=ffi/isotherm.map -Wl,-soname,"$soname" \
        -Wl,-z,defs -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now $system_libraries
}

pkg_config_file() {
    cat <<EOF
prefix=$prefix
libdir=$libdir
includedir=$includedir

Name: isotherm
Description: Blobs on a hierarchy of DRAM, NVMe and HDD
Version: $version
Libs: -L\${libdir} -lisotherm
Libs.private: $system_libraries
Cflags: -I\${includedir}
EOF
}

install_all() {
    build
    install -d "$destdir$libdir/pkgconfig" "$destdir$includedir"
    install -m 644 include/isotherm.h "$destdir$includedir/isotherm.h"
    install -m 644 "$archive" "$destdir$libdir/libisotherm.a"
    install -m 755 "$built" "$destdir$libdir/$shared"
    ln -sf "$shared" "$destdir$libdir/$soname"
    ln -sf "$soname" "$destdir$libdir/libisotherm.so"
    pkg_config_file >"$destdir$libdir/pkgconfig/isotherm.pc"
    echo "installed libisotherm $version under $destdir$prefix"
    if [ -z "$destdir" ] && [ "$(id -u)" -eq 0 ]; then ldconfig; fi
}

case ${1:-} in
    build) build && ln -sf "$shared" "$(dirname "$built")/libisotherm.so" ;;
    install) install_all ;;
    uninstall) for file in "${installed[@]}"; do rm -f "$destdir$file"; done ;;
    *) echo "usage: library.sh build | install | uninstall" >&2 && exit 2 ;;
esac
