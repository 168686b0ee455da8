//! The installed files: header, symbols, versions.

use std::collections::BTreeSet;
use std::process::Command;

use crate::installed::{destdir, installed, make, pkg_config, root, run};

fn output_of(program: &str, arguments: &[&str]) -> String {
    let library = installed("lib/libisotherm.so");
    let output = run(Command::new(program).args(arguments).arg(library));
    String::from_utf8(output.stdout).unwrap()
}

/// All `isotherm_...` words before one of these characters.
fn names(text: &str, before: char) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == before));
    let name = |word: &str| {
        let end = word.find(before)?;
        word[..end].starts_with("isotherm_").then(|| word[..end].to_owned())
    };
    words.filter_map(name).collect()
}

#[test]
fn exported_declared_and_listed_symbols_are_the_same() {
    let header = std::fs::read_to_string(installed("include/isotherm.h")).unwrap();
    let declared = names(&header, '(');
    let map = std::fs::read_to_string(root().join("ffi/isotherm.map")).unwrap();
    let listed: BTreeSet<String> = map
        .split_whitespace()
        .filter_map(|word| Some(word.strip_suffix(';')?.to_owned()))
        .filter(|word| word.starts_with("isotherm_"))
        .collect();
    let exported = output_of("nm", &["-D", "--defined-only"]);
    let exported: BTreeSet<String> = exported
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .filter(|symbol| *symbol != "ISOTHERM_0.1")
        .map(|symbol| symbol.trim_end_matches("@@ISOTHERM_0.1").to_owned())
        .collect();
    assert_eq!(declared, listed);
    assert_eq!(exported, listed);
}

#[test]
fn the_library_has_a_soname_and_is_never_unloaded() {
    let dynamic = output_of("readelf", &["-d"]);
    assert!(dynamic.contains("Library soname: [libisotherm.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    assert_eq!(pkg_config(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
}

#[test]
fn the_header_is_plain_c_and_cxx_and_may_be_included_twice() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("header.c");
    let text = "#include <isotherm.h>\n#include <isotherm.h>\n\
                int main(void) {\n\
                isotherm_open_options_t a = ISOTHERM_OPEN_OPTIONS_INIT;\n\
                isotherm_bucket_options_t b = ISOTHERM_BUCKET_OPTIONS_INIT;\n\
                isotherm_put_options_t c = ISOTHERM_PUT_OPTIONS_INIT;\n\
                isotherm_scan_options_t d = ISOTHERM_SCAN_OPTIONS_INIT;\n\
                return (int)(a.flags + b.flags + c.flags + d.flags);\n}\n";
    std::fs::write(&source, text).unwrap();
    let c = ["c99", "c11", "c17"].map(|standard| ("gcc", "c", standard));
    let cxx = ["c++11", "c++17", "c++20"].map(|standard| ("g++", "c++", standard));
    for (compiler, language, standard) in c.into_iter().chain(cxx) {
        let mut command = Command::new(compiler);
        command.arg(format!("-std={standard}")).args(["-x", language, "-fsyntax-only"]);
        command.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
        run(command.args(pkg_config(&["--cflags"])).arg(&source));
    }
}

#[test]
fn uninstall_removes_what_install_has_made() {
    let directory = tempfile::tempdir().unwrap();
    destdir();
    make("install", directory.path());
    make("uninstall", directory.path());
    let left = run(Command::new("find").arg(directory.path()).args(["!", "-type", "d"]));
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "");
}
