//! What name servers say. (Being written: this only lets the rest compile.)

use std::time::Duration;

/// Waits until every authoritative name server of each record's zone gives it: name and value of TXT records.
///
/// # Errors
/// A sentence that names the record and the server that does not have it in time.
pub async fn spread(_records: &[(String, String)], _within: Duration) -> Result<(), String> {
    std::future::ready(Ok(())).await
}
