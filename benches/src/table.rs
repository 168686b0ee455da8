//! The report: one Markdown table per section.

use std::fmt::Write;

use crate::rounds::Figures;

/// What a rate is shown as.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Thousands of operations per second.
    Operations,
    /// Gigabytes per second, of operations of so many bytes.
    Bytes(u64),
}

/// A ratio to reach.
#[derive(Clone, Debug)]
pub struct Goal {
    /// Against whom: a contender's name.
    pub against: String,
    /// Least ratio.
    pub at_least: f64,
}

/// One row: the first figures are isotherm's.
pub struct Row {
    /// What is done.
    pub what: String,
    /// How rates are shown.
    pub unit: Unit,
    /// Of every contender.
    pub figures: Vec<Figures>,
    /// What isotherm should reach.
    pub goal: Option<Goal>,
}

/// A figure that stands alone.
pub struct Fact {
    /// What it is.
    pub what: String,
    /// The figure.
    pub value: String,
    /// What it should be.
    pub goal: String,
    /// Whether it is.
    pub met: bool,
}

/// Rows with the same contenders.
#[derive(Default)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// How it was measured.
    pub note: String,
    /// Its rows.
    pub rows: Vec<Row>,
    /// Figures without a peer.
    pub facts: Vec<Fact>,
}

impl Section {
    /// An empty one.
    pub fn new(title: &str, note: impl Into<String>) -> Section {
        Section { title: title.to_owned(), note: note.into(), ..Section::default() }
    }

    /// The section as Markdown; nothing if nothing was measured.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        if self.rows.is_empty() && self.facts.is_empty() {
            return text;
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "### {}\n\n{}\n", self.title, self.note);
        if !self.rows.is_empty() {
            self.write_rows(&mut text);
        }
        if !self.facts.is_empty() {
            text.push_str("| what | measured | goal | |\n|---|---|---|---|\n");
            for fact in &self.facts {
                let Fact { what, value, goal, met } = fact;
                let _ = writeln!(text, "| {what} | {value} | {goal} | {} |", verdict(*met));
            }
            text.push('\n');
        }
        text
    }

    fn write_rows(&self, text: &mut String) {
        let mut names: Vec<&str> = Vec::new();
        for figures in self.rows.iter().flat_map(|row| &row.figures) {
            if !names.contains(&figures.name.as_str()) {
                names.push(&figures.name);
            }
        }
        let ratios: Vec<String> = names[1..].iter().map(|name| format!("/ {name}")).collect();
        let _ = writeln!(text, "| | {} | {} | goal | |", names.join(" | "), ratios.join(" | "));
        let _ = writeln!(text, "|---|{}---|---|", "---|".repeat(names.len() + ratios.len()));
        for row in &self.rows {
            let find = |name: &str| row.figures.iter().find(|figures| figures.name == name);
            let cells =
                names.iter().map(|name| find(name).map_or("-".into(), |f| cell(row.unit, f)));
            let ratio = |name: &&str| match find(name) {
                Some(other) => format!("**{:.2}**", row.figures[0].ratio_to(other)),
                None => "-".into(),
            };
            let cells: Vec<String> = cells.chain(names[1..].iter().map(ratio)).collect();
            let goal = row.goal.as_ref().and_then(|goal| {
                let reached = row.figures[0].ratio_to(find(&goal.against)?);
                let met = verdict(reached >= goal.at_least);
                Some(format!(">= {:.1} of {} | {met}", goal.at_least, goal.against))
            });
            let goal = goal.unwrap_or("- | ".into());
            let _ = writeln!(text, "| {} | {} | {goal} |", row.what, cells.join(" | "));
        }
        text.push('\n');
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**not met**" }
}

fn cell(unit: Unit, figures: &Figures) -> String {
    let (median, least, most) = figures.rates();
    let mut text = match unit {
        Unit::Operations => {
            let digits = if median < 100e3 { 1 } else { 0 };
            format!(
                "{:.digits$} K/s ({:.digits$}-{:.digits$})",
                median / 1e3,
                least / 1e3,
                most / 1e3
            )
        }
        Unit::Bytes(len) => {
            let scale = len as f64 / 1e9;
            format!("{:.2} GB/s ({:.2}-{:.2})", median * scale, least * scale, most * scale)
        }
    };
    // Writing to a string does not fail.
    if let Some(cpu) = figures.cpu_us() {
        let _ = write!(text, ", cpu {}", micros(cpu));
    }
    if let Some(p50) = figures.p50_us() {
        let _ = write!(text, ", p50 {}", micros(p50));
    }
    text
}

fn micros(value: f64) -> String {
    let digits = if value < 1.0 {
        3
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$} us")
}
