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
    async fn a_server_is_told_that_no_client_comes() {
        use super::super::{Ask, Network, Target};
        use gantry_model::service::ProxyVersion;

        let (tell, mut told) = mpsc::channel(2);
        let server = serve(move |mut stream| {
            let tell = tell.clone();
            async move {
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await.unwrap();
                tell.send(heard).await.unwrap();
            }
        })
        .await;
        let network = Network { passage: std::path::Path::new("nowhere.sock").into() };
        for (version, header) in [
            (ProxyVersion::V1, &b"PROXY UNKNOWN\r\n"[..]),
            (ProxyVersion::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
        ] {
            let introduce = Some(version);
            let target = Target { address: server.address, through: None, introduce };
            let result = network.ask(&Probe::TcpConnect, &target, LONG).await.unwrap();
            assert_healthy(&result, Layer::Connection, "connected");
            assert_eq!(told.recv().await.unwrap(), header);
        }
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
