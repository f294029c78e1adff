//! What goes wrong around a registry: disks, files, neighbours and clients.
//! Each time it says so clearly, and goes on with everything else.

mod clients;
mod disk;
mod start;

use anyhow::{Result, ensure};

use crate::http::{Answer, array, text};
use crate::scenario::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("trouble: a full disk", 120, disk::full),
    Scenario::new("trouble: an upload fills the disk", 120, disk::filled_by_upload),
    Scenario::new("trouble: a folder that becomes read-only", 60, disk::read_only),
    Scenario::new("trouble: a disk that fails to sync", 60, disk::failing),
    Scenario::new("trouble: a blob file vanished", 60, disk::vanished),
    Scenario::new("trouble: a blob file truncated", 60, disk::truncated),
    Scenario::new("trouble: a manifest file truncated", 60, disk::truncated_manifest),
    Scenario::new("trouble: port in use", 30, start::port_in_use),
    Scenario::new("trouble: two servers on one folder", 30, start::second_server),
    Scenario::new("trouble: a data folder that cannot be made", 30, start::no_folder),
    Scenario::new("trouble: a read-only data folder", 30, start::read_only),
    Scenario::new("trouble: a damaged database", 60, start::damaged_database),
    Scenario::new("trouble: a slow upload", 60, clients::slow_upload),
    Scenario::new("trouble: TLS on the plain port", 30, clients::tls_hello),
    Scenario::new("trouble: silent clients", 150, clients::silent).long(),
];

/// An answer with this status and a body that clients understand.
fn refused(answer: Answer, status: u16, code: &str) -> Result<()> {
    let answer = answer.expect(status)?;
    let body = answer.json()?;
    let errors = array(&body, "errors");
    ensure!(!errors.is_empty(), "no errors in {body}");
    for error in errors {
        ensure!(text(error, "code")? == code, "expected the code {code}, found {body}");
        ensure!(!text(error, "message")?.is_empty(), "no message in {body}");
    }
    Ok(())
}
