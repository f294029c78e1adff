//! What is asked, in order: each request sees what those before it left.

use serde_json::{Value, json};

use crate::http::{sha256, with_query};
use crate::image::{media_type, pseudo_random};

/// A request as it goes over the wire. `{session}` in its target is where the
/// last answer said that the upload goes on.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) name: String,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Request {
    pub(super) fn get(name: &str, target: &str) -> Self {
        Self::new(name, "GET", target)
    }

    fn new(name: &str, method: &str, target: &str) -> Self {
        Self {
            name: name.to_owned(),
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Some(bytes.into());
        self
    }

    /// With the place of the current upload filled in.
    pub(super) fn on(&self, session: &str) -> Self {
        let mut filled = self.clone();
        if let Some(query) = self.target.strip_prefix("{session}?") {
            let (name, value) = query.split_once('=').unwrap_or((query, ""));
            filled.target = with_query(session, name, value);
        } else {
            filled.target = self.target.replace("{session}", session);
        }
        filled
    }
}

/// All requests.
pub(super) fn all() -> Vec<Request> {
    let mut script = Script::default();
    script.base();
    script.names();
    script.uploads();
    script.blobs();
    script.mounts();
    script.manifests();
    script.wrong_manifests();
    script.pulls();
    script.lists();
    script.deletes();
    script.requests
}

const REPOSITORY: &str = "diff/one";
const OCTETS: &str = "application/octet-stream";

#[derive(Default)]
struct Script {
    requests: Vec<Request>,
}

fn layer() -> Vec<u8> {
    pseudo_random("differential layer", 10_000)
}

fn config() -> Vec<u8> {
    br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec()
}

fn blob_path(repository: &str, bytes: &[u8]) -> String {
    format!("/v2/{repository}/blobs/{}", sha256(bytes))
}

impl Script {
    fn add(&mut self, request: Request) {
        self.requests.push(request);
    }

    fn ask(&mut self, name: &str, method: &str, target: &str) {
        self.add(Request::new(name, method, target));
    }

