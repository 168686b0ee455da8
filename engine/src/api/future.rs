//! An operation of a queue as a future: polled by any executor, woken by the shard that ends it.

use std::sync::Arc;

use crate::api::operation::{Completion, OpId, OpMemory, Operation};
use crate::api::queue::{Begun, Shared, begin};
use crate::error::{Error, ErrorKind};
use crate::io::wait::oneshot;

/// Asks that an operation not begin, should nobody wait for it any more. One that has begun or ended
/// does not notice.
struct CancelOnDrop {
    shared: Arc<Shared>,
    id: OpId,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.shared.cancel(self.id);
    }
}

/// Runs one operation to its end.
pub(super) async fn run(shared: Arc<Shared>, operation: Operation) -> Completion {
    let user_data = operation.user_data;
    let ended = |id, memory, error| Completion { id, user_data, result: Err(error), memory };
    if let Err(error) = shared.enter() {
        return ended(OpId(0), operation.memory, error);
    }
    let (reply, answer) = oneshot();
    let duty = shared.duty(&operation, Some(reply));
    let id = duty.id;
    let _cancel = CancelOnDrop { shared: shared.clone(), id };
    if let Begun::OnShard(shard, task) = begin(operation, duty) {
        shared.core.shards[shard].push(task).await;
    }
    answer.await.unwrap_or_else(|_| {
        let closed = Error::new(ErrorKind::Closed, "the store closed before the operation");
        ended(id, OpMemory::None, closed)
    })
}
