//! Messages on the wire, as tonic's own codec writes and reads them, but for one thing: bytes that
//! are no message are the sender's fault, so the answer is INVALID_ARGUMENT and not INTERNAL, which
//! would tell an operator to look for a defect in the controller.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Writes messages of type `T` and reads those of type `U`.
#[derive(Debug)]
pub struct WireCodec<T, U>(PhantomData<(T, U)>);

/// Reads messages of type `U`.
#[derive(Debug)]
pub struct WireDecoder<U>(ProstDecoder<U>);

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for WireCodec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = WireDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        WireDecoder(ProstDecoder::default())
    }
}

impl<U: Message + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.0.decode(bytes).map_err(|status| match status.code() {
            Code::Internal => {
                let why =
                    format!("the bytes are not the message they should be: {}", status.message());
                Status::invalid_argument(why)
            }
            _ => status,
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}
