//! A message of a WatchJob stream whose job was encoded once for all watchers.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType, encode_key, encode_varint, skip_field},
};

use crate::{
    api::{View, render},
    domain::Job,
    engine::Version,
    proto::v1,
};

/// The field number of `WatchJobResponse.job`.
const JOB: u32 = 1;
/// Bytes of everything but the job, at most: four numbers of up to ten bytes, two of one, and a byte for the key of each make 48.
const MAX_HEAD_BYTES: usize = 64;

/// Stands for a [`v1::WatchJobResponse`] on its way out: the same bytes on the wire.
#[derive(Clone, Debug, Default)]
pub struct WatchFrame {
    /// Everything but the job.
    head: v1::WatchJobResponse,
    /// The job as the field that it will be: key, length, content.
    job: Bytes,
}

impl WatchFrame {
    /// A message without a job.
    pub(super) fn bare(head: v1::WatchJobResponse) -> Self {
        Self {
            head,
            job: Bytes::new(),
        }
    }

    /// A snapshot.
    pub(super) fn snapshot(head: v1::WatchJobResponse, version: &Version, view: View) -> Self {
        let job = version.encoded(view.form(), |job| field(job, view)).clone();
        Self { head, job }
    }
}

fn field(job: &Job, view: View) -> Bytes {
    let job = render::job(job, view);
    let length = job.encoded_len();
    let mut buf = BytesMut::with_capacity(length + 8);
    encode_key(JOB, WireType::LengthDelimited, &mut buf);
    encode_varint(length as u64, &mut buf);
    job.encode_raw(&mut buf);
    buf.freeze()
}

impl Message for WatchFrame {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.job);
        // In one piece: a byte at a time is slow for the buffers that messages are sent from.
        let mut head = [0; MAX_HEAD_BYTES];
        let mut room = &mut head[..];
        self.head.encode_raw(&mut room);
        let left = room.len();
        buf.put_slice(&head[..MAX_HEAD_BYTES - left]);
    }

    /// Frames are only ever sent; whoever receives one decodes a `WatchJobResponse`.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.job.len() + self.head.encoded_len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_head_is_sent_whole() {
        let head = v1::WatchJobResponse {
            job: None,
            kind: i32::MIN,
            from_revision: u64::MAX,
            revision: u64::MAX,
            coalesced: u64::MAX,
            r#final: true,
            reset: true,
        };
        let job = v1::Job {
            id: "019a".to_owned(),
            ..v1::Job::default()
        };
        let message = v1::WatchJobResponse {
            job: Some(job),
            ..head.clone()
        };
        let mut job_field = Vec::new();
        let only_job = v1::WatchJobResponse {
            job: message.job.clone(),
            ..v1::WatchJobResponse::default()
        };
        only_job.encode_raw(&mut job_field);
        let frame = WatchFrame {
            head,
            job: job_field.into(),
        };
        assert_eq!(frame.encode_to_vec(), message.encode_to_vec());
    }
}
