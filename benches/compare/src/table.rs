//! The report: Markdown tables, one for each kind of damage, one row for each engine.

use std::fmt::Write;

use crate::bitflip::Row;
use crate::damage::Kind;
use crate::image::SECTOR;
use crate::pairs::PAIRS;
use crate::verdict::Verdict;

const SECTIONS: [(&str, &[Kind]); 3] = [
    ("One bit flipped", &[Kind::Bit]),
    ("One sector zeroed or random, or two swapped", &[Kind::Zeros, Kind::Noise, Kind::Swap]),
    ("A file cut short", &[Kind::Cut]),
];

/// The report on these engines.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = format!("{PAIRS} pairs; sectors of {SECTOR} bytes.\n\n");
    for (title, kinds) in SECTIONS {
        write_section(&mut text, title, kinds, rows);
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "| engine | version | files | KiB in use | settings |");
    let _ = writeln!(text, "|---|---|---|---|---|");
    for Row { title, version, files, bytes_used, note, .. } in rows {
        let kib = bytes_used >> 10;
        let _ = writeln!(text, "| {title} | {version} | {files} | {kib} | {note} |");
    }
    text
}

fn write_section(text: &mut String, title: &str, kinds: &[Kind], rows: &[Row]) {
    let headings: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.heading()).collect();
    // Writing to a string does not fail.
    let _ = writeln!(text, "### {title}\n");
    let _ = writeln!(text, "| engine | stores | {} | most keys refused |", headings.join(" | "));
    let _ = writeln!(text, "|---|---|{}---|", "---|".repeat(headings.len()));
    for row in rows {
        let counts = Verdict::ALL.map(|verdict| row.count(kinds, verdict));
        let stores: u64 = counts.iter().sum();
        let cells: Vec<String> = counts.iter().map(u64::to_string).collect();
        let (cells, refused) = (cells.join(" | "), row.refused_max(kinds));
        let _ = writeln!(text, "| {} | {stores} | {cells} | {refused} |", row.title);
    }
    text.push('\n');
}
