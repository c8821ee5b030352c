//! Bytes sent, bytes expected: the check for whatever has no check of its own.
//!
//! Reads until the pattern matches, the server closes, the reply is too long or time runs out.

use gantry_model::check::Exchange;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::failure::{Failure, Outcome};
use super::link::Link;
use super::reply::Reply;

/// The longest reply that is searched.
const LIMIT: usize = 64 * 1024;

pub(super) async fn ask(exchange: &Exchange, link: &mut Link) -> Outcome {
    link.open(exchange.tls).await?;
    link.begin("sending");
    link.send(&exchange.send).await?;
    let mut reply = Reply::new(&exchange.expect, LIMIT);
    link.begin("waiting for a reply");
    let mut buffer = [0; 4096];
    loop {
        let read = link.stream().read(&mut buffer);
        // A read that is dropped here has read nothing.
        let read = match timeout(reply.patience(), read).await {
            Ok(read) => read.map_err(|error| Failure::talking(&error))?,
            Err(_) if reply.search() => return Ok(matched()),
            Err(_) => continue,
        };
        if reply.add(&buffer[..read]) || (read == 0 && reply.search()) {
            return Ok(matched());
        }
        match (read, reply.is_empty()) {
            (0, true) => return Err("connection closed without a reply".into()),
            (0, false) => return Err("connection closed without the expected reply".into()),
            _ if reply.is_full() => return Err("no expected reply in the first 64 KiB".into()),
            _ => link.begin("waiting for the expected reply"),
        }
    }
}

fn matched() -> String {
    "expected reply".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use gantry_model::check::{Pattern, Probe};
    use gantry_model::verdict::Layer;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    fn exchange(send: &str, expect: &str, tls: bool) -> Probe {
        let expect = Pattern::new(expect).unwrap();
        Probe::Exchange(Exchange { send: send.into(), expect, tls })
    }

    /// Reads "PING" and answers `pieces`, then waits for the other side to close.
    async fn answer(mut stream: TcpStream, pieces: &[&[u8]]) {
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await.unwrap();
        for piece in pieces {
            let _ = stream.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let _ = stream.read(&mut ping).await;
    }

    #[tokio::test]
    async fn an_expected_reply_is_found_while_the_server_keeps_the_connection() {
        let server = serve(|stream| answer(stream, &[b"+PO", b"N", b"G"])).await;
        let result = check(&exchange("PING", "PONG$", false), server.address, LONG).await;
        assert_healthy(&result, Layer::Application, "expected reply");
        let result = check(&exchange("PING", "OK", false), server.address, SHORT).await;
        let cause = "timed out waiting for the expected reply";
        assert_failed(&result, Layer::Application, cause);
        let server = serve(|stream| answer(stream, &[])).await;
        let result = check(&exchange("PING", "OK", false), server.address, SHORT).await;
        assert_failed(&result, Layer::Application, "timed out waiting for a reply");
    }

    #[tokio::test]
    async fn replies_that_end_or_never_end() {
        let closes = serve(|_| async {}).await;
        let result = check(&exchange("", "OK", false), closes.address, LONG).await;
        assert_failed(&result, Layer::Application, "connection closed without a reply");
        let says_no = serve(|mut stream| async move {
            let _ = stream.write_all(b"no").await;
        });
        let result = check(&exchange("", "OK", false), says_no.await.address, LONG).await;
        let cause = "connection closed without the expected reply";
        assert_failed(&result, Layer::Application, cause);
        let endless =
            serve(
                |mut stream| async move { while stream.write_all(&[b'.'; 4096]).await.is_ok() {} },
            );
        let result = check(&exchange("", "OK", false), endless.await.address, LONG).await;
        assert_failed(&result, Layer::Application, "no expected reply in the first 64 KiB");
    }

    #[tokio::test]
    async fn tls_with_a_certificate_nobody_vouches_for() {
        let acceptor = acceptor();
        let server = serve(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                stream.write_all(b"hello").await.unwrap();
                let _ = stream.read(&mut [0; 1]).await;
            }
        })
        .await;
        let result = check(&exchange("", "^hello", true), server.address, LONG).await;
        assert_healthy(&result, Layer::Application, "expected reply");
    }

    #[tokio::test]
    async fn tls_with_a_server_that_wants_our_certificate() {
        let acceptor = mutual_acceptor();
        let server = serve(move |stream| {
            let acceptor = acceptor.clone();
            async move { drop(acceptor.accept(stream).await) }
        })
        .await;
        let result = check(&exchange("", "OK", true), server.address, LONG).await;
        let cause = "TLS: the server says: certificate required";
        assert_failed(&result, Layer::Application, cause);
    }

    #[tokio::test]
    async fn tls_with_a_server_that_does_not_speak_it() {
        let server = serve(|mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1000]).await;
        })
        .await;
        let result = check(&exchange("", "OK", true), server.address, LONG).await;
        assert_failed(&result, Layer::Tls, "TLS: handshake failed: the answer is not TLS");
        let silent = serve(|mut stream| async move {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let result = check(&exchange("", "OK", true), silent.address, SHORT).await;
        assert_failed(&result, Layer::Tls, "timed out in the TLS handshake");
    }
}
