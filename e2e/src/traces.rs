//! Traces on their way to a collector of OpenTelemetry: one that takes them,
//! and one that does nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::http::{array, text};
use crate::registry::Setup;
use crate::scenario::{Scenario, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::new("traces: a collector gets what a push and a pull did", 30, collected),
    Scenario::new("traces: a collector that hangs is in nobody's way", 60, hanging),
];

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// What `docker stop` waits for.
const STOP_LIMIT: Duration = Duration::from_secs(10);

fn to(listener: &TcpListener) -> Result<Setup<'static>> {
    Ok(Setup {
        environment: vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", listener.local_addr()?)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json".to_owned()),
            ("OTEL_SERVICE_NAME", "the registry".to_owned()),
        ],
        ..Setup::default()
    })
}

fn collected(stage: &Stage) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let bodies = Mutex::new(Vec::new());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for connection in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                // What went wrong shows in what is missing.
                let _ = connection.map(|connection| take(connection, &bodies));
            }
        });
        let played = stage.with_registry_set_up(&to(&listener)?, |registry| {
            let digest = registry.http.push_blob("team/app", b"layer")?;
            let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
            let headers = [("traceparent", parent.as_str())];
            let path = format!("/v2/team/app/blobs/{digest}");
            registry.http.send("GET", &path, &headers, &[] as &[u8])?.expect(200)?;
            Ok(())
        });
        over.store(true, Ordering::SeqCst);
        TcpStream::connect(listener.local_addr()?).context("cannot stop the collector")?;
        played
    })?;

    let bodies = bodies.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut names = Vec::new();
    for request in bodies.iter().flat_map(|body| array(body, "resourceSpans")) {
        let resource = request.pointer("/resource/attributes").map(Value::to_string);
        ensure!(resource.is_some_and(|named| named.contains("the registry")), "{request}");
        for span in array(request, "scopeSpans").iter().flat_map(|scope| array(scope, "spans")) {
            if text(span, "traceId")? == TRACE {
                names.push(text(span, "name")?);
            }
        }
    }
    for name in ["GET /v2/{name}/blobs/{digest}", "database read", "storage open", "send body"] {
        ensure!(names.contains(&name), "no span {name:?} of the pull: {names:?}");
    }
    Ok(())
}

/// Takes every request of a connection.
fn take(mut connection: TcpStream, bodies: &Mutex<Vec<Value>>) -> Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut input = BufReader::new(connection.try_clone()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse()?;
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        let body = serde_json::from_slice(&body)?;
        bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
    }
}

/// The kernel takes the connections; nobody reads.
fn hanging(stage: &Stage) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut registry = stage.start_registry("store", &to(&listener)?)?;
    let begin = Instant::now();
    for _ in 0..1000 {
        registry.http.get("/v2/")?.expect(200)?;
    }
    ensure!(begin.elapsed() < Duration::from_secs(20), "requests wait: {:?}", begin.elapsed());
    let begin = Instant::now();
    registry.stop()?;
    ensure!(begin.elapsed() < STOP_LIMIT, "the end waits: {:?}", begin.elapsed());
    let log = registry.log();
    ensure!(log.contains("the last traces could not be sent in time"), "{log}");
    Ok(())
}
