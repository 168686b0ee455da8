//! `compact`: frees the space of what was removed.

use isotherm::CompactReport;
use isotherm::control::tier_name;
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::Outcome;
use crate::output::{human_size, print, print_json, table};
use crate::session::{Access, with_store};

/// `compact`.
pub fn run(global: &Global, json: bool) -> Outcome {
    with_store(global, Access::Existing, |store| {
        let report = store.compact()?;
        if json { print_json(&report_json(&report)) } else { print(&report_text(&report)) }
    })
}

fn report_text(report: &CompactReport) -> String {
    let mut rows = vec![["tier", "freed", "used"].map(str::to_string).to_vec()];
    for tier in &report.tiers {
        let name = tier_name(Some(tier.tier.index()), tier.kind);
        rows.push(vec![name, human_size(tier.freed), human_size(tier.used)]);
    }
    table(&rows)
}

fn report_json(report: &CompactReport) -> Value {
    let tier = |tier: &isotherm::CompactedTier| {
        json!({
            "tier": tier_name(Some(tier.tier.index()), tier.kind),
            "freed": tier.freed,
            "used": tier.used,
        })
    };
    json!({ "tiers": report.tiers.iter().map(tier).collect::<Vec<_>>() })
}
