//! Gathers what the calls of a connection have to say, and hands it to the kernel at once.
//!
//! h2 flushes after each message of 256 bytes or more, and tokio runs a connection right after each of its calls that said something: a message to
//! each of a thousand watchers would be a thousand system calls. Here a connection that has spoken just now and has little to say waits until the tasks
//! that are ready on its thread have had their turn. A peer that takes nothing is left.

#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::wire::Wire;
use crate::engine::monotonic_now;

/// A connection that has not spoken for so long speaks at once: a lone call does not wait.
const QUIET: Duration = Duration::from_micros(50);
/// Bytes that are worth a system call of their own.
const ENOUGH_BYTES: usize = 16 * 1024;
/// Bytes that are gathered before the protocol has to wait.
const MOST_BYTES: usize = 64 * 1024;
/// Bytes of room that a connection at rest may keep.
const KEPT_BYTES: usize = 1024;
/// How long a peer may take nothing of what is there for it: as long as a ping and its answer may take, after which the protocol gives up as well, but
/// could not say so.
const PATIENCE: Duration = Duration::from_secs(40);

/// A connection's stream, for its protocol to read from and write to.
pub(super) struct Gathered(Outgoing);

/// What was gathered. Both holders are polled by one task, so the lock is never waited for.
#[derive(Clone)]
pub(super) struct Outgoing(Arc<Mutex<Pending>>);

struct Pending {
    wire: Wire,
    bytes: Vec<u8>,
    /// How many of them the wire has; over TLS the kernel may not have them yet.
    written: usize,
    /// How many there were the last time, which is a good guess.
    expected: usize,
    /// Set while the peer takes nothing.
    patience: Option<Pin<Box<Sleep>>>,
}

/// The two ends: one for the protocol, one for whoever drives it.
pub(super) fn gather(wire: Wire) -> (Gathered, Outgoing) {
    let outgoing = Outgoing(Arc::new(Mutex::new(Pending {
        wire,
        bytes: Vec::new(),
        written: 0,
        expected: 0,
        patience: None,
    })));
    (Gathered(outgoing.clone()), outgoing)
}

impl Outgoing {
    /// Drives a protocol that writes here, and writes what it has left.
    pub(super) async fn drive<T, E, F: From<E> + From<io::Error>>(
        &self,
        mut protocol: Pin<&mut impl Future<Output = Result<T, E>>>,
    ) -> Result<T, F> {
        let mut waited = false;
        let mut spoke = monotonic_now();
        poll_fn(|cx| {
            let polled = protocol.as_mut().poll(cx);
            let mut pending = self.pending();
            if let Poll::Ready(ended) = polled {
                pending.part();
                return Poll::Ready(ended.map_err(F::from));
            }
            if pending.bytes.is_empty() {
                return Poll::Pending;
            }
            let now = monotonic_now();
            if !waited && pending.bytes.len() < ENOUGH_BYTES && now < spoke + QUIET {
                waited = true;
                // To the end of the queue.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            waited = false;
            spoke = now;
            match pending.poll_write_out(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Hands over what there is room for, on behalf of a protocol that is not driven any more.
    pub(super) fn part(&self) {
        self.pending().part();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing in here is left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Takes as much as there is room for, and says how much that was.
    fn take(&mut self, bufs: &[io::IoSlice<'_>]) -> usize {
        if self.bytes.is_empty() {
            self.bytes.reserve(self.expected);
        }
        let before = self.bytes.len();
        for buf in bufs {
            let room = MOST_BYTES.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        self.bytes.len() - before
    }

    /// Resolves when there is room: at once, or when all that was gathered is with the kernel.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.len() < MOST_BYTES {
            return Poll::Ready(Ok(()));
        }
        self.poll_write_out(cx)
    }

    /// Resolves when all that was gathered is with the kernel, or the peer has taken nothing for too long.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut wire = Pin::new(&mut self.wire);
            let polled = match self.bytes.get(self.written..) {
                Some(left @ [_, ..]) => wire.as_mut().poll_write(cx, left),
                // Over TLS there may be records that have not gone.
                _ => wire.as_mut().poll_flush(cx).map_ok(|()| 0),
            };
            let is_written = self.written == self.bytes.len();
            if self.wire.has_moved() {
                self.patience = None;
            }
            match polled {
                Poll::Ready(Ok(0)) if is_written => break,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.written += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.poll_impatient(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        self.patience = None;
        self.expected = self.bytes.len();
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_impatient(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        patience.as_mut().poll(cx)
    }

    /// The last thing to do for a protocol that has ended: one that failed has not closed the stream, but takes what it flushed for sent.
    fn part(&mut self) {
        // Nobody is there any more to wait for what does not go now.
        self.wire.write_last(&self.bytes[self.written..]);
    }
}

impl Gathered {
    /// Adds something after which the protocol will fail.
    pub(super) fn say_last(&self, bytes: &[u8]) {
        self.0.pending().bytes.extend_from_slice(bytes);
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.pending().wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pending = self.0.pending();
        ready!(pending.poll_room(cx))?;
        Poll::Ready(Ok(pending.take(bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was gathered is written when the task has had its turn: see [`Outgoing::drive`].
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pending = self.0.pending();
        ready!(pending.poll_write_out(cx))?;
        Pin::new(&mut pending.wire).poll_shutdown(cx)
    }
}
