//! Releases extent pages that no blob refers to any more: reads each, for the buffers that it
//! names, and has its end logged.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::core::{Core, ReleaseRequest, Request};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::table::BufferTable;
use crate::io::exec::Exec;
use crate::io::wait::{Receiver, first, oneshot};
use crate::organizer::device::read;
use crate::paging::load::{admit, blocks_of};
use crate::types::BufferId;

/// Releases that wait for the log together.
const IN_FLIGHT: usize = 32;

/// Releases condemned pages until the organizer ends. What is left is found at the next open.
pub async fn release_pages(core: Arc<Core>, exec: Rc<dyn Exec>) {
    loop {
        // Before the looks at flag and list: what comes between would be slept over.
        let (stopped, condemned) = (core.organizer.ticket(), core.table.pages_changed.ticket());
        if core.organizer.is_stopping() {
            return;
        }
        let pages = core.table.take_condemned();
        if pages.is_empty() {
            first(stopped, condemned).await;
            continue;
        }
        for some in pages.chunks(IN_FLIGHT) {
            let mut found = Vec::with_capacity(some.len());
            for page in some {
                found.push((*page, names_of(&core, &*exec, *page).await));
            }
            refuse_uncounted(&core.table, &mut found);
            let mut answers = Vec::with_capacity(some.len());
            for (page, names) in found {
                answers.push((page, ask(&core, page, names).await));
            }
            for (page, answer) in answers {
                let released = match answer {
                    Ok(answer) => answer.await.unwrap_or_else(|_| Err(closed())),
                    Err(error) => Err(error),
                };
                match released {
                    Ok(()) => {
                        core.organizer.counters.released_pages.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(error) => {
                        core.counters.note(format!("extent page {}: {error}", page.0));
                        0
                    }
                };
                // Also where it failed: nobody shall wait for what this open will not free.
                core.table.condemned_done(1);
            }
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store closed before the release was logged")
}

/// Refuses pages that name buffers which no page counts on: the counts are those of the log, the names
/// those of the page itself. No release is under way, and only releases lower the counts.
fn refuse_uncounted(table: &BufferTable, found: &mut [(BufferId, Result<Vec<BufferId>>)]) {
    let mut released: HashMap<BufferId, u32> = HashMap::new();
    for (_, names) in found {
        let Ok(list) = names else { continue };
        let count = |id: &BufferId| released.get(id).copied().unwrap_or(0);
        match list.iter().find(|id| table.named(**id) <= count(id)) {
            Some(id) => {
                let message = format!("it names buffer {}, which no page counts on", id.0);
                *names = Err(Error::new(ErrorKind::Corrupt, message));
            }
            None => list.iter().for_each(|id| *released.entry(*id).or_default() += 1),
        }
    }
}

/// Has the end of a page logged.
async fn ask(
    core: &Core,
    page: BufferId,
    names: Result<Vec<BufferId>>,
) -> Result<Receiver<Result<()>>> {
    core.check_poison()?;
    let (names, (reply, answer)) = (names?, oneshot());
    core.shards[0].push(Request::Release(ReleaseRequest { page, names, reply })).await;
    Ok(answer)
}

/// The buffers that a page names.
async fn names_of(core: &Core, exec: &dyn Exec, id: BufferId) -> Result<Vec<BufferId>> {
    core.check_poison()?;
    if let Some(page) = core.pages.peek(id) {
        return Ok(page.names());
    }
    let Some((buffer, _pin)) = core.table.pin(id) else {
        fail!(Internal, "a condemned page is not in the table")
    };
    let (tier, blocks) = blocks_of(&buffer)?;
    let memory = read(core, exec, tier, blocks.start, (blocks.end - blocks.start) as usize).await?;
    Ok(admit(core, &buffer, blocks.start, memory.as_slice())?.names())
}
