//! What S3 is asked for without the library.

use std::time::SystemTime;

use ::http::{Method, StatusCode};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::path::Path;
use serde::Deserialize;

use crate::cloud::{Library, Rest};
use crate::requests::{Answer, Ask, Sender, in_path, query};
use crate::{Attempt, Error, Future};

/// What the library does not ask for, or does not repeat.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) credentials: AwsCredentialProvider,
    pub(super) sender: Sender,
    /// Of the bucket.
    pub(super) url: String,
    pub(super) region: String,
}

/// `ListMultipartUploadsResult` of the S3 API.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Uploads {
    #[serde(default)]
    pub(crate) upload: Vec<Upload>,
    #[serde(default)]
    pub(crate) is_truncated: bool,
    pub(crate) next_key_marker: Option<String>,
    pub(crate) next_upload_id_marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Upload {
    pub(crate) key: String,
    #[serde(rename = "UploadId")]
    pub(crate) id: String,
    pub(crate) initiated: Option<jiff::Timestamp>,
}

impl Rest for Requests {
    fn attempts<'a>(&'a self, prefix: &'a str) -> Future<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut after = None;
            loop {
                let Some(page) = self.attempts_after(prefix, after).await? else {
                    return Ok(found);
                };
                found.extend(page.upload.into_iter().map(|upload| Attempt {
                    key: upload.key,
                    name: upload.id,
                    begun: upload.initiated.map_or_else(SystemTime::now, SystemTime::from),
                }));
                let (true, Some(key)) = (page.is_truncated, page.next_key_marker) else {
                    return Ok(found);
                };
                after = Some((key, page.next_upload_id_marker.unwrap_or_default()));
            }
        })
    }

    /// The library asks for many to be deleted at once, which not all stores can do, and does not
    /// repeat that when there is no answer.
    fn delete<'a>(
        &'a self,
        _: &'a dyn Library,
        path: &'a Path,
        key: &'a str,
    ) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let context = format!("delete object {key}");
            self.remove(Ask::new(Method::DELETE, context, path.as_ref())).await
        })
    }

    /// The library does not repeat that, either.
    fn abort<'a>(&'a self, path: &'a Path, attempt: &'a str) -> Future<'a, Result<(), Error>> {
        Box::pin(async move {
            let context = format!("abort object {path}");
            let ask = Ask::new(Method::DELETE, context, path.as_ref()).query("uploadId", attempt);
            self.remove(ask).await
        })
    }
}

impl Requests {
    /// A page of the attempts; `None` if the store can not tell.
    async fn attempts_after(
        &self,
        prefix: &str,
        after: Option<(String, String)>,
    ) -> Result<Option<Uploads>, Error> {
        let mut ask = Ask::new(Method::GET, format!("list uploads below {prefix}"), "")
            .query("uploads", "")
            .query("prefix", prefix);
        if let Some((key, upload)) = after {
            ask = ask.query("key-marker", key).query("upload-id-marker", upload);
        }
        let answer = self.send(&ask).await?;
        match answer.status {
            StatusCode::OK => {
                let page = quick_xml::de::from_str(&answer.text());
                page.map(Some).map_err(|error| ask.failed(format!("not understood: {error}")))
            }
            StatusCode::NOT_IMPLEMENTED => Ok(None),
            _ => Err(ask.refused(&answer)),
        }
    }

    async fn remove(&self, ask: Ask) -> Result<(), Error> {
        let answer = self.send(&ask).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(ask.refused(&answer)),
        }
    }

    async fn send(&self, ask: &Ask) -> Result<Answer, Error> {
        let credential = self.credentials.get_credential().await;
        let credential =
            credential.map_err(|error| ask.failed(net::client::with_causes(&error)))?;
        let url = format!("{}/{}", self.url, in_path(&ask.key));
        let query = query(ask.query.iter().map(|(name, value)| (*name, value.as_str())));
        let sign = |ask: &Ask| {
            let mut request = ask.request(&url, &query)?;
            AwsAuthorizer::new(&credential, "s3", &self.region)
                .try_authorize(&mut request, None)
                .map_err(|error| ask.failed(error.to_string()))?;
            Ok(request)
        };
        self.sender.send(ask, &sign).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Watch;
    use crate::fake::{self, Fake};
    use crate::s3::{Config, Keys, open};

    #[test]
    fn a_list_of_uploads_is_understood() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>b</Bucket><KeyMarker/><NextKeyMarker>k2</NextKeyMarker>
              <NextUploadIdMarker>u2</NextUploadIdMarker><IsTruncated>true</IsTruncated>
              <Upload><Key>k1</Key><UploadId>u1</UploadId><Initiator><ID>x</ID></Initiator>
                <Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>
              <Upload><Key>k2</Key><UploadId>u2</UploadId></Upload>
            </ListMultipartUploadsResult>"#;
        let page: Uploads = quick_xml::de::from_str(text).unwrap();
        assert!(page.is_truncated && page.next_key_marker.as_deref() == Some("k2"));
        assert_eq!(page.upload[0].key, "k1");
        assert_eq!(page.upload[0].initiated.unwrap().as_second(), 1_767_323_045);
        assert_eq!(page.upload[1].id, "u2");
        let empty: Uploads = quick_xml::de::from_str("<ListMultipartUploadsResult/>").unwrap();
        assert!(empty.upload.is_empty() && !empty.is_truncated);
    }

    #[tokio::test]
    async fn what_has_no_answer_is_asked_again() {
        let server = Fake::start(|number, _| match number {
            1 => fake::answer("204 No Content", "", ""),
            3 => fake::answer("200 OK", "", "<ListMultipartUploadsResult/>"),
            5 => fake::answer("404 Not Found", "", "<Error><Code>NoSuchUpload</Code></Error>"),
            _ => String::new(),
        })
        .await;
        let config = Config {
            bucket: "b".to_owned(),
            endpoint: Some(server.url.clone()),
            keys: Some(Keys::default()),
            ..Config::default()
        };
        let store = open(&config, Watch::default()).unwrap();
        store.delete("some key").await.unwrap();
        assert!(store.attempts("some").await.unwrap().is_empty());
        store.abort("some key", "one").await.unwrap();
        let asked = server.asked();
        assert_eq!(asked.len(), 6);
        assert!(asked[1].head.starts_with("DELETE /b/some%20key HTTP"), "{asked:?}");
        assert!(asked[5].head.starts_with("DELETE /b/some%20key?uploadId=one HTTP"), "{asked:?}");
        assert!(asked[3].head.starts_with("GET /b/?uploads&prefix=some HTTP"), "{asked:?}");
    }
}
