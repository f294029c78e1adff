use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::server::Shutdown;

/// Longer than it takes to be quiet.
const LONG: Duration = Duration::from_secs(5);

const HELLO: &str = "GET /hello HTTP/1.1\r\n\r\n";

/// Much more than is on its way at once.
const LARGE: usize = 100_000;

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// Says what it was asked for.
async fn echo(request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let mut said = match head.uri.path() {
        "/large" | "/early" => vec![b'a'; LARGE],
        path => path.to_owned().into_bytes(),
    };
    match head.uri.path() {
        "/slow" => sleep(LONG).await,
        "/early" => {
            // Is read in the background when it was answered.
            tokio::spawn(body.collect());
            return Ok(Response::new(said.into()));
        }
        _ => {}
    }
    said.extend(body.collect().await.map(Collected::to_bytes).unwrap_or_default());
    Ok(Response::new(said.into()))
}

/// A connection that is served, from its client's side.
struct Client {
    io: DuplexStream,
    serving: JoinHandle<bool>,
    shutdown: Shutdown,
    begin: Instant,
}

impl Client {
    fn connect() -> Self {
        let (io, served) = duplex(1000);
        let shutdown = Shutdown::default();
        let ending = shutdown.ending();
        let serving = async { serve(served, &service_fn(echo), Peer::Unix, ending).await };
        Self { io, serving: tokio::spawn(serving), shutdown, begin: Instant::now() }
    }

    async fn send(&mut self, bytes: &str) {
        self.io.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// The body of the next answer.
    async fn answer(&mut self) -> String {
        answer(&mut self.io).await
    }

    /// Whether it ended badly, and after how many seconds.
    async fn end(self) -> (bool, u64) {
        let failed = self.serving.await.unwrap();
        (failed, self.begin.elapsed().as_secs())
    }
}

async fn answer(io: &mut DuplexStream) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(io.read_u8().await.unwrap().into());
    }
    assert!(head.contains(" 200 OK"), "{head}");
    let length = head.split_once("content-length: ").unwrap().1.split_once('\r').unwrap().0;
    let mut body = vec![0; length.parse().unwrap()];
    io.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

/// What was heard and not answered when a connection that has just `said` something is quiet.
async fn left_when_quiet(said: &str, answers: usize) -> String {
    let (mut io, served) = duplex(1000);
    let shutdown = Shutdown::default();
    let mut ending = shutdown.ending();
    io.write_all(said.as_bytes()).await.unwrap();
    let service = service_fn(echo);
    let idle = Idle { wire: Wire::new(served), since: Instant::now() };
    let answering = async {
        for _ in 0..answers {
            answer(&mut io).await;
        }
    };
    let (end, ()) = tokio::join!(converse(idle, &service, Peer::Unix, &mut ending), answering);
    let Conversed::Quiet(mut idle) = end else { panic!("it has ended") };
    drop(io);
    let mut left = String::new();
    idle.wire.read_to_string(&mut left).await.unwrap();
    left
}

#[tokio::test(start_paused = true)]
async fn hyper_gives_back_what_is_quiet() {
    assert_eq!(left_when_quiet(HELLO, 1).await, "");
    assert_eq!(left_when_quiet("GET /half", 0).await, "GET /half");
    assert_eq!(left_when_quiet(&HELLO.repeat(20), 20).await, "");
    assert_eq!(left_when_quiet(&format!("{HELLO}{HELLO}GET"), 2).await, "GET");
}

#[tokio::test(start_paused = true)]
async fn who_was_quiet_is_answered() {
    let mut client = Client::connect();
    for _ in 0..5 {
        sleep(9 * LONG).await;
        client.send(HELLO).await;
        assert_eq!(client.answer().await, "/hello");
    }
    client.send(&format!("{HELLO}GET /a")).await;
    assert_eq!(client.answer().await, "/hello");
    sleep(LONG).await;
    client.send("b HTTP/1.1\r").await;
    sleep(LONG).await;
    client.send(&format!("\n\r\n{HELLO}")).await;
    assert_eq!(client.answer().await, "/ab");
    assert_eq!(client.answer().await, "/hello");
}

