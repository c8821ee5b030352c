//! Calls with bytes: what is sent need not be a message.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost_reflect::MethodDescriptor;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Sends and receives bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }
}

/// Calls `method` with `bytes`; gives its error. A stream that says nothing within `listen` has
/// succeeded, and so has one whose first message comes.
pub(super) async fn call(
    channel: Channel,
    method: &MethodDescriptor,
    bytes: Vec<u8>,
    listen: Duration,
) -> Option<Status> {
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
