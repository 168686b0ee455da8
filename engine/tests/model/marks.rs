//! What a blob carries beside its value: its attributes and its score.

use std::collections::BTreeMap;

use isotherm::{AttributeChanges, AttributeValue};

use crate::support::rng::Rng;

/// Names of attributes; some blobs have some of them.
pub const NAMES: [&str; 5] = ["rank", "weight", "ä", "name", "a name longer than the others are"];

/// What a blob must carry.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Marks {
    pub values: BTreeMap<&'static str, AttributeValue>,
    pub score: Option<f32>,
}

/// Changes of them that are made together.
#[derive(Clone, Debug)]
pub struct MarkChanges {
    values: BTreeMap<&'static str, Option<AttributeValue>>,
    score: Option<Option<f32>>,
}

impl MarkChanges {
    /// Sets and removes a few; values repeat, so that some of it changes nothing.
    pub fn draw(rng: &mut Rng) -> MarkChanges {
        let count = rng.below(4) as usize;
        let value = |rng: &mut Rng| (!rng.one_in(3)).then(|| draw_value(rng));
        let values = (0..count).map(|_| (rng.pick(&NAMES), value(rng))).collect();
        let score = match rng.below(4) {
            0 => Some(None),
            1 => Some(Some(rng.below(11) as f32 / 10.0)),
            _ => None,
        };
        MarkChanges { values, score }
    }

    pub fn for_engine(&self) -> AttributeChanges {
        let mut changes = AttributeChanges::new();
        for (name, value) in &self.values {
            changes = match value {
                Some(value) => changes.set(name, value.clone()),
                None => changes.remove(name),
            };
        }
        match self.score {
            Some(score) => changes.score(score),
            None => changes,
        }
    }

    pub fn apply_to(&self, before: &Marks) -> Marks {
        let mut after = before.clone();
        for (name, value) in &self.values {
            match value {
                Some(value) => drop(after.values.insert(name, value.clone())),
                None => drop(after.values.remove(name)),
            }
        }
        after.score = self.score.unwrap_or(after.score);
        after
    }
}

/// Few different ones: scans meet equal values.
pub fn draw_value(rng: &mut Rng) -> AttributeValue {
    match rng.below(4) {
        0 => AttributeValue::Integer(rng.below(12) as i64 - 6),
        1 => AttributeValue::Float(rng.below(24) as f64 / 2.0 - 6.0),
        2 => AttributeValue::Text(format!("text {}", rng.below(12))),
        _ => AttributeValue::Text("t".repeat(rng.log_uniform(300) as usize)),
    }
}
