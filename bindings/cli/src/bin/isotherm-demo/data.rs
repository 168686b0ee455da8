//! What the demo stores: files of a tree, and a checkpoint made from numbers.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use isotherm_cli::failure::{Failure, Outcome};
use isotherm_cli::tree::{Tree, TreeFile};
use sha2::{Digest, Sha256};

/// Bytes of one blob of the checkpoint.
pub const PART_LEN: u64 = 128 << 20;
/// Bytes of one of the blobs that are being written when the kill comes.
pub const AFTER_LEN: u64 = 256 << 10;
/// Bucket of the tree.
pub const TREE: &str = "tree";
/// Bucket of the checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Bucket of what is written until the kill.
pub const AFTER: &str = "after";

/// SHA-256 of a value. Not the engine's checksum: the two cannot be wrong together.
pub type Hash = [u8; 32];

/// One line of the hash list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: Vec<u8>,
    /// Of the value.
    pub hash: Hash,
}

/// All files of the trees; a key begins with the tree's own name.
pub fn list_trees(trees: &[PathBuf]) -> Outcome<Vec<TreeFile>> {
    let mut files = Vec::new();
    for tree in trees {
        let name = tree.file_name().unwrap_or_default().as_encoded_bytes();
        for mut file in Tree::list(tree)?.files {
            file.key = [name, b"/", &file.key].concat();
            files.push(file);
        }
    }
    Ok(files)
}

/// The key of a numbered blob: `part-007`.
pub fn part_key(number: u64) -> String {
    format!("part-{number:03}")
}

/// The number of such a key.
pub fn part_number(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key).ok()?.strip_prefix("part-")?.parse().ok()
}

/// Bytes that follow from the number alone, and that nothing compresses.
pub fn generate(seed: u64, len: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while (bytes.len() as u64) < len {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(len as usize);
    bytes
}

/// A value of what is written until the kill, a few keys over and over. It begins with its
/// generation, and all its bytes follow from key and generation: so a value that an acknowledged
/// overwrite has replaced is never taken for the newer one.
pub fn overwrite(number: u64, generation: u64) -> Vec<u8> {
    // Far apart: neighbouring seeds make the same bytes, shifted.
    let mut value = generate((generation << 32) + number, AFTER_LEN);
    let (first, _) = value.split_at_mut(size_of::<u64>());
    first.copy_from_slice(&generation.to_le_bytes());
    value
}

/// The generation that a value says it is of.
pub fn generation_of(value: &[u8]) -> Option<u64> {
    value.first_chunk().copied().map(u64::from_le_bytes)
}

/// SHA-256 of bytes.
pub fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

fn hash_file(path: &Path) -> Outcome<Hash> {
    let failure = |error| Failure::of_file("read of", path, &error);
    let mut file = fs::File::open(path).map_err(failure)?;
    let mut piece = vec![0; 1 << 20];
    let mut hasher = Sha256::new();
    loop {
        match file.read(&mut piece).map_err(failure)? {
            0 => return Ok(hasher.finalize().into()),
            got => hasher.update(&piece[..got]),
        }
    }
}

/// Hashes every source and writes the list, `hex SPACE bucket/key NUL`, before anything is stored.
pub fn write_hash_list(work: &Path, files: &[TreeFile], parts: u64) -> Outcome {
    let path = work.join("hashes");
    let failure = |error| Failure::of_file("write of", &path, &error);
    let mut list = std::io::BufWriter::new(fs::File::create(&path).map_err(failure)?);
    for file in files {
        let line = hash_line(TREE, &file.key, hash_file(&file.path)?);
        list.write_all(&line).map_err(failure)?;
    }
    for number in 0..parts {
        let hash = hash(&generate(number, PART_LEN));
        let line = hash_line(CHECKPOINT, part_key(number).as_bytes(), hash);
        list.write_all(&line).map_err(failure)?;
    }
    list.flush().map_err(failure)
}

fn hash_line(bucket: &str, key: &[u8], hash: Hash) -> Vec<u8> {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    [hex.as_bytes(), b" ", bucket.as_bytes(), b"/", key, b"\0"].concat()
}

/// The hash list.
pub fn read_hash_list(work: &Path) -> Outcome<Vec<Expected>> {
    let lines = read_list(&work.join("hashes"))?;
    let parsed = lines.iter().map(|line| parse_hash_line(line)).collect::<Option<Vec<_>>>();
    parsed.ok_or_else(|| Failure::Other("the hash list is damaged".to_string()))
}

fn parse_hash_line(line: &[u8]) -> Option<Expected> {
    let (hex, name) = line.split_at_checked(64)?;
    let hex = std::str::from_utf8(hex).ok()?;
    let mut hash = Hash::default();
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    let (bucket, key) = split_name(name.strip_prefix(b" ")?)?;
    Some(Expected { bucket, key, hash })
}

/// A put that returned, as the list of acknowledgements has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: Vec<u8>,
    /// How often the key had been put before.
    pub generation: u64,
}

