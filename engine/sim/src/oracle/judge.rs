//! Whether a store that came back may show what it shows.

use std::collections::BTreeMap;

use isotherm::Durability;

use crate::oracle::{End, Found, Key, KeyId, Oracle, Step, brief};

impl Oracle {
    /// Whether a store may show this after such an end.
    pub fn check(&self, found: &[Found], end: End) -> Result<(), String> {
        let mut shown = Vec::with_capacity(self.keys.len());
        for (key, found) in self.keys.iter().zip(found) {
            shown.push(key.matching(found, end)?);
        }
        self.check_prefix(&shown)?;
        self.check_together(&shown)
    }

    /// Whether a store over damaged devices may show this after a clean close: what it shows must be
    /// right, or it must say that it cannot tell.
    pub fn check_damaged(&self, found: &[Found]) -> Result<(), String> {
        for (key, found) in self.keys.iter().zip(found) {
            if let Found::Value(_) = found {
                key.matching(found, End::PowerCut)?;
            }
        }
        Ok(())
    }

    fn check_prefix(&self, shown: &[(usize, usize)]) -> Result<(), String> {
        let began = |(number, (oldest, _)): (KeyId, &(usize, usize))| {
            (self.keys[number].step(*oldest).began, number)
        };
        let Some((latest, witness)) = shown.iter().enumerate().map(began).max() else {
            return Ok(());
        };
        for (key, (_, newest)) in self.keys.iter().zip(shown) {
            let owed = key.steps.iter().rposition(|step| {
                let promised = step.level > Durability::Memory;
                promised && step.acknowledged.is_some_and(|at| at < latest)
            });
            let owed = key.forgotten + owed.unwrap_or(0);
            if *newest < owed {
                return Err(format!(
                    "{} lacks step {owed}, acknowledged before the change of {} began that is there: \
                     what came back is no prefix\n{}",
                    key.name,
                    self.keys[witness].name,
                    key.describe(),
                ));
            }
        }
        Ok(())
    }

    fn check_together(&self, shown: &[(usize, usize)]) -> Result<(), String> {
        // Of each change: a key that certainly lacks it, and one that certainly shows it.
        let mut sides: BTreeMap<u64, (Option<KeyId>, Option<KeyId>)> = BTreeMap::new();
        for (number, (key, (oldest, newest))) in self.keys.iter().zip(shown).enumerate() {
            for (at, step) in key.steps.iter().enumerate().filter(|(_, step)| step.op > 0) {
                let at = key.forgotten + at;
                let (lacks, shows) = sides.entry(step.op).or_default();
                if *newest < at {
                    *lacks = Some(number);
                } else if *oldest >= at {
                    *shows = Some(number);
                }
            }
        }
        for (op, sides) in sides {
            if let (Some(lacks), Some(shows)) = sides {
                return Err(format!(
                    "half of change {op}: {} shows it and {} does not\n{}\n{}",
                    self.keys[shows].name,
                    self.keys[lacks].name,
                    self.keys[shows].describe(),
                    self.keys[lacks].describe(),
                ));
            }
        }
        Ok(())
    }
}

impl Key {
    /// The oldest and the newest step that look like what was found.
    fn matching(&self, found: &Found, end: End) -> Result<(usize, usize), String> {
        let value = match found {
            Found::Value(value) => value,
            Found::Error(error) => return Err(format!("{} cannot be read: {error}", self.name)),
        };
        let floor = self.floor(end);
        let is_it = |step: &Step| step.value == *value;
        let from = &self.steps[floor - self.forgotten..];
        match (from.iter().position(is_it), from.iter().rposition(is_it)) {
            (Some(oldest), Some(newest)) => Ok((floor + oldest, floor + newest)),
            _ => Err(format!(
                "{} shows {} after {end:?}, {}\n{}",
                self.name,
                brief(value),
                match self.steps.iter().rposition(is_it) {
                    Some(at) => format!(
                        "which is step {}: older than step {floor}, which was promised",
                        self.forgotten + at
                    ),
                    None => "which it never held, or not since what was promised".to_owned(),
                },
                self.describe(),
            )),
        }
    }

    fn describe(&self) -> String {
        let lines: Vec<String> = (self.steps.iter().enumerate())
            .map(|(at, step)| {
                let Step { op, level, acknowledged, value, .. } = step;
                let at = self.forgotten + at;
                format!("    step {at}: change {op}, {level:?}, {acknowledged:?}, {}", brief(value))
            })
            .collect();
        let Key { name, kill_floor, power_floor, trail, .. } = self;
        let trail: Vec<&str> = trail.iter().map(String::as_str).collect();
        format!(
            "  {name}: floors {kill_floor} and {power_floor}\n{}\n    its last changes: {}",
            lines.join("\n"),
            trail.join("; "),
        )
    }
}
