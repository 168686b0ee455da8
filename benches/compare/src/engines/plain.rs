//! The engine that lies: pairs in a file, each with its lengths, and no checksum at all. A harness
//! that does not see it answer with wrong bytes sees nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::{Engine, PLANTED, Reader};
use crate::Outcome;
use crate::pairs::Pair;

const FILE: &str = "pairs";

/// The engine.
pub struct Plain;

impl Engine for Plain {
    fn name(&self) -> &'static str {
        PLANTED
    }

    fn title(&self) -> &'static str {
        "planted liar"
    }

    fn note(&self) -> &'static str {
        "a plain file of lengths, keys and values without checksums, to prove that the harness sees \
         wrong bytes"
    }

    fn version(&self, _store: &Path) -> Outcome<String> {
        Ok("-".to_owned())
    }

    fn build(&self, directory: &Path, pairs: &[Pair]) -> Outcome {
        let mut file = File::create(directory.join(FILE))?;
        for Pair { key, value } in pairs {
            for part in [key, value] {
                file.write_all(&u32::try_from(part.len())?.to_le_bytes())?;
            }
            file.write_all(key)?;
            file.write_all(value)?;
        }
        Ok(file.sync_all()?)
    }

    fn open(&self, directory: &Path) -> Outcome<Box<dyn Reader>> {
        let bytes = fs::read(directory.join(FILE))?;
        let mut rest = &bytes[..];
        let mut found = BTreeMap::new();
        while !rest.is_empty() {
            let (key_len, value_len) = (take_len(&mut rest)?, take_len(&mut rest)?);
            let key = take(&mut rest, key_len)?.to_vec();
            found.insert(key, take(&mut rest, value_len)?.to_vec());
        }
        Ok(Box::new(Open(found)))
    }
}

struct Open(BTreeMap<Vec<u8>, Vec<u8>>);

impl Reader for Open {
    fn get(&mut self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Outcome<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len).ok_or("the file ends in a pair")?;
    *rest = left;
    Ok(taken)
}

fn take_len(rest: &mut &[u8]) -> Outcome<usize> {
    let bytes = take(rest, 4)?.try_into()?;
    Ok(u32::from_le_bytes(bytes) as usize)
}