    fn base(&mut self) {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
            self.ask(&format!("root {method}"), method, "/");
            self.ask(&format!("base {method}"), method, "/v2/");
        }
        self.ask("base without slash", "GET", "/v2");
        self.ask("path: not of the API", "GET", "/nothing");
        self.ask("path: below base", "GET", "/v2/nothing");
        self.ask("path: a repository alone", "GET", "/v2/diff/one/");
        self.ask("path: unknown below a repository", "GET", "/v2/diff/one/nothing/x");
        self.ask("path: version 1", "GET", "/v1/images/x");
        self.ask("path: referrers", "GET", &format!("/v2/diff/one/referrers/{}", sha256(b"x")));
        self.add(Request::get("base with odd headers", "/v2/").with("Accept", "text/html;q=x"));
        self.add(Request::get("base with a query", "/v2/?a=%zz&b"));
    }

    fn names(&mut self) {
        let long = format!("a/{}", "b".repeat(253));
        let too_long = format!("a/{}", "b".repeat(254));
        for name in [
            "a",
            "a/b",
            "a/b/c/d/e",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a--b",
            "0",
            "a/0",
            &long,
            &too_long,
            "A",
            "a/B",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "a/-b",
            "_a",
            ".a",
            "a.",
            "a/b-",
            "a%20b",
            "%C3%A4",
            "a%2Fb",
            "example.org/a",
            "example.org:5000/a",
            "a+b",
            "a@b",
            "a~b",
        ] {
            let shown: String = name.chars().take(30).collect();
            self.ask(
                &format!("name: {shown} {}", name.len()),
                "GET",
                &format!("/v2/{name}/tags/list"),
            );
        }
        for tag in ["x", "X", "_x", ".x", "-x", "x.y-z_0", "x%20y", "x+y", "x:y"] {
            self.ask(&format!("tag: {tag}"), "GET", &format!("/v2/a/manifests/{tag}"));
        }
        self.ask("tag: 128 characters", "GET", &format!("/v2/a/manifests/{}", "t".repeat(128)));
        self.ask("tag: 129 characters", "GET", &format!("/v2/a/manifests/{}", "t".repeat(129)));
        for digest in [
            "sha256:abc",
            "sha256:",
            "sha256",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "SHA256:0000000000000000000000000000000000000000000000000000000000000000",
            "sha256:ZZ00000000000000000000000000000000000000000000000000000000000000",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            let shown: String = digest.chars().take(12).collect();
            self.ask(&format!("digest: blob {shown}"), "GET", &format!("/v2/a/blobs/{digest}"));
            self.ask(
                &format!("digest: manifest {shown}"),
                "GET",
                &format!("/v2/a/manifests/{digest}"),
            );
        }
    }

    fn post(&mut self, name: &str) {
        let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
        self.add(Request::new(name, "POST", &target).body(""));
    }

    fn patch(&mut self, name: &str, bytes: &[u8], headers: &[(&str, &str)]) {
        let mut request = Request::new(name, "PATCH", "{session}").body(bytes);
        for (name, value) in headers {
            request = request.with(name, value);
        }
        self.add(request);
    }

    fn put(&mut self, name: &str, digest: &str, bytes: &[u8]) {
        let target = format!("{{session}}?digest={digest}");
        self.add(Request::new(name, "PUT", &target).with("Content-Type", OCTETS).body(bytes));
    }

    fn uploads(&mut self) {
        let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
        let (layer, config) = (layer(), config());
        let (first, second) = layer.split_at(4000);
        let digest = sha256(&layer);
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE"] {
            self.ask(&format!("upload: {method} without a session"), method, &target);
        }
        self.add(
            Request::new("upload: POST without the slash", "POST", target.trim_end_matches('/'))
                .body(""),
        );
        self.ask("upload: status of an unknown one", "GET", &format!("{target}0-0-0"));
        self.ask("upload: cancel an unknown one", "DELETE", &format!("{target}0-0-0"));
        self.add(
            Request::new("upload: PATCH of an unknown one", "PATCH", &format!("{target}0-0-0"))
                .body("x"),
        );
        self.post("upload: chunks: POST");
        self.ask("upload: chunks: status at 0", "GET", "{session}");
        self.patch(
            "upload: chunks: first",
            first,
            &[("Content-Type", OCTETS), ("Content-Range", "0-3999")],
        );
        self.ask("upload: chunks: status", "GET", "{session}");
        self.ask("upload: chunks: status by HEAD", "HEAD", "{session}");
        self.patch(
            "upload: chunks: second",
            second,
            &[("Content-Type", OCTETS), ("Content-Range", "4000-9999")],
        );
        self.put("upload: chunks: PUT", &digest, b"");
        self.ask("upload: chunks: status when over", "GET", "{session}");

        self.post("upload: stream: POST");
        self.patch("upload: stream: PATCH without a type", &config, &[]);
        self.put("upload: stream: PUT", &sha256(&config), b"");

        self.post("upload: whole: POST");
        self.put("upload: whole: PUT", &sha256(b"whole"), b"whole");
        self.post("upload: empty: POST");
        self.put("upload: empty: PUT", &sha256(b""), b"");
        self.post("upload: known: POST");
        self.put("upload: known: PUT", &digest, &layer);

        self.post("upload: wrong digest: POST");
        self.put("upload: wrong digest: PUT", &sha256(b"other"), b"bytes");
        self.post("upload: no digest: POST");
        self.add(Request::new("upload: no digest: PUT", "PUT", "{session}").body("x"));
        self.put("upload: bad digest: PUT", "sha256:12", b"x");
        self.put("upload: unknown algorithm: PUT", "md5:d41d8cd98f00b204e9800998ecf8427e", b"x");
        self.ask("upload: cancel", "DELETE", "{session}");
        self.ask("upload: cancel twice", "DELETE", "{session}");

        self.post("upload: types: POST");
        self.patch("upload: types: text", b"x", &[("Content-Type", "text/plain")]);
        self.patch(
            "upload: types: form",
            b"x",
            &[("Content-Type", "application/x-www-form-urlencoded")],
        );
        self.post("upload: ranges: POST");
        self.patch(
            "upload: ranges: late start",
            b"x",
            &[("Content-Type", OCTETS), ("Content-Range", "5-5")],
        );
        self.post("upload: ranges: POST for words");
        self.patch(
            "upload: ranges: not a range",
            b"x",
            &[("Content-Type", OCTETS), ("Content-Range", "bytes 0-0/1")],
        );
        self.post("upload: ranges: POST for length");
        self.patch(
            "upload: ranges: another length",
            b"xyz",
            &[("Content-Type", OCTETS), ("Content-Range", "0-0")],
        );
        self.post("upload: one byte: POST");
        self.patch("upload: one byte: PATCH", b"x", &[("Content-Type", OCTETS)]);
        self.ask("upload: one byte: status", "GET", "{session}");
        self.add(
            Request::new(
                "upload: POST with digest and bytes",
                "POST",
                &format!("{target}?digest={}", sha256(b"single")),
            )
            .with("Content-Type", OCTETS)
            .body("single"),
        );
    }

    fn blobs(&mut self) {
        let path = blob_path(REPOSITORY, &layer());
        let etag = format!("\"{}\"", sha256(&layer()));
        self.ask("blob: GET", "GET", &path);
        self.ask("blob: HEAD", "HEAD", &path);
        self.ask("blob: OPTIONS", "OPTIONS", &path);
        self.ask("blob: empty", "GET", &blob_path(REPOSITORY, b""));
        self.ask("blob: empty by HEAD", "HEAD", &blob_path(REPOSITORY, b""));
        self.ask("blob: of another repository", "GET", &blob_path("diff/two", &layer()));
        self.ask("blob: unknown by HEAD", "HEAD", &blob_path(REPOSITORY, b"unknown"));
        for method in ["POST", "PUT", "PATCH"] {
            self.add(Request::new(&format!("blob: {method}"), method, &path).body(""));
        }
        for range in [
            "bytes=0-0",
            "bytes=0-99",
            "bytes=9000-",
            "bytes=-100",
            "bytes=9999-9999",
            "bytes=9990-20000",
            "bytes=10000-",
            "bytes=20000-30000",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=",
            "items=0-1",
            "bytes=-0",
            "bytes=-20000",
            "bytes=0-9999",
            " bytes=0-1",
        ] {
            self.add(Request::get(&format!("blob: range {range}"), &path).with("Range", range));
        }
        self.add(Request::new("blob: range by HEAD", "HEAD", &path).with("Range", "bytes=0-9"));
        for (name, value) in [
            ("same", etag.as_str()),
            ("weak", &format!("W/{etag}")),
            ("any", "*"),
            ("other", "\"other\""),
            ("list", &format!("\"x\", {etag}")),
        ] {
            self.add(
                Request::get(&format!("blob: If-None-Match {name}"), &path)
                    .with("If-None-Match", value),
            );
        }
        self.add(
            Request::get("blob: If-Range same", &path)
                .with("If-Range", &etag)
                .with("Range", "bytes=0-9"),
        );
        self.add(
            Request::get("blob: If-Range other", &path)
                .with("If-Range", "\"o\"")
                .with("Range", "bytes=0-9"),
        );
        self.add(Request::get("blob: gzip wanted", &path).with("Accept-Encoding", "gzip"));
        self.add(Request::get("blob: JSON wanted", &path).with("Accept", "application/json"));
        self.ask("blob: with ns", "GET", &format!("{path}?ns=docker.io"));
    }

    fn mounts(&mut self) {
        let digest = sha256(&layer());
        let target = "/v2/diff/two/blobs/uploads/";
        for (name, query) in [
            ("known", format!("mount={digest}&from={REPOSITORY}")),
            ("known again", format!("mount={digest}&from={REPOSITORY}")),
            ("unknown digest", format!("mount={}&from={REPOSITORY}", sha256(b"unknown"))),
            ("unknown repository", format!("mount={digest}&from=diff/none")),
            ("wrong name", format!("mount={digest}&from=NO")),
            ("wrong digest", format!("mount=sha256:1&from={REPOSITORY}")),
            ("without from", format!("mount={}", sha256(b"whole"))),
        ] {
            self.add(
                Request::new(&format!("mount: {name}"), "POST", &format!("{target}?{query}"))
                    .body(""),
            );
        }
        self.ask("mount: is there", "HEAD", &blob_path("diff/two", &layer()));
    }

    fn put_manifest(&mut self, name: &str, reference: &str, kind: &str, bytes: &[u8]) {
        let target = format!("/v2/{REPOSITORY}/manifests/{reference}");
        self.add(Request::new(name, "PUT", &target).with("Content-Type", kind).body(bytes));
    }

    fn manifests(&mut self) {
        for (tag, kind, bytes) in good() {
            self.put_manifest(&format!("manifest: PUT {tag}"), tag, kind, &bytes);
        }
        let (_, kind, bytes) = image("docker", &[]);
        self.put_manifest("manifest: PUT again", "docker", kind, &bytes);
        self.put_manifest("manifest: PUT by digest", &sha256(&bytes), kind, &bytes);
        self.put_manifest("manifest: PUT by another digest", &sha256(b"x"), kind, &bytes);
        self.put_manifest(
            "manifest: PUT with parameters",
            "docker",
            &format!("{kind}; charset=utf-8"),
            &bytes,
        );
        for n in 0..5 {
            self.put_manifest(&format!("manifest: PUT tag {n}"), &format!("tag{n}"), kind, &bytes);
        }
        for method in ["POST", "PATCH", "OPTIONS"] {
            self.ask(
                &format!("manifest: {method}"),
                method,
                &format!("/v2/{REPOSITORY}/manifests/docker"),
            );
        }
    }

    fn wrong_manifests(&mut self) {
        let (_, docker, bytes) = image("docker", &[]);
        let oci = media_type::OCI_MANIFEST;
        let index = media_type::OCI_INDEX;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let change = |change: &dyn Fn(&mut Value)| {
            let mut value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            change(&mut value);
            value.to_string().into_bytes()
        };
        let missing = |count: usize| {
            let layers: Vec<Value> = (0..count)
                .map(|n| json!({"mediaType": media_type::DOCKER_LAYER, "size": 1, "digest": sha256(format!("none {n}").as_bytes())}))
                .collect();
            change(&|value| value["layers"] = json!(layers))
        };
        let cases: Vec<(&str, &str, Vec<u8>)> = vec![
            ("empty", docker, vec![]),
            ("not JSON", docker, b"no".to_vec()),
            ("cut off", docker, text.chars().take(100).collect::<String>().into_bytes()),
            ("a list", docker, b"[]".to_vec()),
            ("an empty object", docker, b"{}".to_vec()),
            ("null", docker, b"null".to_vec()),
            ("no type", "", bytes.clone()),
            ("another type", "application/json", bytes.clone()),
            ("text", "text/plain", bytes.clone()),
            ("type of OCI", oci, bytes.clone()),
            ("type of an index", index, bytes.clone()),
            ("schema version 1", docker, change(&|value| set(value, "/schemaVersion", json!(1)))),
            ("schema version 3", docker, change(&|value| set(value, "/schemaVersion", json!(3)))),
            ("no schema version", docker, change(&|value| drop(value.as_object_mut().map(|o| o.remove("schemaVersion"))))),
            ("one layer missing", docker, missing(1)),
            ("three layers missing", docker, missing(3)),
            ("a bad digest", docker, change(&|value| set(value, "/config/digest", json!("sha256:1")))),
            ("another size", docker, change(&|value| set(value, "/config/size", json!(1)))),
            ("a negative size", docker, change(&|value| set(value, "/config/size", json!(-1)))),
            ("no config", oci, json!({"schemaVersion": 2, "layers": []}).to_string().into_bytes()),
            ("an index with a missing child", index, json!({"schemaVersion": 2, "mediaType": index, "manifests": [{"mediaType": oci, "size": 2, "digest": sha256(b"{}")}]}).to_string().into_bytes()),
            ("an index with layers", index, json!({"schemaVersion": 2, "mediaType": index, "manifests": [], "layers": []}).to_string().into_bytes()),
            ("5 MB", docker, change(&|value| value["x"] = json!("x".repeat(5_000_000)))),
        ];
        for (name, kind, bytes) in cases {
            self.put_manifest(&format!("wrong manifest: {name}"), "wrong", kind, &bytes);
        }
        self.put_manifest("wrong manifest: tag", ".wrong", docker, &bytes);
        self.put_manifest("wrong manifest: digest", "sha256:1", docker, &bytes);
    }

    fn pulls(&mut self) {
        let accepts: &[(&str, Option<String>)] = &[
            ("nothing", None),
            ("anything", Some("*/*".to_owned())),
            ("all", Some(media_type::MANIFESTS.join(", "))),
            ("docker", Some(media_type::DOCKER_MANIFEST.to_owned())),
            ("OCI", Some(media_type::OCI_MANIFEST.to_owned())),
            ("list", Some(media_type::DOCKER_LIST.to_owned())),
            ("index", Some(media_type::OCI_INDEX.to_owned())),
            ("docker and JSON", Some(format!("{}, application/json", media_type::DOCKER_MANIFEST))),
        ];
        for (tag, _, bytes) in good() {
            for (what, accept) in accepts {
                for method in ["GET", "HEAD"] {
                    let target = format!("/v2/{REPOSITORY}/manifests/{tag}");
                    let mut request = Request::new(
                        &format!("pull: {method} {tag} accepting {what}"),
                        method,
                        &target,
                    );
                    if let Some(accept) = accept {
                        request = request.with("Accept", accept);
                    }
                    self.add(request);
                }
            }
            let target = format!("/v2/{REPOSITORY}/manifests/{}", sha256(&bytes));
            let all = media_type::MANIFESTS.join(", ");
            self.add(Request::get(&format!("pull: {tag} by digest"), &target).with("Accept", &all));
            self.add(
                Request::get(&format!("pull: {tag} that is known"), &target)
                    .with("Accept", &all)
                    .with("If-None-Match", &format!("\"{}\"", sha256(&bytes))),
            );
        }
        self.ask("pull: unknown tag", "GET", &format!("/v2/{REPOSITORY}/manifests/none"));
        self.ask("pull: unknown tag by HEAD", "HEAD", &format!("/v2/{REPOSITORY}/manifests/none"));
        self.ask(
            "pull: unknown digest",
            "GET",
            &format!("/v2/{REPOSITORY}/manifests/{}", sha256(b"?")),
        );
        self.ask("pull: unknown repository", "GET", "/v2/diff/none/manifests/latest");
    }

    fn lists(&mut self) {
        let tags = format!("/v2/{REPOSITORY}/tags/list");
        self.ask("list: tags", "GET", &tags);
        self.ask("list: tags by HEAD", "HEAD", &tags);
        self.ask("list: tags by POST", "POST", &tags);
        self.ask("list: tags of a repository without", "GET", "/v2/diff/two/tags/list");
        for query in
            ["n=2", "n=2&last=docker", "n=0", "n=-1", "n=x", "n=100000", "last=zzz", "last=tag1"]
        {
            self.ask(&format!("list: tags {query}"), "GET", &format!("{tags}?{query}"));
        }
        self.ask("list: catalogue", "GET", "/v2/_catalog");
        self.ask("list: catalogue by POST", "POST", "/v2/_catalog");
        for query in ["n=1", "n=1&last=diff/one", "n=0", "n=-1", "n=x", "n=100000", "last=zzz"] {
            self.ask(&format!("list: catalogue {query}"), "GET", &format!("/v2/_catalog?{query}"));
        }
    }

    fn deletes(&mut self) {
        let (_, _, docker) = image("docker", &[]);
        let (_, _, oci) = oci_image();
        let all = media_type::MANIFESTS.join(", ");
        let manifests = format!("/v2/{REPOSITORY}/manifests");
        self.ask(
            "delete: manifest by an unknown digest",
            "DELETE",
            &format!("{manifests}/{}", sha256(b"?")),
        );
        self.ask("delete: an unknown tag", "DELETE", &format!("{manifests}/none"));
        self.ask("delete: a tag", "DELETE", &format!("{manifests}/tag4"));
        self.ask(
            "delete: manifest by digest",
            "DELETE",
            &format!("{manifests}/{}", sha256(&docker)),
        );
        self.ask(
            "delete: manifest by digest, twice",
            "DELETE",
            &format!("{manifests}/{}", sha256(&docker)),
        );
        self.add(
            Request::get("delete: a tag of it", &format!("{manifests}/docker"))
                .with("Accept", &all),
        );
        self.add(
            Request::get("delete: another manifest", &format!("{manifests}/{}", sha256(&oci)))
                .with("Accept", &all),
        );
        self.ask("delete: tags that are left", "GET", &format!("/v2/{REPOSITORY}/tags/list"));
        self.ask("delete: an unknown blob", "DELETE", &blob_path(REPOSITORY, b"?"));
        self.ask("delete: a blob", "DELETE", &blob_path(REPOSITORY, b"whole"));
        self.ask("delete: a blob, twice", "DELETE", &blob_path(REPOSITORY, b"whole"));
        self.ask("delete: the blob is gone", "GET", &blob_path(REPOSITORY, b"whole"));
        self.ask("delete: the mounted one is not", "HEAD", &blob_path("diff/two", &layer()));
        self.ask("delete: in an unknown repository", "DELETE", &blob_path("diff/none", b"whole"));
    }
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    if let Some(place) = value.pointer_mut(pointer) {
        *place = new;
    }
}

