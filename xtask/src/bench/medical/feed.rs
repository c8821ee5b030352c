//! Messages of HL7: senders that wait for each answer, and a receiver that only answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gantry_medical::hl7::{Acknowledgement, Header};
use gantry_medical::mllp::{Decoder, Frame};
use gantry_runtime::clock;

/// Bytes of a message, without its frame.
pub(super) const LENGTH: usize = 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Acknowledges all that comes, for ever.
pub(super) fn receive(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let mut bytes = &buffer[..read];
        while let Some(frame) = decoder.read(&mut bytes)? {
            let header = Header::read(frame.message())?;
            let head = b"MSH|^~\\&|ENGINE|SITE|HIS|SITE|20261127||ACK|1|P|2.5\rMSA|AA|";
            let text = [head.as_slice(), header.control_id, b"\r"].concat();
            let answer = Frame::new(&text).context("an answer ends before its end")?;
            stream.write_all(answer.as_bytes())?;
        }
    }
}

/// Sends messages over so many connections for so long; gives how many were acknowledged.
pub(super) fn send(
    to: SocketAddr,
    senders: usize,
    time: Duration,
) -> anyhow::Result<(u64, Duration)> {
    let begun = clock::monotonic();
    let threads: Vec<_> = (0..senders)
        .map(|sender| std::thread::spawn(move || feed(to, sender, begun + time)))
        .collect();
    let mut all = 0;
    for thread in threads {
        all += thread.join().ok().context("a sender panicked")??;
    }
    Ok((all, begun.elapsed()))
}

fn feed(to: SocketAddr, sender: usize, until: std::time::Instant) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 4096];
    let run = clock::wall().as_nanosecond();
    let mut sent = 0;
    while clock::monotonic() < until {
        let id = format!("{run}-{sender}-{sent}");
        let mut text =
            format!("MSH|^~\\&|HIS{sender}|SITE|||20261127||ADT^A08|{id}|P|2.5\rPID|1||");
        text.extend(std::iter::repeat_n('X', LENGTH.saturating_sub(text.len() + 1)));
        text.push('\r');
        let frame = Frame::new(text.as_bytes()).context("a message ends before its end")?;
        stream.write_all(frame.as_bytes())?;
        let answer = loop {
            let read = stream.read(&mut buffer).context("waiting for an answer")?;
            if read == 0 {
                bail!("a sender was closed");
            }
            if let Some(frame) = decoder.read(&mut &buffer[..read])? {
                break frame;
            }
        };
        let answer = Acknowledgement::read(answer.message())?;
        ensure!(answer.control_id == id.as_bytes(), "the answer to another message");
        sent += 1;
    }
    Ok(sent)
}
