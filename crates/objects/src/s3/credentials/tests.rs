//! Keys from an instance, a container and a web identity, which end after a moment; and a store
//! that knows when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::fake::{self, Asked, Fake};
use crate::s3::{Config, open_as};
use crate::{Error, Objects, Watch};

/// How long keys are good.
const LIFE: Duration = Duration::from_secs(2);

/// Hands out keys whose ids tell when they were made, and takes those that are not older than
/// [`LIFE`].
struct Amazon {
    server: Fake,
    /// How many keys were handed out.
    made: Arc<AtomicU64>,
    /// Whether it hands out none.
    refuses: Arc<AtomicBool>,
}

impl Amazon {
    /// Who asks for keys with a token has to give `token()`.
    async fn start(token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let made = Arc::<AtomicU64>::default();
        let refuses = Arc::<AtomicBool>::default();
        let (counted, refusing) = (Arc::clone(&made), Arc::clone(&refuses));
        let server = Fake::start(move |_, asked| match path(asked) {
            path if path.starts_with("/bucket/") => store(asked),
            _ if refusing.load(Ordering::SeqCst) => fake::answer("403 Forbidden", "", "not now"),
            "/latest/api/token" => fake::answer("200 OK", "", "session"),
            "/latest/meta-data/iam/security-credentials/" => fake::answer("200 OK", "", "role"),
            path => {
                counted.fetch_add(1, Ordering::SeqCst);
                let is_known = match path {
                    "/container" => asked.head.contains(&format!("authorization: {}\r\n", token())),
                    "/latest/meta-data/iam/security-credentials/role" => {
                        asked.head.contains("x-aws-ec2-metadata-token: session")
                    }
                    _ => asked.head.contains(&format!("WebIdentityToken={} ", token())),
                };
                if is_known { keys(path) } else { fake::answer("403 Forbidden", "", "who?") }
            }
        })
        .await;
        Self { server, made, refuses }
    }

    fn open(&self, variables: &[(&str, &str)]) -> Arc<dyn Objects> {
        let config = Config {
            bucket: "bucket".to_owned(),
            endpoint: Some(self.server.url.clone()),
            ..Config::default()
        };
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let variables = variables.collect::<BTreeMap<_, _>>();
        open_as(&config, Watch::default(), &|name| variables.get(name).cloned()).unwrap()
    }

    /// Puts for longer than keys are good.
    async fn put_for_a_while(&self, store: &dyn Objects) {
        let begun = SystemTime::now();
        while begun.elapsed().unwrap() < LIFE + LIFE / 2 {
            put(store).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(self.made.load(Ordering::SeqCst) > 2, "nobody asked for new keys");
    }
}

async fn put(store: &dyn Objects) -> Result<(), Error> {
    store.put("key", vec![Bytes::from_static(b"content")]).await
}

fn path(asked: &Asked) -> &str {
    let target = asked.head.split(' ').nth(1).unwrap_or_default();
    target.split('?').next().unwrap_or_default()
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

fn keys(path: &str) -> String {
    let id = format!("AK{}", now().as_millis());
    let end = jiff::Timestamp::try_from(SystemTime::now() + LIFE).unwrap();
    let body = if path == "/" {
        format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
             <SessionToken>of-{id}</SessionToken><Expiration>{end}</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
    } else {
        format!(
            r#"{{"AccessKeyId":"{id}","SecretAccessKey":"secret","Token":"of-{id}",
            "Expiration":"{end}"}}"#
        )
    };
    fake::answer("200 OK", "", &body)
}

/// Takes what is asked with keys that are not too old.
fn store(asked: &Asked) -> String {
    let id = asked.head.split("Credential=AK").nth(1).and_then(|rest| rest.split('/').next());
    let id = id.unwrap_or_default();
    let made = Duration::from_millis(id.parse().unwrap_or_default());
    let has_token = asked.head.contains(&format!("x-amz-security-token: of-AK{id}\r\n"));
    if has_token && now().saturating_sub(made) < LIFE {
        return fake::answer("200 OK", "etag: \"1\"\n", "");
    }
    let error = "<Error><Code>ExpiredToken</Code><Message>too old</Message></Error>";
    fake::answer("400 Bad Request", "", error)
}

#[tokio::test]
async fn an_instance_renews_its_keys() {
    let amazon = Amazon::start(String::new).await;
    let store = amazon.open(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &amazon.server.url)]);
    amazon.put_for_a_while(&*store).await;
}

#[tokio::test]
async fn tokens_in_files_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first").unwrap();
    let expected = file.clone();
    let token = move || std::fs::read_to_string(&expected).unwrap();
    let amazon = Amazon::start(token).await;
    let file_name = file.display().to_string();
    let url = &amazon.server.url;
    let container = amazon.open(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{url}/container")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file_name),
    ]);
    let identity = amazon.open(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &file_name),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/registry"),
        ("AWS_ENDPOINT_URL_STS", url),
    ]);
    for store in [container, identity] {
        put(&*store).await.unwrap();
        std::fs::write(&file, "second").unwrap();
        amazon.put_for_a_while(&*store).await;
        std::fs::write(&file, "first").unwrap();
    }
}

#[tokio::test]
async fn old_keys_are_used_until_they_end_and_then_new_ones() {
    let amazon = Amazon::start(String::new).await;
    let store = amazon.open(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &amazon.server.url)]);
    put(&*store).await.unwrap();
    amazon.refuses.store(true, Ordering::SeqCst);
    tokio::time::sleep(LIFE / 4).await;
    put(&*store).await.unwrap();
    tokio::time::sleep(LIFE).await;
    let error = put(&*store).await.unwrap_err();
    assert!(error.to_string().contains("ExpiredToken"), "{error}");
    amazon.refuses.store(false, Ordering::SeqCst);
    let deadline = SystemTime::now() + Duration::from_secs(20);
    while let Err(error) = put(&*store).await {
        assert!(SystemTime::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn whoever_gets_no_keys_at_all_is_told_why() {
    let amazon = Amazon::start(String::new).await;
    amazon.refuses.store(true, Ordering::SeqCst);
    let store = amazon.open(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &amazon.server.url)]);
    let error = put(&*store).await.unwrap_err().to_string();
    assert!(error.contains("403") && error.contains("/latest/api/token"), "{error}");
}
