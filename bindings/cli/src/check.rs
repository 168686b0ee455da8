//! `check`: every buffer and extent page against its checksum, while the store is in use.

use serde_json::{Value, json};

use crate::args::{Check, Global};
use crate::failure::{Failure, Outcome};
use crate::output::{human_size, print, print_json, printable, table};
use crate::owner::{Owner, with_owner};
use crate::progress::Progress;
use crate::session::Access;

/// `check`. An error if anything is wrong.
pub fn check(global: &Global, check: &Check) -> Outcome {
    let mut request = json!({ "request": "check" });
    if let Some(rate) = &check.rate {
        let usage = |error: isotherm::Error| Failure::Usage(format!("--rate: {}", error.message()));
        let rate = isotherm::config::values::parse_size(rate).map_err(usage)?;
        request["bytes_per_second"] = json!(rate);
    }
    with_owner(global, Access::Reading, |owner| {
        let report = ask(owner, &request)?;
        if check.json {
            print_json(&report)?
        } else {
            print(&report_text(&report))?
        }
        match report["clean"].as_bool() {
            Some(true) => Ok(()),
            _ => Err(Failure::Other(verdict(&report))),
        }
    })
}

fn ask(owner: &mut Owner, request: &Value) -> Outcome<Value> {
    let mut bar: Option<Progress> = None;
    owner.ask_with_progress(request, &mut |done| {
        let bar =
            bar.get_or_insert_with(|| Progress::new("checking", done["bytes_total"].as_u64()));
        bar.advance(number(done, "bytes").saturating_sub(bar.done()));
    })
}

fn number(object: &Value, field: &str) -> u64 {
    object[field].as_u64().unwrap_or_default()
}

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object[field].as_array().map_or(&[], Vec::as_slice)
}

fn verdict(report: &Value) -> String {
    let structures = number(&report["structures"], "fault_count");
    match (number(report, "fault_count"), list(report, "miscounts").len()) {
        (0, _) if structures > 0 => {
            format!(
                "{structures} faults in what the engine keeps for itself; an open store mends them"
            )
        }
        (0, 0) => "the check did not come to its end; run it again".to_owned(),
        (0, miscounts) => format!("{miscounts} segments are miscounted; reopen the store"),
        (faults, _) => format!("{faults} faults; put the blobs again from another copy"),
    }
}

/// What was checked, then what is wrong.
fn report_text(report: &Value) -> String {
    let mut text = format!(
        "{} blobs in {} buckets: {} buffers and {} extent pages read, {}\n",
        number(report, "blobs"),
        number(report, "buckets"),
        number(report, "buffers"),
        number(report, "pages"),
        human_size(number(report, "bytes")),
    );
    let structures = &report["structures"];
    text.push_str(&format!(
        "{} superblocks, {} parts of checkpoints, {} batches of the log\n",
        number(structures, "superblocks"),
        number(structures, "checkpoint_parts"),
        number(structures, "batches"),
    ));
    for fault in list(structures, "faults") {
        text.push_str(&format!("{}\n", fault["message"].as_str().unwrap_or_default()));
    }
    match number(report, "in_memory") {
        0 => {}
        count => text.push_str(&format!("{count} buffers are on no device yet\n")),
    }
    if report["miscounts"].is_null() {
        text.push_str("live bytes were not counted anew: blobs were changing\n");
    }
    let faults = list(report, "faults");
    if !faults.is_empty() {
        text.push_str(&faults_text(faults));
        let more = number(report, "fault_count") - faults.len() as u64;
        if more > 0 {
            text.push_str(&format!("and {more} more\n"));
        }
    }
    for miscount in list(report, "miscounts") {
        text.push_str(&format!(
            "segment {} of tier {}: {} bytes counted, {} in use\n",
            number(miscount, "segment"),
            number(miscount, "tier"),
            number(miscount, "counted"),
            number(miscount, "found"),
        ));
    }
    text
}

fn faults_text(faults: &[Value]) -> String {
    let header = ["blob", "kind", "part", "tier", "device offset", "value offset"];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for fault in faults {
        let key = fault["key"].as_str().unwrap_or_default();
        let blob = format!("{}/{}", word(&fault["bucket"]), printable(key.as_bytes()));
        let others = ["kind", "part", "tier", "device_offset", "value_offset"];
        rows.push([vec![blob], others.map(|field| word(&fault[field])).to_vec()].concat());
    }
    table(&rows)
}
