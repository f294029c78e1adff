//! The floors: the least that a program does which does the same work. It runs as a process of its
//! own, started by `orlop-bench bare`, and is measured like every other server.

mod answer;
mod receive;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Serves until the process is ended. Whoever pulls is answered by hyper from memory; whoever
/// pushes has a thread that receives, hashes and writes. Files are read from and written to
/// `folder`.
pub(crate) fn serve(address: SocketAddr, folder: &Path) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let (hand_over, pulling) = unbounded_channel();
    let folder: Arc<Path> = folder.into();
    let files = Arc::clone(&folder);
    thread::spawn(move || answer::serve(&files, pulling));
    for stream in listener.incoming() {
        let stream = stream.context("cannot accept a connection")?;
        let (hand_over, folder) = (hand_over.clone(), Arc::clone(&folder));
        thread::spawn(move || {
            if let Err(error) = take(stream, &hand_over, &folder) {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

/// POST, PUT and PATCH begin with the same letter.
fn take(
    stream: TcpStream,
    hand_over: &UnboundedSender<TcpStream>,
    folder: &Path,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    stream.peek(&mut first)?;
    if first == *b"P" {
        return receive::serve(stream, folder);
    }
    stream.set_nonblocking(true)?;
    hand_over.send(stream).context("nobody answers any more")
}
