//! An HTTP proxy that leads every tunnel to one address, so that a client can
//! use a name that no resolver knows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};

pub(super) struct Tunnel {
    url: String,
}

impl Tunnel {
    /// It ends with the runner.
    pub(super) fn start(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        let url = format!("http://{}", listener.local_addr()?);
        let target = target.to_owned();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let target = target.clone();
                // What goes wrong shows in what the client says.
                std::thread::spawn(move || drop(connect(&connection, &target)));
            }
        });
        Ok(Self { url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

fn connect(client: &TcpStream, target: &str) -> Result<()> {
    let mut lines = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    ensure!(line.starts_with("CONNECT "), "not a tunnel: {line}");
    while line != "\r\n" {
        line.clear();
        ensure!(lines.read_line(&mut line)? > 0, "the request broke off");
    }
    let server = TcpStream::connect(target)?;
    let mut writer = client;
    writer.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    std::thread::scope(|scope| {
        scope.spawn(|| forward(&mut lines, &server));
        forward(&mut &server, client);
    });
    Ok(())
}

fn forward(mut from: &mut impl std::io::Read, mut to: &TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
