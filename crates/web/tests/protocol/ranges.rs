//! Parts of blobs: `Range` and `If-Range`.

use http::Method;

use crate::support::{Answer, TestRegistry, sha256};

const CONTENT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

async fn get_range(registry: &TestRegistry, range: &str) -> Answer {
    let digest = registry.push_blob("a/b", CONTENT).await;
    let request = registry.request(Method::GET, format!("/v2/a/b/blobs/{digest}"));
    request.header("range", range).send().await
}

#[tokio::test]
async fn one_range() {
    let registry = TestRegistry::new().await;
    for (range, expected, place) in [
        ("bytes=0-0", &b"0"[..], "0-0"),
        ("bytes=0-9", b"0123456789", "0-9"),
        ("bytes=10-12", b"abc", "10-12"),
        ("bytes=33-", b"xyz", "33-35"),
        ("bytes=-3", b"xyz", "33-35"),
        ("bytes=34-99999999", b"yz", "34-35"),
        ("bytes=0-", CONTENT, "0-35"),
        ("bytes=-99999999", CONTENT, "0-35"),
        ("bytes=35-99999999999999999999999999", b"z", "35-35"),
        ("BYTES = 1-2", b"", ""),
        ("bytes=1-2,", b"12", "1-2"),
        // Of two, one is beyond the end.
        ("bytes=1-2,100-200", b"12", "1-2"),
        // Overlapping ones are one.
        ("bytes=1-3,2-5", b"12345", "1-5"),
    ] {
        let answer = get_range(&registry, range).await;
        if place.is_empty() {
            assert_eq!(&answer.status(200).body[..], CONTENT);
            continue;
        }
        let answer = answer.status(206);
        assert_eq!(&answer.body[..], expected, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {place}/36"), "{range}");
        assert_eq!(answer.header("content-length"), expected.len().to_string(), "{range}");
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("docker-content-digest"), sha256(CONTENT));
        assert_eq!(answer.header("etag"), format!("\"{}\"", sha256(CONTENT)));
    }
}

#[tokio::test]
async fn ranges_that_select_nothing() {
    let registry = TestRegistry::new().await;
    for range in
        ["bytes=500-0", "bytes=36-", "bytes=36-40", "bytes=5000-10000", "bytes=-0", "bytes=9-8,50-"]
    {
        let answer = get_range(&registry, range).await.refused(416, "RANGE_INVALID");
        assert_eq!(answer.header("content-range"), "bytes */36");
    }
    let empty = registry.push_blob("a/b", b"").await;
    let request = registry.request(Method::GET, format!("/v2/a/b/blobs/{empty}"));
    let answer = request.header("range", "bytes=0-0").send().await;
    assert_eq!(answer.refused(416, "RANGE_INVALID").header("content-range"), "bytes */0");
}

/// RFC 9110 §14.2: a server ignores what it does not understand.
#[tokio::test]
async fn what_is_not_a_range_is_ignored() {
    let registry = TestRegistry::new().await;
    for range in ["bytes=", "bytes=a-b", "bytes=1", "chapters=1-2", "bytes 1-2", "bytes=1-2-3", "-"]
    {
        let answer = get_range(&registry, range).await.status(200);
        assert_eq!(&answer.body[..], CONTENT, "{range}");
        assert_eq!(answer.get("content-range"), None);
    }
}

#[tokio::test]
async fn ranges_are_for_get_only() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("a/b", CONTENT).await;
    let request = registry.request(Method::HEAD, format!("/v2/a/b/blobs/{digest}"));
    let answer = request.header("range", "bytes=0-1").send().await.status(200);
    assert_eq!(answer.header("content-length"), "36");
}

#[tokio::test]
async fn several_ranges_come_as_parts() {
    let registry = TestRegistry::new().await;
    let answer = get_range(&registry, "bytes=30-32, 0-1 ,-2").await.status(206);
    assert_eq!(answer.get("content-range"), None, "each part has its own");
    assert_eq!(
        parts(&answer),
        [
            ("bytes 30-32/36".to_owned(), b"uvw".to_vec()),
            ("bytes 0-1/36".to_owned(), b"01".to_vec()),
            ("bytes 34-35/36".to_owned(), b"yz".to_vec()),
        ]
    );
}

