//! Sockets that systemd opened for us (`sd_listen_fds(3)`).

use std::io;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::listener::BindError;

/// What was handed down.
#[derive(Debug)]
pub(crate) enum Inherited {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// The socket that this process was started with, if it was started by one.
///
/// More than one is an error: nobody could say which is for clients.
pub(crate) fn take() -> Result<Option<Inherited>, BindError> {
    // The library takes sockets that are meant for another process when it is not told which.
    let own = std::process::id().to_string();
    if std::env::var("LISTEN_PID").ok().as_deref() != Some(own.as_str()) {
        return Ok(None);
    }
    adopt(ListenFd::from_env())
}

fn adopt(mut sockets: ListenFd) -> Result<Option<Inherited>, BindError> {
    let failed = |source| BindError::new("the socket from systemd", source);
    match sockets.len() {
        0 => return Ok(None),
        1 => {}
        count => {
            let message = format!("expected one socket, found {count} (LISTEN_FDS)");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, message)));
        }
    }
    if let Ok(Some(socket)) = sockets.take_tcp_listener(0)
        && SockRef::from(&socket).is_listener().unwrap_or(false)
    {
        return Ok(Some(Inherited::Tcp(socket)));
    }
    match sockets.take_unix_listener(0) {
        Ok(Some(socket)) if SockRef::from(&socket).is_listener().unwrap_or(false) => {
            Ok(Some(Inherited::Unix(socket)))
        }
        _ => Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "expected a socket that listens for streams (ListenStream= and Accept=no)",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Command, Output, Stdio};

    use crate::Listener;

    /// Runs the test below in a process of its own, with `socket` as systemd hands it down but for
    /// its number, and `sockets` announced.
    fn activate(socket: impl Into<OwnedFd>, sockets: &str, pid: &str) -> Output {
        let script = format!("LISTEN_PID={pid} exec \"$0\" --exact --nocapture \"$1\"");
        Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .arg("activation::tests::greet_one_client_of_the_inherited_socket")
            .env("LISTEN_FDS", sockets)
            .env("LISTEN_FDS_FIRST_FD", "0")
            .stdin(Stdio::from(socket.into()))
            .output()
            .unwrap()
    }

    #[tokio::test]
    async fn greet_one_client_of_the_inherited_socket() {
        use tokio::io::AsyncWriteExt;
        match Listener::inherited() {
            Ok(Some(mut listener)) => {
                let (mut stream, _) = listener.accept().await;
                stream.write_all(b"hello").await.unwrap();
                assert!(Listener::inherited().unwrap().is_none(), "it is taken once");
            }
            Ok(None) => println!("nothing inherited"),
            Err(error) => println!("{error}"),
        }
    }

    fn text(output: &Output) -> String {
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn a_tcp_socket_is_taken_over() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let output = activate(socket, "1", "$$");
        assert!(output.status.success(), "{}", text(&output));
        let mut greeting = String::new();
        client.read_to_string(&mut greeting).unwrap();
        assert_eq!(greeting, "hello");
    }

    #[test]
    fn a_unix_socket_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixListener::bind(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let output = activate(socket, "1", "$$");
        assert!(output.status.success(), "{}", text(&output));
        let mut greeting = String::new();
        client.read_to_string(&mut greeting).unwrap();
        assert_eq!(greeting, "hello");
        assert!(path.exists(), "it belongs to systemd");
    }

    #[test]
    fn what_is_meant_for_another_process_is_left_alone() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let output = activate(socket, "1", "1");
        assert!(text(&output).contains("nothing inherited"), "{}", text(&output));
    }

    #[test]
    fn what_can_not_be_used_is_one_clear_line() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let output = activate(socket, "2", "$$");
        assert!(text(&output).contains("expected one socket, found 2"), "{}", text(&output));

        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"x").unwrap();
        let output = activate(far, "1", "$$");
        assert!(text(&output).contains("expected a socket that listens"), "{}", text(&output));
    }
}
