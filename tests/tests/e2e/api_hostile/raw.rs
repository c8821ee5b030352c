//! Calls with bytes: what is sent need not be a message.

use std::time::Duration;

use bytes::Bytes;
use gantry_tests::raw::Raw;
use prost_reflect::MethodDescriptor;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Calls `method` with `bytes`; gives its error. A stream that says nothing within `listen` has
/// succeeded, and so has one whose first message comes.
pub(super) async fn call(
    channel: Channel,
    method: &MethodDescriptor,
    bytes: Vec<u8>,
    listen: Duration,
) -> Option<Status> {
    let bytes = Bytes::from(bytes);
    let mut client = Grpc::new(channel);
    if let Err(lost) = client.ready().await {
        return Some(Status::unavailable(lost.to_string()));
    }
    let service = method.parent_service();
    let path = format!("/{}/{}", service.full_name(), method.name());
    let path: PathAndQuery = path.parse().unwrap();
    if !method.is_server_streaming() {
        return client.unary(Request::new(bytes), path, Raw).await.err();
    }
    let request = Request::new(tokio_stream::once(bytes));
    let first = async {
        let mut stream = client.streaming(request, path, Raw).await?.into_inner();
        stream.message().await
    };
    match tokio::time::timeout(listen, first).await {
        Ok(Err(status)) => Some(status),
        Ok(Ok(_)) | Err(_) => None,
    }
}
