//! What a mapped file is on the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use net::Listener;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Writes it in vectors, as the HTTP library does.
async fn write(stream: &mut (impl AsyncWrite + Unpin), mut parts: Vec<Bytes>) {
    while !parts.is_empty() {
        let slices = parts.iter().map(|part| IoSlice::new(part)).collect::<Vec<_>>();
        let mut written = stream.write_vectored(&slices).await.unwrap();
        parts.retain_mut(|part| {
            let taken = written.min(part.len());
            part.advance(taken);
            written -= taken;
            !part.is_empty()
        });
    }
}

#[tokio::test]
async fn parts_of_files_and_memory_come_in_their_order() {
    let content: Vec<u8> = (0..=250).cycle().take(5_000_000).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let file: Arc<File> = Arc::new(file);
    // SAFETY: nobody else has the file.
    let whole = unsafe { sendfile::map(&file, content.len()) }.unwrap();

    let mut listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reading = std::thread::spawn(move || {
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        let mut read = Vec::new();
        socket.read_to_end(&mut read).unwrap();
        read
    });
    let (mut stream, _) = listener.accept().await;
    assert!(stream.sends_files());
    let parts = vec![
        Bytes::from_static(b"head"),
        whole.slice(1..70_001),
        Bytes::from_static(b"between"),
        Bytes::from_static(b"and"),
        whole.slice(100_000..4_900_000),
        whole.slice(..1),
        Bytes::from_static(b"end"),
    ];
    let expected = parts.concat();
    write(&mut stream, parts).await;
    stream.shutdown().await.unwrap();
    drop(stream);
    let read = tokio::task::spawn_blocking(|| reading.join().unwrap()).await.unwrap();
    assert!(read == expected, "{} bytes instead of {}", read.len(), expected.len());
}
