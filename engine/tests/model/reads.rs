//! Reads of one blob, compared.

use isotherm::ErrorKind;

use crate::caller::Caller;
use crate::kinds::Kind;
use crate::marks::Marks;
use crate::session::{Session, failed};
use crate::support::content::Content;

impl Caller {
    pub async fn get(&mut self, session: &Session, part: usize, key: &[u8]) {
        self.kinds.count(Kind::Get);
        let got = session.get(&self.bucket(part), key).await;
        let Some(content) = self.parts[part].content(key) else {
            let got = got.map(|value| value.len());
            return self.require_failed(part, key, &got, ErrorKind::NotFound);
        };
        let value = match got {
            Ok(value) => value,
            Err(error) => panic!("get: {error}: {}", self.describe(part, key)),
        };
        assert_eq!(value.len() as u64, content.len(), "length: {}", self.describe(part, key));
        self.require_bytes(part, key, 0, &value);
    }

    pub async fn get_into(&mut self, session: &Session, part: usize, key: &[u8], room: u64) {
        self.kinds.count(Kind::GetInto);
        let mut data = std::mem::take(&mut self.data);
        data.resize(room as usize, 0);
        let got = session.get_into(&self.bucket(part), key, &mut data).await;
        match self.parts[part].content(key).map(Content::len) {
            None => self.require_failed(part, key, &got, ErrorKind::NotFound),
            Some(len) if len > room => {
                let told = got.as_ref().is_err_and(|error| error.needed() == Some(len));
                let small = failed(&got, ErrorKind::BufferTooSmall);
                assert!(told && small, "{got:?} of {len}: {}", self.describe(part, key));
            }
            Some(len) => {
                let right = got.as_ref().is_ok_and(|copied| *copied as u64 == len);
                assert!(right, "{got:?} of {len}: {}", self.describe(part, key));
                self.require_bytes(part, key, 0, &data[..len as usize]);
            }
        }
        self.data = data;
    }

    pub async fn get_at(&mut self, session: &Session, part: usize, key: &[u8], at: u64, len: u64) {
        self.kinds.count(Kind::GetAt);
        let mut data = std::mem::take(&mut self.data);
        data.resize(len as usize, 0);
        let got = session.get_at(&self.bucket(part), key, at, &mut data).await;
        match self.parts[part].content(key).map(Content::len) {
            None => self.require_failed(part, key, &got, ErrorKind::NotFound),
            Some(whole) => {
                let expected = len.min(whole.saturating_sub(at));
                let right = got.as_ref().is_ok_and(|copied| *copied as u64 == expected);
                assert!(right, "{got:?}, not {expected}: {}", self.describe(part, key));
                self.require_bytes(part, key, at, &data[..expected as usize]);
            }
        }
        self.data = data;
    }

    pub async fn get_ranges(
        &mut self,
        session: &Session,
        part: usize,
        key: &[u8],
        ranges: &[(u64, u64)],
    ) {
        self.kinds.count(Kind::GetRanges);
        let mut rooms: Vec<Vec<u8>> =
            ranges.iter().map(|(_, len)| vec![0; *len as usize]).collect();
        let mut into: Vec<(u64, &mut [u8])> =
            ranges.iter().zip(&mut rooms).map(|((at, _), room)| (*at, &mut room[..])).collect();
        let got = session.get_ranges(&self.bucket(part), key, &mut into).await;
        let Some(whole) = self.parts[part].content(key).map(Content::len) else {
            return self.require_failed(part, key, &got, ErrorKind::NotFound);
        };
        let counts = got.unwrap_or_else(|e| panic!("ranges: {e}: {}", self.describe(part, key)));
        let expected = |(at, len): &(u64, u64)| (*len).min(whole.saturating_sub(*at)) as usize;
        let all: Vec<usize> = ranges.iter().map(expected).collect();
        assert_eq!(counts, all, "{ranges:?} of {whole}: {}", self.describe(part, key));
        for (((at, _), room), count) in ranges.iter().zip(&rooms).zip(counts) {
            self.require_bytes(part, key, *at, &room[..count]);
        }
    }

    pub fn stat(&mut self, part: usize, key: &[u8]) {
        self.kinds.count(Kind::Stat);
        let bucket = self.bucket(part);
        let stat = bucket.stat(key);
        assert_eq!(bucket.exists(key).unwrap(), stat.is_ok(), "{}", self.describe(part, key));
        let Some(blob) = self.parts[part].blobs.get(key) else {
            return self.require_failed(part, key, &stat, ErrorKind::NotFound);
        };
        let stat = stat.unwrap_or_else(|e| panic!("stat: {e}: {}", self.describe(part, key)));
        let expected = (blob.content.len(), blob.marks.score, blob.marks.values.len() as u64);
        let found = (stat.len, stat.score, stat.attributes);
        assert_eq!(found, expected, "{}", self.describe(part, key));
        self.parts[part].observe(key, stat.version);
    }

    /// What a blob carries beside its value.
    pub fn attributes(&mut self, part: usize, key: &[u8]) {
        self.kinds.count(Kind::ListAttributes);
        let bucket = self.bucket(part);
        let listed = bucket.attributes(key);
        let Some(Marks { values, .. }) = self.parts[part].blobs.get(key).map(|blob| &blob.marks)
        else {
            return self.require_failed(part, key, &listed, ErrorKind::NotFound);
        };
        let expected: Vec<_> =
            values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        assert_eq!(listed.unwrap(), expected, "{}", self.describe(part, key));
        for name in crate::marks::NAMES {
            let found = bucket.attribute(key, name).unwrap();
            assert_eq!(found.as_ref(), values.get(name), "{name}: {}", self.describe(part, key));
        }
    }

    /// Where the slices lie: in order, apart, within the value, together all that is no hole.
    pub fn locate(&mut self, part: usize, key: &[u8]) {
        self.kinds.count(Kind::Locate);
        let places = self.bucket(part).locate(key);
        let Some(content) = self.parts[part].content(key) else {
            return self.require_failed(part, key, &places, ErrorKind::NotFound);
        };
        let places = places.unwrap_or_else(|e| panic!("locate: {e}: {}", self.describe(part, key)));
        let mut end = 0;
        let mut covered = 0;
        for place in &places {
            let apart = place.value_offset >= end && place.len > 0;
            assert!(apart, "{places:?}: {}", self.describe(part, key));
            let somewhere = place.tier.is_some() || place.in_dram;
            assert!(somewhere, "a slice lies nowhere: {place:?}: {}", self.describe(part, key));
            end = place.value_offset + place.len;
            covered += place.len;
        }
        let right = end <= content.len() && covered >= content.written();
        assert!(right, "{places:?} of {content:?}: {}", self.describe(part, key));
    }

    pub fn require_bytes(&self, part: usize, key: &[u8], at: u64, bytes: &[u8]) {
        let Some(content) = self.parts[part].content(key) else { return };
        if let Err(difference) = content.check(at, bytes) {
            let places = self.bucket(part).locate(key);
            panic!("{difference}\nlies at {places:#?}\n{}", self.describe(part, key));
        }
    }
}
