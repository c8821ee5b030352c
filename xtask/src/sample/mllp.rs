//! An HL7 version 2 receiver: takes messages over MLLP and acknowledges each with AA.
//!
//! It keeps nothing, and prints a message's type and control id only: what is in a message is about
//! a patient.

mod frame;
mod message;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{listen, say};
use frame::Frames;
use message::Header;

/// How long an acknowledgement may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(listen: SocketAddr, name: String) -> anyhow::Result<()> {
    let listener = listen::bind(&name, listen).await?;
    listen::serve(&name, listener, |stream| receive(name.clone(), stream)).await
}

/// Acknowledges all messages of one connection, in order.
async fn receive(name: String, mut stream: TcpStream) -> anyhow::Result<()> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut buffer).await.context("a sender was lost")?;
        if read == 0 {
            return Ok(());
        }
        frames.add(&buffer[..read])?;
        while let Some(message) = frames.next() {
            let header = Header::parse(message);
            let acknowledgement = frame::wrap(&message::acknowledge(header.as_ref(), &name));
            match header {
                Some(header) => say(format_args!("{name} received {header}")),
                None => say(format_args!("{name} received something that is not HL7")),
            }
            stream.write_all(&acknowledgement).await.context("a sender was lost")?;
        }
    }
}

/// Sends a message of nobody to `to`; gives the segment that acknowledges it.
pub(super) async fn send(to: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(to).await.with_context(|| format!("connecting to {to}"))?;
    stream.write_all(&frame::wrap(&message::sample())).await.context("sending the message")?;
    let mut frames = Frames::default();
    let mut buffer = vec![0; 4096];
    loop {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
        let read = read.context("no acknowledgement came")?.context("reading the answer")?;
        ensure!(read > 0, "the connection was closed without an acknowledgement");
        frames.add(&buffer[..read])?;
        if let Some(answer) = frames.next() {
            let answer = String::from_utf8_lossy(answer);
            let segment = answer.split('\r').find(|segment| segment.starts_with("MSA"));
            return Ok(segment.context("the answer has no MSA segment")?.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn each_message_is_acknowledged_by_its_control_id() {
        let listener = listen::bind("MLLP", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            listen::serve("MLLP", listener, |stream| receive("MLLP".into(), stream)).await
        });
        let message = |id: u32| {
            let text = format!("MSH|^~\\&|RIS|A|PACS|B|20250101||ADT^A01|{id}|P|2.5\rPID|1\r");
            frame::wrap(text.as_bytes())
        };
        // Two and a half messages at once, then the rest.
        let bytes = [message(1), message(2), message(3)].concat();
        let (most, rest) = bytes.split_at(bytes.len() - 20);
        sender.write_all(most).await.unwrap();
        let mut frames = Frames::default();
        let mut answered = Vec::new();
        let mut buffer = [0; 4096];
        while answered.len() < 3 {
            let read = sender.read(&mut buffer).await.unwrap();
            frames.add(&buffer[..read]).unwrap();
            while let Some(acknowledgement) = frames.next() {
                answered.push(String::from_utf8(acknowledgement.to_vec()).unwrap());
            }
            if answered.len() == 2 {
                sender.write_all(rest).await.unwrap();
            }
        }
        for (id, acknowledgement) in (1..).zip(&answered) {
            assert!(
                acknowledgement.contains(&format!("\rMSA|AA|{id}|MLLP\r")),
                "{acknowledgement}"
            );
        }
    }
    #[tokio::test]
    async fn what_is_sent_is_acknowledged() {
        let listener = listen::bind("HL71", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            listen::serve("HL71", listener, |stream| receive("HL71".into(), stream)).await
        });
        let answer = send(address).await.unwrap();
        assert!(answer.starts_with("MSA|AA|") && answer.ends_with("|HL71"), "{answer}");
    }
}
