//! Opening a damaged store for salvage: its files, for reading alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::ResolvedTier;
use crate::engine::Identity;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::io::Device;
use crate::io::device::FileDevice;
use crate::manifest;
use crate::salvage::{Salvage, SalvageTier};
use crate::store::lock::Access;
use crate::store::opening::Opening;

impl Salvage {
    /// Reads what there is of the store in this directory, whatever is damaged or missing of its
    /// tiers. `moved` says where the files of tiers are, by number, that are not where the store's file
    /// `STORE` says. Nothing is written, to the store or beside it; it stays locked against writers as
    /// long as this lives.
    ///
    /// # Errors
    /// `StoreNotFound`, `Locked` and `PermissionDenied` as their names say; `Format` if the file
    /// `STORE` is damaged, which must be put back first, or the store is of a newer format;
    /// `InvalidArgument` for a tier that it does not have; `Unsupported` for a store with DRAM alone.
    pub fn open(path: impl AsRef<Path>, moved: &BTreeMap<u8, PathBuf>) -> Result<Salvage> {
        let directory = path.as_ref();
        let mut opening = Opening::begin(directory, Access::Read, false)?;
        let Some(manifest) = manifest::load(directory)? else {
            fail!(StoreNotFound, "there is no store at {}", directory.display());
        };
        let mut places = manifest::stored_tiers(&manifest, directory);
        for (number, file) in moved {
            match places.get_mut(usize::from(*number)) {
                Some(tier) => tier.file.clone_from(file),
                None => fail!(InvalidArgument, "the store has no tier {number}"),
            }
        }
        let identity = Identity {
            store: manifest.store_uuid,
            devices: manifest.tiers.iter().map(|tier| tier.device_uuid).collect(),
        };
        let mut tiers = Vec::with_capacity(places.len());
        for tier in &places {
            opening.lock_tier(&tier.file)?;
            tiers.push(open_tier(tier)?);
        }
        Ok(Salvage::open_on(identity, tiers)?.with_locks(opening.succeed()))
    }
}

/// A tier's file, or why there is none. What may not be read is there, and may be read with the
/// permission.
fn open_tier(tier: &ResolvedTier) -> Result<SalvageTier> {
    let path = tier.file.display();
    let device: std::result::Result<Arc<dyn Device>, String> =
        match FileDevice::open_read_only(&tier.file) {
            Ok(device) => Ok(Arc::new(device)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{path} is missing"))
            }
            Err(error) => {
                let error = Error::from_io(format!("the tier file {path}"), &error);
                if error.kind() == ErrorKind::PermissionDenied {
                    return Err(error);
                }
                Err(error.message().to_owned())
            }
        };
    Ok(SalvageTier { device, capacity: tier.capacity, segment_size: tier.segment_size })
}
