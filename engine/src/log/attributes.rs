//! The attributes of a blob: values under names, and the score that its user gives it.
//!
//! They stand in one block of bytes, the same on disk and in memory: bounded, with one way only to
//! say a thing, so that a block is valid if it is what would be written of what it says.

use std::cmp::Ordering;
use std::fmt;

use super::codec::{Decoder, Encoder};
use super::map::Fault;
use crate::error::Result;
use crate::limits::{
    ATTRIBUTE_NAME_LEN_MAX, ATTRIBUTE_TEXT_LEN_MAX, ATTRIBUTES_LEN_MAX, ATTRIBUTES_MAX,
};

/// Bytes of a block before its values.
const BLOCK_HEADER_LEN: usize = 16;
/// Bytes of a value's fields before its name.
const VALUE_HEADER_LEN: usize = 4;
/// Flag of a block: there is a score.
const SCORED: u16 = 1;

const INTEGER: u8 = 1;
const FLOAT: u8 = 2;
const TEXT: u8 = 3;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// A number without fraction.
    Integer(i64),
    /// A number with one; not NaN, which has no place in an order.
    Float(f64),
    /// Text of at most 1 KiB.
    Text(String),
}

impl AttributeValue {
    /// The order of scans: numbers by what they are worth, of whichever type, then texts by their
    /// bytes.
    pub fn order(&self, other: &AttributeValue) -> Ordering {
        use AttributeValue::{Float, Integer, Text};
        match (self, other) {
            (Integer(a), Integer(b)) => a.cmp(b),
            (Float(a), Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Integer(a), Float(b)) => order_mixed(*a, *b),
            (Float(a), Integer(b)) => order_mixed(*b, *a).reverse(),
            (Text(a), Text(b)) => a.cmp(b),
            (Text(_), _) => Ordering::Greater,
            (_, Text(_)) => Ordering::Less,
        }
    }

    /// What keeps this from being stored, if anything.
    fn check(&self, name: &str) -> std::result::Result<(), Fault> {
        match self {
            AttributeValue::Float(value) if value.is_nan() => {
                Err(format!("attribute {name:?} is no number (NaN); give a number or remove it"))
            }
            AttributeValue::Text(text) if text.len() > ATTRIBUTE_TEXT_LEN_MAX => Err(format!(
                "the text of attribute {name:?} has {} bytes, at most {ATTRIBUTE_TEXT_LEN_MAX} are allowed",
                text.len()
            )),
            _ => Ok(()),
        }
    }

    fn encode(&self, out: &mut Encoder<'_>, name: &str) {
        let (kind, bytes) = match self {
            AttributeValue::Integer(value) => (INTEGER, value.to_le_bytes().to_vec()),
            AttributeValue::Float(value) => (FLOAT, value.to_bits().to_le_bytes().to_vec()),
            AttributeValue::Text(text) => (TEXT, text.clone().into_bytes()),
        };
        out.u8(name.len() as u8);
        out.u8(kind);
        out.len16(bytes.len());
        out.bytes(name.as_bytes());
        out.bytes(&bytes);
    }

    fn decode(kind: u8, bytes: &[u8]) -> Option<AttributeValue> {
        Some(match kind {
            INTEGER => AttributeValue::Integer(i64::from_le_bytes(bytes.try_into().ok()?)),
            FLOAT => {
                let bits = u64::from_le_bytes(bytes.try_into().ok()?);
                AttributeValue::Float(f64::from_bits(bits))
            }
            TEXT => AttributeValue::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
            _ => return None,
        })
    }
}

/// An integer against a float. Rounding the integer decides unless it makes the two equal; then the
/// float has no fraction, and both fit a larger integer.
fn order_mixed(integer: i64, float: f64) -> Ordering {
    match (integer as f64).partial_cmp(&float) {
        Some(Ordering::Equal) | None => i128::from(integer).cmp(&(float as i128)),
        Some(order) => order,
    }
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttributeValue::Integer(value) => value.fmt(f),
            // So that it reads as one, also without a fraction.
            AttributeValue::Float(value) => write!(f, "{value:?}"),
            AttributeValue::Text(text) => text.fmt(f),
        }
    }
}

impl From<i64> for AttributeValue {
    fn from(value: i64) -> AttributeValue {
        AttributeValue::Integer(value)
    }
}

