//! A stream that counts what it reads: whatever form an endless answer has, it ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much may still be read.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    left: AtomicUsize,
    over: AtomicBool,
    /// Whether anything was read.
    begun: AtomicBool,
    tls: AtomicBool,
}

impl Meter {
    /// From here on so many bytes may be read.
    pub(crate) fn allow(&self, bytes: usize) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// Whether more came than was allowed. The stream is of no use then.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether the first bytes that came are a record of TLS: an alert, or a part of a handshake.
    pub(crate) fn began_with_tls(&self) -> bool {
        self.tls.load(Ordering::Relaxed)
    }
}

/// A stream under a meter.
pub(crate) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, meter: Arc<Meter>) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        if read > 0 && !self.meter.begun.swap(true, Ordering::Relaxed) {
            let of_tls = matches!(buf.filled()[before..], [0x15 | 0x16, 0x03, ..]);
            self.meter.tls.store(of_tls, Ordering::Relaxed);
        }
        let left = self.meter.left.load(Ordering::Relaxed);
        match left.checked_sub(read) {
            Some(left) => {
                self.meter.left.store(left, Ordering::Relaxed);
                Poll::Ready(Ok(()))
            }
            None => {
                self.meter.over.store(true, Ordering::Relaxed);
                Poll::Ready(Err(io::Error::other("more was sent than one answer may hold")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