type Manifest = (&'static str, &'static str, Vec<u8>);

/// One of each kind, with what they name.
fn good() -> Vec<Manifest> {
    let (_, _, docker) = image("docker", &[]);
    let (_, _, oci) = oci_image();
    let child = |kind: &str, bytes: &[u8]| {
        json!({"mediaType": kind, "size": bytes.len(), "digest": sha256(bytes),
            "platform": {"architecture": "amd64", "os": "linux"}})
    };
    let list = json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_LIST,
        "manifests": [child(media_type::DOCKER_MANIFEST, &docker)]});
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [child(media_type::OCI_MANIFEST, &oci)], "annotations": {"a": "b"}});
    vec![
        image("docker", &[]),
        oci_image(),
        ("list", media_type::DOCKER_LIST, list.to_string().into_bytes()),
        ("index", media_type::OCI_INDEX, index.to_string().into_bytes()),
    ]
}

fn image(tag: &'static str, more: &[Value]) -> Manifest {
    let (layer, config) = (layer(), config());
    let mut layers = vec![
        json!({"mediaType": media_type::DOCKER_LAYER, "size": layer.len(), "digest": sha256(&layer)}),
    ];
    layers.extend_from_slice(more);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": {"mediaType": media_type::DOCKER_CONFIG, "size": config.len(), "digest": sha256(&config)},
        "layers": layers,
    });
    (tag, media_type::DOCKER_MANIFEST, manifest.to_string().into_bytes())
}

fn oci_image() -> Manifest {
    let (layer, config) = (layer(), config());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "size": config.len(), "digest": sha256(&config)},
        "layers": [{"mediaType": media_type::OCI_LAYER_GZIP, "size": layer.len(), "digest": sha256(&layer)}],
        "unknown": {"kept": true},
    });
    ("oci", media_type::OCI_MANIFEST, manifest.to_string().into_bytes())
}