impl From<f64> for AttributeValue {
    fn from(value: f64) -> AttributeValue {
        AttributeValue::Float(value)
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> AttributeValue {
        AttributeValue::Text(text.to_owned())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> AttributeValue {
        AttributeValue::Text(text)
    }
}

/// What is wrong with an attribute, if anything.
pub fn check_attribute(name: &str, value: &AttributeValue) -> std::result::Result<(), Fault> {
    check_attribute_name(name)?;
    value.check(name)
}

/// What is wrong with an attribute's name, if anything.
pub fn check_attribute_name(name: &str) -> std::result::Result<(), Fault> {
    match name.len() {
        1..=ATTRIBUTE_NAME_LEN_MAX => Ok(()),
        len => Err(format!(
            "an attribute's name has 1 to {ATTRIBUTE_NAME_LEN_MAX} bytes, this one has {len}"
        )),
    }
}

/// What is wrong with a score, if anything.
pub fn check_score(score: f32) -> std::result::Result<(), Fault> {
    match (0.0..=1.0).contains(&score) {
        true => Ok(()),
        false => Err(format!("a score is a number from 0 to 1, not {score}")),
    }
}

/// All attributes of a blob, and its score: at least one of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attributes {
    block: Box<[u8]>,
}

/// What a block says.
pub type AttributeList = Vec<(String, AttributeValue)>;

impl Attributes {
    /// Of these values, ascending by name, each name once. `None` if there is nothing to say.
    pub fn new(
        score: Option<f32>,
        values: &[(String, AttributeValue)],
    ) -> std::result::Result<Option<Attributes>, Fault> {
        if score.is_none() && values.is_empty() {
            return Ok(None);
        }
        score.map_or(Ok(()), check_score)?;
        values.iter().try_for_each(|(name, value)| check_attribute(name, value))?;
        if let Some(pair) = values.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("attribute {:?} precedes {:?}", pair[0].0, pair[1].0));
        }
        if values.len() > ATTRIBUTES_MAX {
            let count = values.len();
            return Err(format!("{count} attributes; a blob has at most {ATTRIBUTES_MAX}"));
        }
        let block = encode(score, values);
        if block.len() > ATTRIBUTES_LEN_MAX {
            return Err(format!(
                "the attributes take {} bytes; those of a blob take at most {ATTRIBUTES_LEN_MAX}",
                block.len()
            ));
        }
        Ok(Some(Attributes { block: block.into() }))
    }

    /// Bytes of the block, a multiple of 8.
    pub fn encoded_len(&self) -> usize {
        self.block.len()
    }

    pub(super) fn encode(&self, out: &mut Encoder<'_>) {
        out.bytes(&self.block);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<Attributes> {
        let len = input.u32("attributes.length")? as usize;
        if !(BLOCK_HEADER_LEN..=ATTRIBUTES_LEN_MAX).contains(&len) {
            return Err(input.corrupt(format!("attributes of {len} bytes")));
        }
        let rest = input.bytes(len - 4, "attributes")?;
        let block = [&(len as u32).to_le_bytes(), rest].concat().into_boxed_slice();
        let found = Attributes { block };
        let Some(values) = found.parse() else {
            return Err(input.corrupt("attributes that say nothing"));
        };
        match Attributes::new(found.score(), &values) {
            Ok(Some(same)) if same == found => Ok(found),
            Ok(_) => Err(input.corrupt("attributes are not as they are written")),
            Err(fault) => Err(input.corrupt(fault)),
        }
    }

    /// The user's score.
    pub fn score(&self) -> Option<f32> {
        let bits = self.block.get(8..)?.first_chunk::<4>()?;
        let is_scored = self.field(6)? & SCORED != 0;
        is_scored.then(|| f32::from_bits(u32::from_le_bytes(*bits)))
    }

    /// How many attributes, the score apart.
    pub fn count(&self) -> usize {
        usize::from(self.field(4).unwrap_or(0))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<AttributeValue> {
        let found = self.raw().find(|raw| raw.name == name.as_bytes())?;
        AttributeValue::decode(found.kind, found.value)
    }

    /// All of them, ascending by name.
    pub fn list(&self) -> AttributeList {
        self.parse().unwrap_or_default()
    }

    fn field(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(*self.block.get(at..)?.first_chunk()?))
    }

    fn raw(&self) -> RawValues<'_> {
        let rest = self.block.get(BLOCK_HEADER_LEN..).unwrap_or_default();
        RawValues { rest, left: self.count() }
    }

    /// `None` if the block says less than it announces.
    fn parse(&self) -> Option<AttributeList> {
        let values = self.raw().map(|raw| {
            let name = std::str::from_utf8(raw.name).ok()?;
            Some((name.to_owned(), AttributeValue::decode(raw.kind, raw.value)?))
        });
        let values = values.collect::<Option<AttributeList>>()?;
        (values.len() == self.count()).then_some(values)
    }
}

