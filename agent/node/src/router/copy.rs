//! Copying a session's bytes both ways.
//!
//! All sessions share one buffer: nothing is held for a session that is quiet. Only what the receiving side does not take
//! at once is kept, at most one buffer for each direction, and nothing more is read until it was taken.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Large enough that the calls into the kernel cost less than the copying.
const BUFFER: usize = 64 << 10;
/// What one direction may keep, once all sessions together keep more than [`PLENTY`].
const SMALL: usize = 4 << 10;
const PLENTY: usize = 32 << 20;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static KEPT: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that were read and not yet taken; counted for all sessions of the thread.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    taken: usize,
}

impl Kept {
    fn new(bytes: Vec<u8>) -> Self {
        KEPT.with(|kept| kept.set(kept.get() + bytes.len()));
        Self { bytes, taken: 0 }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.with(|kept| kept.set(kept.get().saturating_sub(self.bytes.len())));
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    kept: Kept,
    /// Whether there may be something to flush.
    written: bool,
    ended: bool,
    done: bool,
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut impl AsyncRead>,
        mut to: Pin<&mut impl AsyncWrite>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            while !self.kept.rest().is_empty() {
                let taken = ready!(to.as_mut().poll_write(cx, self.kept.rest()))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.kept.taken += taken;
                self.written = true;
                if self.kept.rest().is_empty() {
                    self.kept = Kept::default();
                }
            }
            if self.ended {
                // Half of the session is over; the other half may go on.
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.done = true;
                continue;
            }
            let passed = SHARED.with_borrow_mut(|buffer| {
                buffer.resize(BUFFER, 0);
                self.pass(cx, buffer, from.as_mut(), to.as_mut())
            });
            match passed {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    if self.written {
                        ready!(to.as_mut().poll_flush(cx))?;
                        self.written = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads once, and writes what the other side takes of it.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        from: Pin<&mut impl AsyncRead>,
        to: Pin<&mut impl AsyncWrite>,
    ) -> Poll<io::Result<()>> {
        let limit = if KEPT.with(Cell::get) > PLENTY { SMALL } else { BUFFER };
        let mut buffer = ReadBuf::new(buffer.get_mut(..limit).unwrap_or_default());
        ready!(from.poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        let taken = match to.poll_write(cx, bytes) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        self.written |= taken > 0;
        let rest = bytes.get(taken..).unwrap_or_default();
        if !rest.is_empty() {
            self.kept = Kept::new(rest.to_vec());
        }
        Poll::Ready(Ok(()))
    }
}

/// Copies until both sides have ended. `first` is what the client said before there was a server.
///
/// # Errors
/// One of the two broke.
pub(super) async fn copy(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    server: &mut (impl AsyncRead + AsyncWrite + Unpin),
    first: Vec<u8>,
) -> io::Result<()> {
    let mut up = Way { kept: Kept::new(first), ..Way::default() };
    let mut down = Way::default();
    poll_fn(|cx| {
        let up = up.poll(cx, Pin::new(client), Pin::new(server))?;
        let down = down.poll(cx, Pin::new(server), Pin::new(client))?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}
