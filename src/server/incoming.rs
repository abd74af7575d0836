//! What a connection's protocol reads: the first bytes tell which one it is, and the frames of HTTP/2 are counted as they pass.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::{frames::Frames, gather::Gathered, standing::Standing};
use crate::engine::monotonic_now;

/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// ENHANCE_YOUR_CALM (RFC 9113, 7).
const CALM: u32 = 0xb;

/// Frames that are taken in one turn of the connection's task: small ones are as quick to send as they are slow to answer, and others wait for the thread.
const TURN: u32 = 64;

/// See the module.
pub(super) struct Incoming {
    stream: Gathered,
    standing: Arc<Standing>,
    frames: Frames,
    speaks_http2: bool,
    /// The first bytes, and how many there are; they are told again.
    start: [u8; PREFACE.len()],
    length: usize,
    told: usize,
}

impl Incoming {
    /// With so much of a [balance](Frames).
    pub(super) fn new(stream: Gathered, standing: Arc<Standing>, balance: u32) -> Self {
        Self {
            stream,
            standing,
            frames: Frames::new(balance, monotonic_now()),
            speaks_http2: false,
            start: [0; PREFACE.len()],
            length: 0,
            told: 0,
        }
    }

    /// Reads until it is clear whether HTTP/2 is spoken.
    pub(super) async fn speaks_http2(&mut self) -> io::Result<bool> {
        while PREFACE.starts_with(&self.start[..self.length]) && self.length < PREFACE.len() {
            let read = self.stream.read(&mut self.start[self.length..]).await?;
            if read == 0 {
                // An end is HTTP/1's to make sense of.
                return Ok(false);
            }
            self.length += read;
        }
        self.speaks_http2 = self.start == PREFACE;
        Ok(self.speaks_http2)
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.frames.passed() >= TURN {
            self.frames.begin_turn();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_pending() {
            self.frames.begin_turn();
        }
        ready!(polled)?;
        if self.speaks_http2 {
            let bytes = &buf.filled()[before..];
            let is_known = self.standing.is_known();
            if !self.frames.read(bytes, is_known, monotonic_now()) {
                self.standing.cut();
                self.stream.say_last(&go_away(self.frames.newest()));
                return Poll::Ready(Err(io::Error::other("too many frames ask for nothing")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The frame that says why.
fn go_away(newest: u32) -> [u8; 17] {
    let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame[9..13].copy_from_slice(&newest.to_be_bytes());
    frame[13..].copy_from_slice(&CALM.to_be_bytes());
    frame
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.told == this.length {
            return this.poll_stream(cx, buf);
        }
        let again = &this.start[this.told..this.length];
        let again = &again[..again.len().min(buf.remaining())];
        buf.put_slice(again);
        this.told += again.len();
        // What has come besides belongs to the same read.
        match this.poll_stream(cx, buf) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.frames.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