/// A value as it stands in a block.
struct RawValue<'a> {
    name: &'a [u8],
    kind: u8,
    value: &'a [u8],
}

/// The values of a block; ends early where it is damaged.
struct RawValues<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for RawValues<'a> {
    type Item = RawValue<'a>;

    fn next(&mut self) -> Option<RawValue<'a>> {
        self.left = self.left.checked_sub(1)?;
        let ([name_len, kind, len @ ..], rest) =
            self.rest.split_first_chunk::<VALUE_HEADER_LEN>()?;
        let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
        let len = usize::from(u16::from_le_bytes(*len));
        let (value, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(RawValue { name, kind: *kind, value })
    }
}

fn encode(score: Option<f32>, values: &[(String, AttributeValue)]) -> Vec<u8> {
    let mut block = Vec::new();
    let mut out = Encoder::new(&mut block);
    out.u32(0);
    out.len16(values.len());
    out.u16(if score.is_some() { SCORED } else { 0 });
    out.u32(score.map_or(0, f32::to_bits));
    out.u32(0);
    values.iter().for_each(|(name, value)| value.encode(&mut out, name));
    out.pad_to_8();
    let len = block.len() as u32;
    block[..4].copy_from_slice(&len.to_le_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_worth_whatever_their_type_and_come_before_texts() {
        use AttributeValue::{Float, Integer};
        let near = (1i64 << 53) + 1;
        let ascending = [
            Float(f64::NEG_INFINITY),
            Integer(i64::MIN),
            Float(-1.5),
            Integer(-1),
            Float(0.0),
            Integer(1),
            Float((1i64 << 53) as f64),
            Integer(near),
            Integer(i64::MAX),
            Float(i64::MAX as f64),
            Float(f64::INFINITY),
            "".into(),
            "a".into(),
        ];
        for (at, value) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                assert_eq!(value.order(other), at.cmp(&other_at), "{value:?}, {other:?}");
            }
        }
        assert_eq!(Integer(3).order(&Float(3.0)), Ordering::Equal);
    }

    #[test]
    fn what_exceeds_a_bound_is_refused_by_name() {
        let refused = |score, values: &[(String, AttributeValue)], says: &str| {
            let fault = Attributes::new(score, values).unwrap_err();
            assert!(fault.contains(says), "{fault}");
        };
        let one = |name: &str, value: AttributeValue| [(name.to_owned(), value)];
        refused(None, &one("", 1.into()), "this one has 0");
        refused(None, &one(&"n".repeat(65), 1.into()), "this one has 65");
        refused(None, &one("x", f64::NAN.into()), "\"x\" is no number");
        refused(None, &one("x", "t".repeat(1025).into()), "1025 bytes");
        refused(Some(1.5), &[], "not 1.5");
        refused(Some(f32::NAN), &[], "not NaN");
        let many: Vec<_> = (10..75).map(|n| (n.to_string(), n.into())).collect();
        refused(None, &many, "65 attributes");
        let long: Vec<_> = (0..4).map(|n| (n.to_string(), "t".repeat(1024).into())).collect();
        refused(None, &long, "at most 4096");
        assert_eq!(Attributes::new(None, &[]), Ok(None));
    }

    #[test]
    fn a_block_says_what_it_was_made_of() {
        let values: AttributeList =
            vec![("a".into(), (-5).into()), ("b".into(), 2.5.into()), ("ä".into(), "text".into())];
        let block = Attributes::new(Some(0.25), &values).unwrap().unwrap();
        assert_eq!((block.score(), block.count()), (Some(0.25), 3));
        assert_eq!(block.list(), values);
        assert_eq!(block.get("ä"), Some("text".into()));
        assert_eq!(block.get("c"), None);
        assert!(block.encoded_len().is_multiple_of(8));
        let unscored = Attributes::new(None, &values[..1]).unwrap().unwrap();
        assert_eq!(unscored.score(), None);
    }
}
