//! A codec whose buffers start small, because most messages are small and most streams are idle.
//!
//! tonic reserves 8 KiB for each direction of each call; a server with 50,000 idle watchers would spend 800 MB on nothing.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::error;
use crate::{api::Fault, locale::Language};

/// Bytes that a call's buffer starts with: enough for a heartbeat, a lease or a small job.
const BUFFER_BYTES: usize = 256;
/// Bytes that ready messages of one stream are gathered up to before they are sent as one frame.
const YIELD_BYTES: usize = 32 * 1024;

/// As tonic's prost codec, but with small buffers, and with malformed input as INVALID_ARGUMENT.
pub(crate) struct SmallBufferCodec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for SmallBufferCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for SmallBufferCodec<E, D>
where
    E: Message + Send + 'static,
    D: Message + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = MessageEncoder<E>;
    type Decoder = MessageDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// Encodes answers.
pub(crate) struct MessageEncoder<E>(PhantomData<E>);

impl<E: Message> Encoder for MessageEncoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode_raw(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Decodes requests.
pub(crate) struct MessageDecoder<D>(PhantomData<D>);

impl<D: Message + Default> Decoder for MessageDecoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let message = D::decode(buf).map(Some);
        message.map_err(|error| error::status(&Fault::malformed(&error), Language::English))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
