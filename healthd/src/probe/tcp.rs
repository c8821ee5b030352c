//! The TCP connect: the server's kernel takes a connection. It says nothing about the application
//! behind it.

use super::failure::Outcome;
use super::link::Link;

pub(super) async fn ask(link: &mut Link) -> Outcome {
    link.connect().await?;
    Ok("connected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use gantry_model::check::Probe;
    use gantry_model::verdict::Layer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_connection_opens_or_not() {
        let server = serve(|_| async {}).await;
        let result = check(&Probe::TcpConnect, server.address, LONG).await;
        assert_healthy(&result, Layer::Connection, "connected");
        let result = check(&Probe::TcpConnect, nobody().await, LONG).await;
        assert_failed(&result, Layer::Connection, "connection refused");
    }

    #[tokio::test]
    async fn a_server_that_greets_sees_a_close_and_no_reset() {
        let (ends, mut ended) = mpsc::channel(1);
        let server = serve(move |mut stream| {
            let ends = ends.clone();
            async move {
                stream.write_all(b"220 welcome\r\n").await.unwrap();
                ends.send(stream.read(&mut [0; 10]).await).await.unwrap();
            }
        })
        .await;
        let result = check(&Probe::TcpConnect, server.address, LONG).await;
        assert_healthy(&result, Layer::Connection, "connected");
        assert_eq!(ended.recv().await.unwrap().unwrap(), 0);
    }
}