/// RFC 2046 §5.1.1: strict readers take no more than 70 characters.
#[tokio::test]
async fn the_boundary_is_short() {
    let registry = TestRegistry::new().await;
    let answer = get_range(&registry, "bytes=0-1,5-6").await.status(206);
    let boundary = answer.header("content-type").split_once("boundary=").unwrap().1;
    assert!((1..=70).contains(&boundary.len()), "{boundary}");
}

#[tokio::test]
async fn at_most_32_ranges_are_served() {
    let registry = TestRegistry::new().await;
    let ranges = |count: usize| {
        let ranges = (0..count).map(|at| format!("{at}-{at}")).collect::<Vec<_>>();
        format!("bytes={}", ranges.join(","))
    };
    let answer = get_range(&registry, &ranges(32)).await.status(206);
    let parts = parts(&answer);
    assert_eq!(parts.len(), 32);
    for (at, (range, content)) in parts.iter().enumerate() {
        assert_eq!(*range, format!("bytes {at}-{at}/36"));
        assert_eq!(content[..], CONTENT[at..=at]);
    }
    let answer = get_range(&registry, &ranges(33)).await.status(200);
    assert_eq!(&answer.body[..], CONTENT);
}

/// Ranges may not make an answer longer than the blob.
#[tokio::test]
async fn ranges_that_repeat_the_blob_are_answered_with_the_blob() {
    let registry = TestRegistry::new().await;
    let answer = get_range(&registry, "bytes=0-,0-,0-,0-").await.status(200);
    assert_eq!(&answer.body[..], CONTENT);
}

#[tokio::test]
async fn if_range_asks_for_the_part_of_this_very_content() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("a/b", CONTENT).await;
    for (value, status) in [
        (format!("\"{digest}\""), 206),
        (format!("\"{}\"", sha256(b"other")), 200),
        // A weak tag does not do (RFC 9110 §13.1.5), and there is no date to compare.
        (format!("W/\"{digest}\""), 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT".to_owned(), 200),
    ] {
        let request = registry.request(Method::GET, format!("/v2/a/b/blobs/{digest}"));
        let request = request.header("range", "bytes=0-1").header("if-range", &value);
        let answer = request.send().await.status(status);
        assert_eq!(answer.body.len(), if status == 206 { 2 } else { 36 }, "{value}");
    }
}

/// RFC 9110 §13.2.2: `If-None-Match` is looked at before `Range`.
#[tokio::test]
async fn nothing_is_sent_to_a_client_that_has_it_all() {
    let registry = TestRegistry::new().await;
    let digest = registry.push_blob("a/b", CONTENT).await;
    let request = registry.request(Method::GET, format!("/v2/a/b/blobs/{digest}"));
    let request = request.header("range", "bytes=99-").header("if-none-match", "*");
    request.send().await.expect(304);
}

/// Takes a multipart/byteranges body apart (RFC 2046 §5.1.1) and checks its form.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let boundary = answer
        .header("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap_or_else(|| panic!("{answer}"));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let delimiter = format!("\r\n--{boundary}");
    let mut pieces = text.split(&delimiter);
    assert_eq!(pieces.next(), Some(""), "nothing before the first part");
    let mut pieces = pieces.collect::<Vec<_>>();
    assert_eq!(pieces.pop(), Some("--\r\n"), "the end is marked");
    pieces
        .iter()
        .map(|piece| {
            let (head, content) = piece.split_once("\r\n\r\n").unwrap();
            let mut lines = head.split("\r\n");
            assert_eq!(lines.next(), Some(""));
            assert_eq!(lines.next(), Some("Content-Type: application/octet-stream"));
            let range = lines.next().and_then(|line| line.strip_prefix("Content-Range: ")).unwrap();
            assert_eq!(lines.next(), None);
            (range.to_owned(), content.as_bytes().to_vec())
        })
        .collect()
}
