//! Inventory: the digests of what the registry holds, for one that sends to it.

use std::io::Write;

use layout::InventoryWriter;

use crate::{Error, Registry};

/// Rows read in one transaction.
const PAGE: u64 = 1000;

impl Registry {
    /// Lists the content whose bytes are in the store. Returns how many digests were written.
    pub async fn write_inventory<W: Write>(
        &self,
        list: &mut InventoryWriter<W>,
    ) -> Result<std::io::Result<u64>, Error> {
        let (mut last, mut count) = (None, 0);
        loop {
            let page = self
                .metadata()
                .read(&last, |tx, last| Box::pin(metadata::blobs::list(tx, last.as_ref(), PAGE)))
                .await?;
            let Some(blob) = page.last() else { return Ok(Ok(count)) };
            last = Some(blob.digest);
            for blob in &page {
                let size = self.blobs().size(&blob.digest, blob.location.as_deref()).await?;
                if size != Some(blob.size) {
                    continue;
                }
                if let Err(error) = list.add(&blob.digest) {
                    return Ok(Err(error));
                }
                count += 1;
            }
        }
    }
}
