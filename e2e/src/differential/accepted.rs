//! Where the registry answers otherwise than docker-registry 2.8.2, on
//! purpose. Each reason stands in `docs/migrate.md` too.

use super::Difference;

pub(super) struct Accepted {
    /// Beginnings of the names of requests.
    requests: &'static [&'static str],
    /// `status`, `body` or headers; none are all.
    aspects: &'static [&'static str],
    /// What the other answer begins with.
    theirs: &'static str,
    pub(super) reason: &'static str,
}

impl Accepted {
    pub(super) fn covers(&self, request: &str, difference: &Difference) -> bool {
        self.requests.iter().any(|start| request.starts_with(start))
            && (self.aspects.is_empty() || self.aspects.contains(&difference.aspect))
            && difference.theirs.starts_with(self.theirs)
    }
}

const fn accepted(
    requests: &'static [&'static str],
    aspects: &'static [&'static str],
    reason: &'static str,
) -> Accepted {
    Accepted { requests, aspects, theirs: "", reason }
}

pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        requests: &[""],
        aspects: &["content-type"],
        theirs: "application/json; charset=utf-8",
        reason: "The type of a JSON answer is `application/json`, as in registry:3.",
    },
    accepted(&["list: "], &["content-length"], "A JSON answer does not end with a line feed."),
    accepted(
        &["root "],
        &["x-content-type-options", "content-length"],
        "`http.headers` are on every answer, also that of `/`.",
    ),
    accepted(&["base POST", "base PUT", "base DELETE"], &[], "`/v2/` takes GET and HEAD only."),
    accepted(
        &["base without slash", "path: not of the API", "path: version 1"],
        &[
            "docker-distribution-api-version",
            "content-length",
            "content-type",
            "body",
            "x-content-type-options",
        ],
        "Outside `/v2/` there is no `Docker-Distribution-Api-Version`; a redirection has no page.",
    ),
    accepted(
        &["path: below base", "path: a repository alone", "path: unknown below"],
        &["content-type", "body"],
        "Every error under `/v2/` has a JSON body with a code; there is no plain text.",
    ),
    accepted(&["path: referrers"], &[], "There is a referrers API."),
    accepted(
        &[
            "name: ",
            "tag: ",
            "digest: ",
            "wrong manifest: tag",
            "wrong manifest: digest",
            "wrong manifest: a bad digest",
        ],
        &["status", "content-type", "body"],
        "A wrong name, tag or digest is 400 with its code, not a page that was not found, nor 500.",
    ),
    accepted(
        &[
            "upload: GET without",
            "upload: HEAD without",
            "upload: PUT without",
            "upload: PATCH without",
            "upload: DELETE without",
        ],
        &["status", "allow", "body"],
        "The place where uploads begin takes POST only: 405.",
    ),
    accepted(
        &["upload: POST without the slash"],
        &[],
        "An upload may begin without the slash at the end of its path.",
    ),
    accepted(
        &[
            "upload: status of an unknown",
            "upload: cancel an unknown",
            "upload: PATCH of an unknown",
        ],
        &["body"],
        "An unknown upload is `BLOB_UPLOAD_UNKNOWN`; there is no signed state that could be wrong.",
    ),
    accepted(
        &["upload: cancel"],
        &["docker-upload-uuid"],
        "The answer to a cancelled upload does not name it.",
    ),
    accepted(&["upload: types: "], &[], "A chunk of any `Content-Type` is taken: the bytes count."),
    accepted(
        &["upload: ranges: "],
        &[],
        "`Content-Range` of a chunk is checked: 416 for a wrong start, 400 for a wrong length.",
    ),
    accepted(
        &["upload: POST with digest and bytes"],
        &[],
        "A POST with `digest` and the bytes stores the blob.",
    ),
    accepted(
        &["base OPTIONS"],
        &["allow", "content-type", "content-length", "body"],
        "OPTIONS of `/v2/` names the methods, like that of any other path.",
    ),
    accepted(
        &["blob: P", "manifest: P", "list: tags by POST", "list: catalogue by POST"],
        &["content-type", "content-length", "body"],
        "405 has a JSON body with a code.",
    ),
    accepted(
        &["list: tags by HEAD", "list: catalogue by"],
        &["status", "allow"],
        "HEAD is answered wherever GET is.",
    ),
    accepted(
        &["blob: range bytes=10000-", "blob: range bytes=20000-", "blob: range bytes=5-4"],
        &[],
        "416 has a JSON body, and only headers about it.",
    ),
    accepted(
        &[
            "blob: range bytes=a-b",
            "blob: range items",
            "blob: range bytes=-0",
            "blob: range by HEAD",
        ],
        &[],
        "Ranges follow RFC 9110: an unknown unit or syntax gives the whole, `-0` gives 416, HEAD has no ranges.",
    ),
    accepted(&["mount: wrong"], &[], "A mount with a wrong name or digest is 400."),
    accepted(&["mount: without from"], &[], "A mount without `from` finds the blob by itself."),
    accepted(
        &["wrong manifest: no type"],
        &[],
        "A manifest without `Content-Type` is taken by its `mediaType`.",
    ),
    accepted(
        &[
            "wrong manifest: schema version",
            "wrong manifest: no schema version",
            "wrong manifest: no config",
            "wrong manifest: a negative size",
        ],
        &[],
        "A manifest that breaks its schema is 400 `MANIFEST_INVALID`.",
    ),
    accepted(&["wrong manifest: 5 MB"], &[], "A manifest over 4 MiB is 413."),
    accepted(
        &["pull: GET", "pull: HEAD"],
        &[],
        "A client that sends no `Accept`, or `*/*`, gets what was pushed; what it does not accept is 404.",
    ),
    accepted(
        &["pull: docker that", "pull: oci that", "pull: list that", "pull: index that"],
        &["docker-content-digest", "etag"],
        "304 carries `ETag` and `Docker-Content-Digest`.",
    ),
    accepted(
        &["list: tags", "delete: tags that"],
        &[],
        "Tags are sorted, and paged with `n` and `last`, as in registry:3.",
    ),
    accepted(
        &["list: catalogue"],
        &["status", "body", "link"],
        "The catalogue leaves out repositories without manifests, and refuses a wrong `n`.",
    ),
    accepted(
        &["delete: a tag", "delete: an unknown tag"],
        &[],
        "A tag can be deleted by its name, as in registry:3.",
    ),
];
