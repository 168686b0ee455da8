//! The attributes of a blob in memory, counted in the memory budget.

use std::ops::Deref;
use std::sync::Arc;

use crate::index::MemoryBudget;
use crate::log::attributes::Attributes;

/// Attributes that the states of a blob share. Counted until the last of them drops them.
#[derive(Debug)]
pub struct SharedAttributes {
    attributes: Attributes,
    budget: Arc<MemoryBudget>,
}

impl SharedAttributes {
    /// Of a new state.
    pub fn new(attributes: Attributes, budget: &Arc<MemoryBudget>) -> Arc<SharedAttributes> {
        let shared = SharedAttributes { attributes, budget: budget.clone() };
        budget.add(shared.memory_bytes());
        Arc::new(shared)
    }

    fn memory_bytes(&self) -> i64 {
        (self.attributes.encoded_len() + size_of::<SharedAttributes>() + 16) as i64
    }
}

impl Drop for SharedAttributes {
    fn drop(&mut self) {
        self.budget.add(-self.memory_bytes());
    }
}

impl Deref for SharedAttributes {
    type Target = Attributes;

    fn deref(&self) -> &Attributes {
        &self.attributes
    }
}
