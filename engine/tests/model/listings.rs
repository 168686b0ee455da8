//! Listings against the model. Others' keys come and go meanwhile.

use std::cmp::Ordering;

use isotherm::{AttributeItem, AttributeValue, Order, ScanRange};

use crate::caller::Caller;
use crate::kinds::Kind;
use crate::marks::{NAMES, draw_value};
use crate::session::Session;

impl Caller {
    pub fn list(&mut self, session: &Session, part: usize) {
        let page = 1 + self.rng.log_uniform(500) as usize;
        match self.rng.below(12) {
            0 => self.compare_listing(part, ScanRange::all(), page, |_| true),
            1 => self.compare_buckets(session),
            2 => self.compare_listing(part, ScanRange::prefix([self.id]), page, |_| true),
            3 | 4 => {
                let prefix = [self.id, self.rng.below(7) as u8 * 0x2A];
                let range = ScanRange::prefix(prefix);
                self.compare_listing(part, range, page, |key| key.starts_with(&prefix));
            }
            5..8 => self.compare_listing_by(part, page),
            _ => {
                let universe = &self.parts[part].universe;
                let from = universe[self.rng.below(universe.len() as u64) as usize].clone();
                let to = universe[self.rng.below(universe.len() as u64) as usize].clone();
                let inside = |key: &[u8]| *key >= *from && *key < *to;
                self.compare_listing(part, ScanRange::range(&from, &to), page, inside);
            }
        }
    }

    /// A scan by pages of this size.
    pub fn compare_listing(
        &mut self,
        part: usize,
        range: ScanRange,
        page: usize,
        inside: impl Fn(&[u8]) -> bool,
    ) {
        self.kinds.count(Kind::Scan);
        let mut cursor = self.bucket(part).scan(range.clone());
        let mut found = Vec::new();
        loop {
            let items = cursor.next_page(page).unwrap();
            assert!(items.len() <= page, "a page of {} when asked for {page}", items.len());
            if items.is_empty() {
                break;
            }
            found.extend(items);
        }
        let name = &self.parts[part].name;
        let ascending = found.windows(2).all(|pair| pair[0].key < pair[1].key);
        assert!(ascending, "scan of {name} over {range:?}: out of order or twice");
        found.retain(|item| item.key[0] == self.id);
        let model: Vec<(&[u8], u64)> = (self.parts[part].blobs.iter())
            .filter(|(key, _)| inside(key))
            .map(|(key, blob)| (&key[..], blob.content.len()))
            .collect();
        let listed: Vec<(&[u8], u64)> = found.iter().map(|item| (&*item.key, item.len)).collect();
        if listed != model {
            let wrong = listed.iter().find(|item| !model.contains(item));
            let missing = model.iter().find(|item| !listed.contains(item));
            let about = missing.or(wrong).map(|(key, _)| self.describe(part, key));
            panic!(
                "scan of {name} over {range:?} has {} blobs, not {}; missing {missing:?}, wrong {wrong:?}: {}",
                listed.len(),
                model.len(),
                about.unwrap_or_default()
            );
        }
        for item in found {
            self.parts[part].observe(&item.key, item.version);
        }
    }

    /// A scan by an attribute, from some value on.
    fn compare_listing_by(&mut self, part: usize, page: usize) {
        self.kinds.count(Kind::ScanByAttribute);
        let name = self.rng.pick(&NAMES);
        let order = self.rng.pick(&[Order::Ascending, Order::Descending]);
        let from = self.rng.one_in(2).then(|| draw_value(&mut self.rng));
        let bucket = self.bucket(part);
        let mut cursor = match &from {
            Some(from) => bucket.scan_by(name, from.clone().., order),
            None => bucket.scan_by(name, .., order),
        }
        .unwrap();
        let mut found: Vec<AttributeItem> = Vec::new();
        loop {
            let items = cursor.next_page(page).unwrap();
            if items.is_empty() {
                break;
            }
            found.extend(items);
        }
        found.retain(|item| item.key[0] == self.id);
        let mut model: Vec<(AttributeValue, Vec<u8>, u64)> = (self.parts[part].blobs.iter())
            .filter_map(|(key, blob)| {
                let value = blob.marks.values.get(name)?;
                let inside =
                    from.as_ref().is_none_or(|from| by_worth(value, from) != Ordering::Less);
                inside.then(|| (value.clone(), key.clone(), blob.content.len()))
            })
            .collect();
        model.sort_by(|a, b| by_worth(&a.0, &b.0).then_with(|| a.1.cmp(&b.1)));
        if order == Order::Descending {
            model.reverse();
        }
        let listed: Vec<(AttributeValue, Vec<u8>, u64)> =
            found.into_iter().map(|item| (item.value, item.key.to_vec(), item.len)).collect();
        assert!(
            listed == model,
            "scan of {} by {name} from {from:?}, {order:?}: {} blobs, not {}: {listed:?}, {model:?}",
            self.parts[part].name,
            listed.len(),
            model.len()
        );
    }

    fn compare_buckets(&mut self, session: &Session) {
        self.kinds.count(Kind::ListBuckets);
        let listed = session.store.list_buckets().unwrap();
        assert!(listed.windows(2).all(|pair| pair[0].name < pair[1].name), "{listed:?}");
        for part in &self.parts {
            let info = listed.iter().find(|info| info.name == part.name);
            let Some(info) = info else { panic!("bucket {} is not listed", part.name) };
            if part.private {
                assert_eq!((info.bytes, info.blobs), part.used(), "bucket {}", part.name);
            }
        }
    }
}

/// Numbers by what they are worth, then texts.
fn by_worth(a: &AttributeValue, b: &AttributeValue) -> Ordering {
    use AttributeValue::{Float, Integer, Text};
    let worth = |value: &AttributeValue| match value {
        Integer(number) => Some(*number as f64),
        Float(number) => Some(*number),
        Text(_) => None,
    };
    match (a, b) {
        (Text(a), Text(b)) => a.cmp(b),
        (Text(_), _) => Ordering::Greater,
        (_, Text(_)) => Ordering::Less,
        _ => worth(a).partial_cmp(&worth(b)).unwrap(),
    }
}
