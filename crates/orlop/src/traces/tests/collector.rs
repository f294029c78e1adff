//! A collector that keeps what it is sent, and reads both forms of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

pub(super) struct Collector {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
    /// Of the requests that were taken.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// Status lines, and headers, for the next requests.
    refusals: VecDeque<String>,
    received: Vec<Received>,
}

/// A request that was taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) head: String,
    pub(super) resource: Vec<(String, String)>,
    pub(super) spans: Vec<Seen>,
}

/// A span.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) state: String,
    /// Empty if there is none.
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) kind: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) failed: bool,
    pub(super) flags: u64,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let count = watch::Sender::new(0);
        let (shared, counted) = (Arc::clone(&state), count.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), counted.clone()));
            }
        });
        Self { url, state, count }
    }

    /// Answers the next request with this.
    pub(super) fn refuse(&self, status: &str) {
        self.state().refusals.push_back(status.to_owned());
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    pub(super) async fn until_received(&self, requests: usize) {
        let mut count = self.count.subscribe();
        let enough = count.wait_for(|count| *count >= requests);
        timeout(Duration::from_secs(20), enough).await.expect("nothing came").unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, count: watch::Sender<usize>) {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let head = end.map(|end| String::from_utf8(bytes[..end + 2].to_vec()).unwrap());
        let length = head.as_ref().map(|head| {
            let length = head.split_once("content-length: ").unwrap().1;
            length.split_once('\r').unwrap().0.parse::<usize>().unwrap()
        });
        let (Some(end), Some(head), Some(length)) = (end.map(|end| end + 4), head, length) else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        while bytes.len() < end + length {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        }
        let body: Vec<u8> = bytes.drain(..end + length).skip(end).collect();
        let refusal = state.lock().unwrap().refusals.pop_front();
        let status = refusal.unwrap_or_else(|| {
            state.lock().unwrap().received.push(read(head, &body));
            count.send_modify(|count| *count += 1);
            "200 OK".to_owned()
        });
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn read(head: String, body: &[u8]) -> Received {
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let (resource, spans) = if head.contains("content-type: application/json\r\n") {
        read_json(&serde_json::from_slice(body).unwrap())
    } else {
        assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
        read_protobuf(body)
    };
    Received { path, head, resource, spans }
}

type Pairs = Vec<(String, String)>;

fn read_json(request: &Json) -> (Pairs, Vec<Seen>) {
    let all = &request["resourceSpans"][0];
    let pairs = |list: &Json| -> Pairs {
        let pair = |pair: &Json| {
            let value = pair["value"].as_object().unwrap().values().next().unwrap();
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (pair["key"].as_str().unwrap().to_owned(), value)
        };
        list.as_array().unwrap().iter().map(pair).collect()
    };
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    let spans = all["scopeSpans"][0]["spans"].as_array().unwrap().iter().map(|span| Seen {
        trace: text(&span["traceId"]),
        id: text(&span["spanId"]),
        state: text(&span["traceState"]),
        parent: text(&span["parentSpanId"]),
        name: text(&span["name"]),
        kind: span["kind"].as_u64().unwrap(),
        start: text(&span["startTimeUnixNano"]).parse().unwrap(),
        end: text(&span["endTimeUnixNano"]).parse().unwrap(),
        attributes: pairs(&span["attributes"]).into_iter().collect(),
        failed: span["status"]["code"] == 2,
        flags: span["flags"].as_u64().unwrap(),
    });
    (pairs(&all["resource"]["attributes"]), spans.collect())
}

/// A field of a message: a number, or bytes.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> u64 {
        let Self::Number(number) = self else { panic!("no number") };
        *number
    }

    fn bytes(&self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("no bytes") };
        bytes
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    fn hex(&self) -> String {
        let digits =
            |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
        self.bytes().iter().flat_map(digits).flatten().collect()
    }
}

fn fields(mut rest: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let mut take = |length: usize| {
            let (taken, after) = rest.split_at(length);
            rest = after;
            taken
        };
        let field = match tag & 7 {
            1 => Field::Number(u64::from_le_bytes(take(8).try_into().unwrap())),
            5 => Field::Number(u32::from_le_bytes(take(4).try_into().unwrap()).into()),
            0 => Field::Number(varint(&mut rest)),
            2 => {
                let length = varint(&mut rest);
                let (taken, after) = rest.split_at(usize::try_from(length).unwrap());
                rest = after;
                Field::Bytes(taken)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in 0.. {
        let (byte, after) = rest.split_first().unwrap();
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn all(message: &[u8], number: u64) -> Vec<Field<'_>> {
    let of_number = |(found, field)| (found == number).then_some(field);
    fields(message).into_iter().filter_map(of_number).collect()
}

fn pair(message: &[u8]) -> (String, String) {
    let value = all(message, 2).remove(0);
    let value = match fields(value.bytes()).remove(0) {
        (1, text) => text.text(),
        (_, number) => number.number().to_string(),
    };
    (all(message, 1).remove(0).text(), value)
}

fn read_protobuf(request: &[u8]) -> (Pairs, Vec<Seen>) {
    let resource_spans = all(request, 1).remove(0).bytes();
    let resource = all(resource_spans, 1).remove(0);
    let resource = all(resource.bytes(), 1).iter().map(|field| pair(field.bytes())).collect();
    let scope_spans = all(resource_spans, 2).remove(0);
    let spans = all(scope_spans.bytes(), 2).iter().map(|span| read_span(span.bytes())).collect();
    (resource, spans)
}

fn read_span(message: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for (number, field) in fields(message) {
        match number {
            1 => seen.trace = field.hex(),
            2 => seen.id = field.hex(),
            3 => seen.state = field.text(),
            4 => seen.parent = field.hex(),
            5 => seen.name = field.text(),
            6 => seen.kind = field.number(),
            7 => seen.start = field.number(),
            8 => seen.end = field.number(),
            9 => seen.attributes.extend([pair(field.bytes())]),
            15 => seen.failed = all(field.bytes(), 3).iter().any(|code| code.number() == 2),
            16 => seen.flags = field.number(),
            other => panic!("field {other}"),
        }
    }
    seen
}
