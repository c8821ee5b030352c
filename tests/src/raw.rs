//! gRPC in the very bytes of the wire, and the messages as they were when the protos landed last: what
//! a client or a controller of the version before knows of them.

use bytes::{Buf, BufMut, Bytes};
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

const LANDED: &[u8] = include_bytes!("../../proto/landed.binpb");

/// Neither reads nor writes: messages are their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
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
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, wire: &mut EncodeBuf<'_>) -> Result<(), Status> {
        wire.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, wire: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(wire.copy_to_bytes(wire.remaining())))
    }
}

/// What was known of the messages when the protos landed last.
#[derive(Clone, Debug)]
pub struct Landed(DescriptorPool);

impl Landed {
    pub fn load() -> Self {
        Self(DescriptorPool::decode(LANDED).unwrap())
    }

    /// A message of `gantry.agent.v1` from its JSON form.
    pub fn message(&self, name: &str, json: serde_json::Value) -> Bytes {
        let message = DynamicMessage::deserialize(self.descriptor(name), json).unwrap();
        message.encode_to_vec().into()
    }

    pub fn read(&self, name: &str, bytes: &[u8]) -> DynamicMessage {
        DynamicMessage::decode(self.descriptor(name), bytes).unwrap()
    }

    /// The JSON form of what is known of a message.
    pub fn json(&self, name: &str, bytes: &[u8]) -> serde_json::Value {
        serde_json::to_value(self.read(name, bytes)).unwrap()
    }

    fn descriptor(&self, name: &str) -> prost_reflect::MessageDescriptor {
        self.0.get_message_by_name(&format!("gantry.agent.v1.{name}")).unwrap()
    }
}

/// `message` with a field that nobody knows: number 20,000, a text.
pub fn from_the_future(message: &[u8]) -> Bytes {
    let mut bytes = message.to_vec();
    let key = 20_000_u32 << 3 | 2;
    prost_reflect::prost::encoding::encode_varint(key.into(), &mut bytes);
    prost_reflect::prost::encoding::encode_varint(6, &mut bytes);
    bytes.extend(b"future");
    bytes.into()
}
