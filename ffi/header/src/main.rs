//! Writes `include/isotherm.h`: `cargo run -p isotherm-header`. The header is committed; a test finds
//! out when it is not what this would write.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cbindgen::{Builder, Config, DocumentationStyle, FunctionConfig, Language, Style};

fn main() -> ExitCode {
    let written = header().and_then(|header| {
        std::fs::write(path(), header).map_err(|error| format!("{}: {error}", path().display()))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("isotherm-header: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Where it is.
fn path() -> PathBuf {
    root().join("include/isotherm.h")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The header's text.
fn header() -> Result<String, String> {
    let builder = Builder::new().with_config(config()).with_src(root().join("ffi/src/lib.rs"));
    let bindings = builder.generate().map_err(|error| format!("cbindgen: {error}"))?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).map_err(|error| format!("cbindgen: {error}"))?;
    Ok(in_words_of_c(&text))
}

fn config() -> Config {
    Config {
        language: Language::C,
        style: Style::Both,
        cpp_compat: true,
        header: Some(INTRODUCTION.to_owned()),
        include_guard: Some("ISOTHERM_H".to_owned()),
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"].map(str::to_owned).to_vec(),
        after_includes: Some(definitions()),
        documentation_style: DocumentationStyle::Doxy,
        usize_is_size_t: true,
        line_length: 100,
        tab_width: 4,
        function: FunctionConfig {
            prefix: Some("ISOTHERM_API".to_owned()),
            ..FunctionConfig::default()
        },
        ..Config::default()
    }
}

/// Comments as C readers like them. What stands under `# Safety` is for Rust alone: the promises of
/// every C call. A comment of one line takes one line.
fn in_words_of_c(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut in_safety = false;
    for line in text.lines() {
        in_safety = (in_safety || line.trim() == "* # Safety") && line.trim() != "*/";
        if in_safety {
            continue;
        }
        if line.trim() == "*/" {
            end_comment(&mut lines);
        } else {
            lines.push(line.replace('`', ""));
        }
    }
    lines.join("\n") + "\n"
}

/// Ends the comment that the last lines are.
fn end_comment(lines: &mut Vec<String>) {
    while lines.last().is_some_and(|last| last.trim() == "*") {
        lines.pop();
    }
    let [.., start, only] = lines.as_slice() else { return };
    let indent = &start[..start.len() - start.trim_start().len()];
    if start.trim() == "/**" {
        let comment = format!("{indent}/** {} */", only.trim().trim_start_matches("* "));
        lines.truncate(lines.len() - 2);
        lines.push(comment);
    } else {
        let end = format!("{}*/", &only[..only.len() - only.trim_start().len()]);
        lines.push(end);
    }
}

const INTRODUCTION: &str = "\
/*
 * isotherm: blobs on a hierarchy of DRAM, NVMe and HDD.
 *
 * Written by cargo run -p isotherm-header from ffi/src. Do not edit.
 *
 * Every call that can fail answers a status: 0, or a negative number of the ISOTHERM_E_* below;
 * isotherm_last_error has the message. What a call hands out is written only when it succeeds, unless
 * its comment says otherwise. A pointer may be NULL only where its comment says so, or where its length
 * is 0; memory that a length speaks of must be there.
 *
 * Handles are numbers. 0, a closed one, one of another kind or of another process is answered with
 * ISOTHERM_E_BAD_HANDLE. Closing waits for the calls that use the handle. All calls may be made from any
 * thread, but from no signal handler. A defect inside is ISOTHERM_E_INTERNAL, after which the store takes
 * no changes. Exit without isotherm_close is like the death of the process: what was acknowledged at
 * Written level or more is there at the next open.
 *
 * Structs of options begin with their size and may grow: initialize them with their _INIT or _init.
 */";

/// Versions, and how functions are declared.
fn definitions() -> String {
    let mut text = String::new();
    let parts = [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ];
    text.push_str(
        "\n/** The version of this header. isotherm_version_number: that of the library. */\n",
    );
    for (name, number) in parts {
        // Writing to a string does not fail.
        let _written = writeln!(text, "#define ISOTHERM_VERSION_{name} {number}");
    }
    text.push_str(&format!("#define ISOTHERM_VERSION \"{}\"\n", env!("CARGO_PKG_VERSION")));
    text.push_str(
        "#define ISOTHERM_VERSION_NUMBER \\\n    (ISOTHERM_VERSION_MAJOR * 1000000 + \
         ISOTHERM_VERSION_MINOR * 1000 + ISOTHERM_VERSION_PATCH)\n",
    );
    text.push_str(
        "\n#ifndef ISOTHERM_API\n#define ISOTHERM_API __attribute__((visibility(\"default\")))\n\
         #endif\n",
    );
    text.push_str(INITIALIZERS);
    text
}

const INITIALIZERS: &str = "
/** Options at their defaults: isotherm_put_options_t options = ISOTHERM_PUT_OPTIONS_INIT; */
#define ISOTHERM_OPEN_OPTIONS_INIT {sizeof(isotherm_open_options_t), 0, NULL, NULL, 0}
#define ISOTHERM_BUCKET_OPTIONS_INIT {sizeof(isotherm_bucket_options_t), 0, 0, 0}
#define ISOTHERM_PUT_OPTIONS_INIT {sizeof(isotherm_put_options_t), 0, 0, 0, 0}
#define ISOTHERM_SCAN_OPTIONS_INIT \\
    {sizeof(isotherm_scan_options_t), 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0}
";

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_header_is_what_the_sources_say() {
        let committed = std::fs::read_to_string(super::path()).unwrap();
        let made = super::header().unwrap();
        assert!(committed == made, "include/isotherm.h is stale: run cargo run -p isotherm-header");
    }
}
