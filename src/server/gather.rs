//! Gathers what the calls of a connection have to say, and hands it to the kernel at once.
//!
//! h2 flushes after each message of 256 bytes or more, and tokio runs a connection right after each of its calls that said something: a message to
//! each of a thousand watchers would be a thousand system calls. Here a connection that has spoken just now and has little to say waits until every
//! task that is ready has had its turn.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::engine::monotonic_now;

/// A connection that has not spoken for so long speaks at once: a lone call does not wait.
const QUIET: Duration = Duration::from_micros(50);
/// Bytes that are worth a system call of their own.
const ENOUGH_BYTES: usize = 16 * 1024;
/// Bytes that are gathered before the protocol has to wait.
const MOST_BYTES: usize = 64 * 1024;
/// Bytes of room that a connection at rest may keep.
const KEPT_BYTES: usize = 1024;

/// A connection's stream, for its protocol to read from and write to.
pub(super) struct Gathered {
    read: OwnedReadHalf,
    outgoing: Outgoing,
}

/// What was gathered. Both holders are polled by one task, so the lock is never waited for.
#[derive(Clone)]
pub(super) struct Outgoing(Arc<Mutex<Pending>>);

struct Pending {
    write: OwnedWriteHalf,
    bytes: BytesMut,
}

/// The two ends: one for the protocol, one for whoever drives it.
pub(super) fn gather(stream: TcpStream) -> (Gathered, Outgoing) {
    let (read, write) = stream.into_split();
    let bytes = BytesMut::new();
    let outgoing = Outgoing(Arc::new(Mutex::new(Pending { write, bytes })));
    let gathered = Gathered {
        read,
        outgoing: outgoing.clone(),
    };
    (gathered, outgoing)
}

impl Outgoing {
    /// Drives a protocol that writes here, and writes what it has left.
    pub(super) async fn drive<T, E: From<io::Error>>(
        &self,
        mut protocol: Pin<&mut impl Future<Output = Result<T, E>>>,
    ) -> Result<T, E> {
        let mut waited = false;
        let mut spoke = monotonic_now();
        poll_fn(|cx| {
            let polled = protocol.as_mut().poll(cx);
            let mut pending = self.pending();
            if polled.is_ready() {
                // It has closed the stream and written all, or does not care any more.
                return polled;
            }
            if pending.bytes.is_empty() {
                return Poll::Pending;
            }
            let now = monotonic_now();
            if !waited && pending.bytes.len() < ENOUGH_BYTES && now < spoke + QUIET {
                waited = true;
                // To the end of the queue of tasks that are ready.
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

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing in here is left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Resolves when there is room for more, or the stream has failed.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.len() < MOST_BYTES {
            return Poll::Ready(Ok(()));
        }
        self.poll_write_out(cx)
    }

    /// Resolves when all that was gathered is with the kernel.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            match ready!(Pin::new(&mut self.write).poll_write(cx, &self.bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.bytes.advance(written),
            }
        }
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
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
        let mut pending = self.outgoing.pending();
        ready!(pending.poll_room(cx))?;
        let mut taken = 0;
        for buf in bufs {
            let room = MOST_BYTES.saturating_sub(pending.bytes.len());
            let some = &buf[..buf.len().min(room)];
            pending.bytes.extend_from_slice(some);
            taken += some.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was gathered is written when the task is done for now: see [`Outgoing::drive`].
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pending = self.outgoing.pending();
        ready!(pending.poll_write_out(cx))?;
        Pin::new(&mut pending.write).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> io::Result<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let near = TcpStream::connect(listener.local_addr()?).await?;
        Ok((near, listener.accept().await?.0))
    }

    /// More than the kernel takes at once, so that writing has to wait for the reader.
    const ALL: usize = 16 * 1024 * 1024;

    #[tokio::test]
    async fn all_that_was_written_arrives_in_order() -> io::Result<()> {
        let (near, mut far) = pair().await?;
        let (mut stream, outgoing) = gather(near);
        let said: Vec<u8> = (0..ALL).map(|at| (at % 251) as u8).collect();
        let protocol = async {
            for piece in said.chunks(300) {
                stream.write_all(piece).await?;
                stream.flush().await?;
            }
            stream.shutdown().await
        };
        let mut heard = Vec::with_capacity(ALL);
        let protocol = pin!(protocol);
        let (driven, read) = tokio::join!(outgoing.drive(protocol), far.read_to_end(&mut heard));
        driven?;
        assert_eq!(read?, ALL);
        assert!(heard == said, "what was heard is not what was said");
        Ok(())
    }

    #[tokio::test]
    async fn what_is_little_is_written_though_nothing_follows() -> io::Result<()> {
        let (near, mut far) = pair().await?;
        let (mut stream, outgoing) = gather(near);
        let protocol = async {
            for word in [b"one", b"two"] {
                stream.write_all(word).await?;
                stream.flush().await?;
                let mut answer = [0; 2];
                stream.read_exact(&mut answer).await?;
            }
            Ok::<_, io::Error>(())
        };
        let talk = async {
            for word in [b"one", b"two"] {
                let mut heard = [0; 3];
                far.read_exact(&mut heard).await?;
                assert_eq!(&heard, word);
                far.write_all(b"ok").await?;
            }
            Ok::<_, io::Error>(())
        };
        let protocol = pin!(protocol);
        let (driven, talked) = tokio::join!(outgoing.drive(protocol), talk);
        driven.and(talked)
    }

    #[tokio::test]
    async fn a_peer_that_has_gone_ends_the_protocol() -> io::Result<()> {
        let (near, far) = pair().await?;
        let (mut stream, outgoing) = gather(near);
        drop(far);
        let protocol = async {
            loop {
                stream.write_all(&[0; 4096]).await?;
                tokio::task::yield_now().await;
            }
            #[expect(unreachable_code, reason = "it names the type of the result")]
            Ok::<(), io::Error>(())
        };
        assert!(outgoing.drive(pin!(protocol)).await.is_err());
        Ok(())
    }
}
