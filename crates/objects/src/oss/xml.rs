//! What is said in XML. Uploads are listed as in S3.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::requests::{Answer, Ask};

/// `ListBucketResult`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listing {
    #[serde(default)]
    pub(super) contents: Vec<Listed>,
    #[serde(default)]
    pub(super) common_prefixes: Vec<Folder>,
    pub(super) next_continuation_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) last_modified: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Folder {
    pub(super) prefix: String,
}

/// `InitiateMultipartUploadResult`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Begun {
    pub(super) upload_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CompleteMultipartUpload {
    pub(super) part: Vec<Part>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Part {
    pub(super) part_number: usize,
    #[serde(rename = "ETag")]
    pub(super) etag: String,
}

/// `CompleteMultipartUploadResult`: an error would not have it.
#[derive(Deserialize)]
pub(super) struct Completed {
    #[serde(rename = "ETag")]
    _etag: String,
}

/// What the answer says in its text.
pub(super) fn understood<T: DeserializeOwned>(ask: &Ask, answer: &Answer) -> Result<T, Error> {
    quick_xml::de::from_str(&answer.text()).map_err(|error| {
        ask.failed(format!("the answer is not understood: {error}: {:.300}", answer.text()))
    })
}
