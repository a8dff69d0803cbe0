//! Ends a guard that no agent will come back to.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::launch::{self, ConnectError, Guard};
use crate::guard::messages::{Answer, FromGuard, Request, RequestBody};

/// Stops everything under the guard of a state folder, each replica with its grace, and ends the guard. For when the
/// folder's agent is gone and will not be started again: a guard alone keeps what may run without an agent. Returns
/// whether there was a guard.
///
/// # Errors
/// [`ConnectError::Timeout`]: the guard did not end in time; it goes on stopping.
pub async fn end_guard(state_folder: &Path, time_max: Duration) -> Result<bool, ConnectError> {
    timeout(time_max, until_gone(state_folder)).await.unwrap_or_else(|_| {
        let reason = format!("it has not stopped everything within {time_max:?}");
        Err(ConnectError::Timeout { folder: state_folder.to_owned(), reason })
    })
}

async fn until_gone(state_folder: &Path) -> Result<bool, ConnectError> {
    let mut found = false;
    while let Some(mut guard) = launch::find(state_folder).await? {
        found = true;
        // A connection that breaks here is a guard that ends: the next look says whether it has.
        let _ = shut_down(&mut guard).await;
    }
    Ok(found)
}

async fn shut_down(guard: &mut Guard) -> io::Result<()> {
    guard.send(&Request { id: 1, body: RequestBody::Shutdown { stop_all: true } }).await?;
    loop {
        if let FromGuard::Answer { body: Answer::ShuttingDown(_), .. } = guard.receive().await? {
            return Ok(());
        }
    }
}