#[tokio::test(start_paused = true)]
async fn who_stays_silent_is_cut() {
    let client = Client::connect();
    assert_eq!(client.end().await, (true, 60));

    let mut client = Client::connect();
    sleep(LONG).await;
    client.send(HELLO).await;
    client.answer().await;
    sleep(LONG).await;
    assert_eq!(client.end().await, (true, 65));
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut() {
    let mut client = Client::connect();
    client.send(HELLO).await;
    client.answer().await;
    let dribbling = async {
        while client.io.write_all(b"G").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let (failed, ()) = tokio::join!(client.serving, dribbling);
    assert!(failed.unwrap());
    assert_eq!(client.begin.elapsed().as_secs(), 61, "it is found out by the next byte");
}

#[tokio::test(start_paused = true)]
async fn slow_work_is_not_quiet() {
    let mut client = Client::connect();
    // The answer takes its time.
    client.send("GET /slow HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await, "/slow");
    // The client does, with what it sends.
    client.send("PUT /put HTTP/1.1\r\ncontent-length: 4\r\n\r\n").await;
    for _ in 0..4 {
        sleep(20 * LONG).await;
        client.send("x").await;
    }
    assert_eq!(client.answer().await, "/putxxxx");
    // And with what it takes.
    client.send("GET /large HTTP/1.1\r\n\r\n").await;
    let mut taken = Vec::new();
    while taken.len() < LARGE {
        sleep(LONG).await;
        let mut piece = [0; 5000];
        let length = client.io.read(&mut piece).await.unwrap();
        taken.extend_from_slice(&piece[..length]);
    }
    sleep(LONG).await;
    client.send(HELLO).await;
    assert!(client.io.read(&mut [0; 5000]).await.unwrap() > 0);
    client.io.shutdown().await.unwrap();
    assert!(!client.end().await.0);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_never_taken_for_a_request() {
    let mut client = Client::connect();
    let length = 2 * HELLO.len();
    let early = format!("PUT /early HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
    client.send(&early).await;
    assert_eq!(client.answer().await.len(), LARGE);
    for _ in 0..2 {
        sleep(LONG).await;
        client.send(HELLO).await;
    }
    // It has come in whole before the answer has left.
    client.send(&early).await;
    sleep(LONG).await;
    client.send(&HELLO.repeat(2)).await;
    sleep(LONG).await;
    assert_eq!(client.answer().await.len(), LARGE);
    client.send(HELLO).await;
    assert_eq!(client.answer().await, "/hello");
    client.io.shutdown().await.unwrap();
    assert_eq!(client.io.read(&mut [0; 10]).await.unwrap(), 0);
    assert!(!client.end().await.0);
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_one_side_says_so() {
    for last in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nconnection: close\r\n\r\n"] {
        let mut client = Client::connect();
        client.send(HELLO).await;
        client.answer().await;
        sleep(LONG).await;
        client.send(last).await;
        client.answer().await;
        assert_eq!(client.end().await, (false, 5));
    }

    let mut client = Client::connect();
    client.send("GET /slow HTTP/1.1\r\n\r\n").await;
    client.io.shutdown().await.unwrap();
    assert_eq!(client.answer().await, "/slow");
    assert_eq!(client.end().await, (false, 5));

    let mut client = Client::connect();
    sleep(LONG).await;
    client.io.shutdown().await.unwrap();
    assert_eq!(client.end().await, (false, 5));

    let mut client = Client::connect();
    client.send("GET /half").await;
    sleep(LONG).await;
    client.io.shutdown().await.unwrap();
    assert_eq!(client.end().await, (true, 5));
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_changes_nothing_any_more() {
    for method in ["PUT", "POST", "PATCH", "DELETE"] {
        let mut client = Client::connect();
        client.send(&format!("{method} /slow HTTP/1.1\r\ncontent-length: 0\r\n\r\n")).await;
        sleep(LONG / 2).await;
        client.io.shutdown().await.unwrap();
        assert_eq!(client.end().await, (true, 2), "{method}");
    }
    // Also if nothing was done yet when that was seen.
    let mut client = Client::connect();
    client.io.write_all(b"DELETE /slow HTTP/1.1\r\n\r\n").await.unwrap();
    client.io.shutdown().await.unwrap();
    assert_eq!(client.end().await, (true, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_quiet_ends_with_the_server() {
    for said in ["", HELLO, "GET /half"] {
        let mut client = Client::connect();
        client.send(said).await;
        if said == HELLO {
            client.answer().await;
        }
        sleep(LONG).await;
        assert!(client.shutdown.run(LONG).await);
        assert!(!client.serving.await.unwrap());
        assert!(client.begin.elapsed() <= LONG + 2 * LAST_CALL);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_when_the_server_ended_is_answered() {
    let mut client = Client::connect();
    client.send("GET /ha").await;
    sleep(LONG).await;
    let ending = tokio::spawn(client.shutdown.run(4 * LONG));
    sleep(LAST_CALL / 2).await;
    client.io.write_all(b"lf HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut client.io).await, "/half");
    assert!(ending.await.unwrap());
    assert!(!client.serving.await.unwrap());
}
