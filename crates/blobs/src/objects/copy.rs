//! Copies an object to another key of the store, by way of this process.

use std::sync::Arc;

use bytes::Bytes;
use objects::Objects;
use oci::Digest;

use super::content::ObjectContent;
use super::writing;
use crate::{Buffer, Error};

/// Copies the object at `from`, which is the content of `digest` and has `size` bytes. Up to `part_size` bytes, or more if the
/// store takes few parts, are in memory.
pub(super) async fn copy(
    objects: &Arc<dyn Objects>,
    digest: &Digest,
    from: &str,
    to: &str,
    size: u64,
    part_size: usize,
) -> Result<(), Error> {
    let content = ObjectContent::new(Arc::clone(objects), from.to_owned(), *digest, size);
    let rules = objects.part_rules();
    let least = size / (rules.max_count as u64 / 2).max(1);
    let part_size = (part_size as u64).max(least).next_multiple_of(rules.step as u64);
    if size <= part_size {
        let bytes = read(&content, 0, size).await?;
        return objects.put(to, bytes).await.map_err(writing);
    }
    // What a copy has left that was killed.
    for left in objects.attempts(to).await? {
        objects.abort(&left.key, &left.name).await.map_err(writing)?;
    }
    let attempt = objects.begin(to).await.map_err(writing)?;
    let copied = async {
        let (mut parts, mut offset) = (Vec::new(), 0);
        // The last bytes, whatever their number, are none of the parts.
        while size - offset > part_size {
            let bytes = read(&content, offset, part_size).await?;
            let part = objects.part(to, &attempt, parts.len(), offset, bytes).await;
            parts.push(part.map_err(writing)?);
            offset += part_size;
        }
        let last = read(&content, offset, size - offset).await?;
        objects.complete(to, &attempt, parts, last).await.map_err(writing)
    };
    let copied = copied.await;
    if copied.is_err()
        && let Err(error) = objects.abort(to, &attempt).await
    {
        tracing::info!(%error, "parts of a copy are left");
    }
    copied
}

async fn read(content: &ObjectContent, offset: u64, length: u64) -> Result<Vec<Bytes>, Error> {
    let (mut bytes, mut at) = (Vec::new(), offset);
    let end = offset + length;
    while at < end {
        let limit = usize::try_from(end - at).unwrap_or(Buffer::SIZE).min(Buffer::SIZE);
        let next = content.read(at, limit).await?;
        at += next.len() as u64;
        bytes.push(next);
    }
    Ok(bytes)
}
