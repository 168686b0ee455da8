//! `top`: what a store does, second by second.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::Outcome;
use crate::output::{human_size, print, print_json, table};
use crate::owner::with_owner;
use crate::session::Access;

/// What rates are taken over.
const INTERVAL: Duration = Duration::from_secs(1);
/// Puts the cursor at the top and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// `top`. On a terminal until it is interrupted; elsewhere, and as JSON, once.
pub fn top(global: &Global, as_json: bool) -> Outcome {
    let again_and_again = io::stdout().is_terminal() && !as_json;
    with_owner(global, Access::Reading, |owner| {
        let request = json!({ "request": "top" });
        owner.ask(&request)?;
        loop {
            thread::sleep(INTERVAL);
            let rates = owner.ask(&request)?;
            if as_json {
                return print_json(&rates);
            }
            if !again_and_again {
                return print(&text(&rates));
            }
            print(&format!("{CLEAR}{}", text(&rates)))?;
        }
    })
}

fn text(rates: &Value) -> String {
    let memory = &rates["memory"];
    let bytes = |value: &Value| human_size(value.as_u64().unwrap_or_default());
    let mut text = format!(
        "gets {}/s, {}/s from DRAM, {}/s\nputs {}/s, {}/s; batches of the log {}/s\n",
        count(&rates["gets_per_second"]),
        count(&rates["dram_hits_per_second"]),
        size(&rates["get_bytes_per_second"]),
        count(&rates["puts_per_second"]),
        size(&rates["put_bytes_per_second"]),
        count(&rates["batches_per_second"]),
    );
    text.push_str(&format!(
        "DRAM {} of {}, dirty {}; index {}; {} blobs\n\n",
        bytes(&memory["dram_used"]),
        bytes(&memory["dram_capacity"]),
        bytes(&memory["dram_dirty"]),
        bytes(&memory["index"]),
        rates["blobs"],
    ));
    text.insert_str(text.len() - 1, &scrub_text(rates));
    let header =
        ["tier", "used", "live", "reads/s", "read/s", "writes/s", "written/s", "flushes/s"];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    for tier in rates["tiers"].as_array().into_iter().flatten() {
        rows.push(vec![
            tier["tier"].as_str().unwrap_or_default().to_owned(),
            bytes(&tier["used"]),
            bytes(&tier["live"]),
            count(&tier["reads_per_second"]),
            size(&tier["read_bytes_per_second"]),
            count(&tier["writes_per_second"]),
            size(&tier["written_bytes_per_second"]),
            count(&tier["flushes_per_second"]),
        ]);
    }
    text.push_str(&table(&rows));
    text
}

/// Nothing while the scrub rests and nothing is known to be damaged.
fn scrub_text(rates: &Value) -> String {
    let mut text = String::new();
    if rates["scrubbed_bytes_per_second"].as_f64().is_some_and(|rate| rate > 0.0) {
        text.push_str(&format!("scrub {}/s\n", size(&rates["scrubbed_bytes_per_second"])));
    }
    match rates["quarantined_buffers"].as_u64() {
        None | Some(0) => {}
        Some(damaged) => {
            text.push_str(&format!("{damaged} damaged buffers; check tells which\n"));
        }
    }
    text
}

fn count(rate: &Value) -> String {
    format!("{:.0}", rate.as_f64().unwrap_or_default())
}

fn size(rate: &Value) -> String {
    human_size(rate.as_f64().unwrap_or_default() as u64)
}