/// `generation SPACE bucket/key NUL`.
pub fn acknowledgement(bucket: &str, key: &[u8], generation: u64) -> Vec<u8> {
    [generation.to_string().as_bytes(), b" ", bucket.as_bytes(), b"/", key, b"\0"].concat()
}

/// A line of the list of acknowledgements, without its end.
pub fn parse_acknowledgement(line: &[u8]) -> Option<Acknowledged> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let generation = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
    let (bucket, key) = split_name(&line[space + 1..])?;
    Some(Acknowledged { bucket, key, generation })
}

/// `bucket/key` in its parts.
fn split_name(name: &[u8]) -> Option<(String, Vec<u8>)> {
    let slash = name.iter().position(|byte| *byte == b'/')?;
    let bucket = String::from_utf8(name[..slash].to_vec()).ok()?;
    Some((bucket, name[slash + 1..].to_vec()))
}

/// The records of a file that end with NUL; a last one that was cut off does not count.
pub fn read_list(path: &Path) -> Outcome<Vec<Vec<u8>>> {
    let bytes = fs::read(path).map_err(|error| Failure::of_file("read of", path, &error))?;
    let whole = bytes.iter().rposition(|byte| *byte == 0).map_or(0, |last| last + 1);
    let records = bytes[..whole].split_inclusive(|byte| *byte == 0);
    Ok(records.map(|record| record[..record.len() - 1].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_line_reads_back() {
        let line = hash_line(TREE, b"lib/a b\n", hash(b"x"));
        let expected = parse_hash_line(&line[..line.len() - 1]).unwrap();
        let wanted =
            Expected { bucket: "tree".into(), key: b"lib/a b\n".to_vec(), hash: hash(b"x") };
        assert_eq!(expected, wanted);
    }

    #[test]
    fn an_acknowledgement_reads_back() {
        let line = acknowledgement(AFTER, b"a b/c", 7);
        let wanted = Acknowledged { bucket: "after".into(), key: b"a b/c".to_vec(), generation: 7 };
        assert_eq!(parse_acknowledgement(&line[..line.len() - 1]), Some(wanted));
        assert_eq!(parse_acknowledgement(b"after/key"), None);
    }

    #[test]
    fn each_overwrite_of_a_key_has_bytes_of_its_own_and_tells_its_generation() {
        let (first, second) = (overwrite(3, 0), overwrite(3, 1));
        assert_eq!((generation_of(&first), generation_of(&second)), (Some(0), Some(1)));
        assert_ne!(first[8..], second[8..]);
        assert_ne!(overwrite(4, 1)[8..], second[8..]);
        assert_eq!(generation_of(b"short"), None);
    }

    #[test]
    fn generated_data_is_the_same_each_time_and_differs_by_number() {
        assert_eq!(generate(1, 1001), generate(1, 1001));
        assert_ne!(generate(1, 64), generate(2, 64));
        assert_eq!(generate(3, 13).len(), 13);
    }
}
