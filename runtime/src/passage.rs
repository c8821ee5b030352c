//! How healthd gets connections to a virtual address that go by way of one real server.
//!
//! Only agent-l4 may mark packets, so it makes the socket, marked and bound, and passes it on; healthd
//! connects it and speaks. One connection to agent-l4 is one socket: the name of the real server and a
//! line's end go up; down comes a byte `+` with the descriptor (`SCM_RIGHTS`, unix(7)), or `-` and why
//! there is none.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use gantry_model::name::ServerName;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// There is no such socket now.
#[derive(Debug, thiserror::Error)]
pub enum PassageError {
    #[error("agent-l4 does not answer at {}: {why}", path.display())]
    Unreachable { path: std::path::PathBuf, why: io::Error },
    /// In agent-l4's words.
    #[error("{0}")]
    Refused(String),
}

/// The longest request and the longest reason.
const LONGEST: u64 = 1024;

/// Asks agent-l4 for a TCP socket that is to be connected to the virtual address of `server`'s service.
pub async fn ask(path: &Path, server: &ServerName) -> Result<OwnedFd, PassageError> {
    let unreachable = |why| PassageError::Unreachable { path: path.to_owned(), why };
    let mut stream = UnixStream::connect(path).await.map_err(unreachable)?;
    stream.write_all(format!("{server}\n").as_bytes()).await.map_err(unreachable)?;
    let (word, socket) = receive(&stream).await.map_err(unreachable)?;
    match (word, socket) {
        (b'+', Some(socket)) => Ok(socket),
        (b'-', _) => {
            let mut why = String::new();
            stream.take(LONGEST).read_to_string(&mut why).await.map_err(unreachable)?;
            Err(PassageError::Refused(why))
        }
        _ => Err(unreachable(io::ErrorKind::InvalidData.into())),
    }
}

/// Hears which server is asked for.
pub async fn hear(stream: &mut UnixStream) -> io::Result<ServerName> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        if line.len() as u64 >= LONGEST || stream.read_buf(&mut line).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let text = String::from_utf8_lossy(&line);
    text.trim_end().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Passes the socket on, or says why there is none.
pub async fn tell(stream: &mut UnixStream, socket: Result<OwnedFd, String>) -> io::Result<()> {
    match socket {
        Ok(socket) => send(stream, &socket).await,
        Err(why) => stream.write_all(format!("-{why}").as_bytes()).await,
    }
}

async fn send(stream: &UnixStream, socket: &OwnedFd) -> io::Result<()> {
    loop {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let sockets = [socket.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            let word = [IoSlice::new(b"+")];
            Ok(sendmsg(stream, &word, &mut control, SendFlags::NOSIGNAL).map(drop)?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
    }
}

async fn receive(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    loop {
        stream.readable().await?;
        let received = stream.try_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut word = [0];
            let mut buffer = [IoSliceMut::new(&mut word)];
            let got = recvmsg(stream, &mut buffer, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            if got.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let sockets = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
                _ => None,
            });
            Ok((word[0], sockets.flatten().next()))
        });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::local;

    /// Answers one request with what `make` gives.
    async fn served(make: impl FnOnce(ServerName) -> Result<OwnedFd, String>) -> Answer {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l4.sock");
        let listener = local::bind(&path).unwrap();
        let server = "clusters/main/virtualServices/dicom/realServers/a".parse().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = hear(&mut stream).await.unwrap();
            tell(&mut stream, make(asked)).await.unwrap();
        };
        tokio::join!(ask(&path, &server), serve).0
    }

    type Answer = Result<OwnedFd, PassageError>;

    #[tokio::test]
    async fn a_socket_is_passed_on_as_it_is() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let passed = served(|asked| {
            assert_eq!(asked.server.as_str(), "a");
            Ok(socket.into())
        });
        let passed = TcpListener::from(passed.await.unwrap());
        assert_eq!(passed.local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn why_there_is_none_is_said() {
        let refused = served(|_| Err("not in force".to_owned())).await.unwrap_err();
        assert_eq!(refused.to_string(), "not in force");
        let nowhere = Path::new("nowhere.sock");
        let server = "clusters/main/virtualServices/dicom/realServers/a".parse().unwrap();
        let unreachable = ask(nowhere, &server).await.unwrap_err().to_string();
        assert!(
            unreachable.starts_with("agent-l4 does not answer at nowhere.sock"),
            "{unreachable}"
        );
    }
}
