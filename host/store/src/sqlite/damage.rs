//! Objects that were found missing or altered behind our back.
//!
//! What one of them holds is not taken for stored any more: memos that name it miss, and whoever makes the same bytes again
//! stores them again. Its rows stay, so that what was out of reach only for a time can be read when it is back.

use opyard_model::digest::Digest;
use opyard_model::id::TenantId;
use rusqlite::{Connection, Transaction, params};
use tokio::sync::oneshot;

use super::Shared;
use super::queue::{Answer, Command};

/// Added to databases that were made before it was known.
pub(crate) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS damaged (
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;
";

/// Notes that the object with this artifact is damaged, and all that is in it. Returns when that is on disk. A database
/// that takes nothing now hears of it from the next reader.
pub(crate) async fn note(shared: &Shared, tenant: &TenantId, digest: Digest) {
    let (tenant, at) = (tenant.clone(), shared.clock.now().as_micros());
    let (sender, told) = oneshot::channel();
    let call = move |transaction: &Transaction<'_>| -> Answer {
        let noted = transaction.execute(
            "INSERT OR IGNORE INTO damaged (tenant, digest, at) SELECT tenant, digest, ?3 FROM artifacts \
             WHERE tenant = ?1 AND object_no = (SELECT object_no FROM artifacts WHERE tenant = ?1 AND digest = ?2)",
            params![tenant.as_str(), digest.as_bytes(), at],
        );
        Box::new(move |_| {
            // Whoever noted it may be gone.
            let _ = sender.send(noted.is_ok());
        })
    };
    let Ok(room) = shared.queue.reserve(0).await else { return };
    if shared.queue.push(room, Command::Call(Box::new(call))).is_ok() {
        drop(told.await);
    }
}

/// The artifact is stored again: nothing is known against it any more. False if nothing was.
pub(crate) fn mend(transaction: &Transaction<'_>, tenant: &TenantId, digest: Digest) -> rusqlite::Result<bool> {
    let mended = transaction
        .prepare_cached("DELETE FROM damaged WHERE tenant = ?1 AND digest = ?2")?
        .execute(params![tenant.as_str(), digest.as_bytes()])?;
    Ok(mended > 0)
}

/// The artifact is in the store, and nothing is known against it.
pub(crate) fn has_sound(connection: &Connection, tenant: &TenantId, digest: Digest) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM artifacts WHERE tenant = ?1 AND digest = ?2 \
             AND NOT EXISTS (SELECT 1 FROM damaged WHERE tenant = ?1 AND digest = ?2)",
        )?
        .exists(params![tenant.as_str(), digest.as_bytes()])
}
