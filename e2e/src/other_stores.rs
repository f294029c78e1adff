//! Object stores other than the one of most scenarios, a file for each.

mod azurite;
mod fake_gcs;
mod garage;
mod swift;

use std::time::Duration;

use crate::process::Daemon;

/// A bucket, or a container.
const BUCKET: &str = "registry";

const START_LIMIT: Duration = Duration::from_mins(1);

/// A server with an empty bucket. It ends with this.
pub(crate) struct OtherStore {
    _processes: Vec<Daemon>,
    /// What a registry needs to use it, but for the folder.
    environment: Vec<(&'static str, String)>,
    /// Which variable says the folder.
    folder: &'static str,
}

impl OtherStore {
    /// What a registry needs to keep its content in a folder of the bucket.
    pub(crate) fn environment(&self, folder: &str) -> Vec<(&'static str, String)> {
        let mut environment = self.environment.clone();
        environment.push((self.folder, format!("/{folder}")));
        environment
    }
}
