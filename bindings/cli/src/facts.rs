//! `info`, `stats` and `flush`.

use serde_json::{Value, json};

use crate::args::{Flush, Global};
use crate::failure::Outcome;
use crate::output::{print, print_json, table};
use crate::owner::with_owner;
use crate::session::Access;

/// `info` and `stats`, by the name of the request.
pub fn show(global: &Global, request: &str, as_json: bool) -> Outcome {
    with_owner(global, Access::Reading, |owner| {
        let facts = owner.ask(&json!({ "request": request }))?;
        if as_json { print_json(&facts) } else { print(&facts_text(&facts)) }
    })
}

/// `flush [BUCKET]`.
pub fn flush(global: &Global, flush: &Flush) -> Outcome {
    with_owner(global, Access::Existing, |owner| {
        let request = match &flush.bucket {
            Some(bucket) => json!({ "request": "flush", "bucket": bucket }),
            None => json!({ "request": "flush" }),
        };
        owner.ask(&request).map(drop)
    })
}

/// A line for each fact: its path in the answer, and the value. What there is not is left out.
fn facts_text(facts: &Value) -> String {
    let mut rows = Vec::new();
    add_rows(&mut rows, "", facts);
    table(&rows)
}

fn add_rows(rows: &mut Vec<Vec<String>>, path: &str, value: &Value) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| add_rows(rows, &below(name), value));
        }
        Value::Array(values) => {
            for (number, value) in values.iter().enumerate() {
                add_rows(rows, &below(&number.to_string()), value);
            }
        }
        Value::String(text) => rows.push(vec![path.to_owned(), text.clone()]),
        Value::Number(number) if number.is_f64() => {
            rows.push(vec![path.to_owned(), format!("{:.3}", number.as_f64().unwrap_or(0.0))]);
        }
        other => rows.push(vec![path.to_owned(), other.to_string()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_has_a_line_with_its_path() {
        let facts = json!({"a": 1, "b": {"c": "text", "d": null}, "e": [{"f": true}, 0.25]});
        let text = facts_text(&facts);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [["a", "1"], ["b.c", "text"], ["e.0.f", "true"], ["e.1", "0.250"]]);
    }
}
