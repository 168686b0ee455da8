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

/// `bucket/key` in its parts.
pub fn split_name(name: &[u8]) -> Option<(String, Vec<u8>)> {
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
    fn generated_data_is_the_same_each_time_and_differs_by_number() {
        assert_eq!(generate(1, 1001), generate(1, 1001));
        assert_ne!(generate(1, 64), generate(2, 64));
        assert_eq!(generate(3, 13).len(), 13);
    }
}
