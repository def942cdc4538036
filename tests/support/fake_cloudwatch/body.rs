//! Answers' bodies, and the wire beneath a connection: where bodies and connections break on demand.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

type More = Box<dyn FnMut() -> Option<Bytes> + Send>;

/// A body: bytes, in pieces if slow, broken off if told so, or made while it is sent.
pub(crate) struct AnswerBody {
    bytes: Bytes,
    piece: usize,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    break_at: Option<usize>,
    more: Option<More>,
}

impl AnswerBody {
    /// All at once.
    pub(crate) fn whole(bytes: Vec<u8>) -> AnswerBody {
        let bytes = Bytes::from(bytes);
        AnswerBody { bytes, piece: usize::MAX, pause: Duration::ZERO, sleep: None, break_at: None, more: None }
    }

    /// In pieces of 16 KiB, `ms` apart.
    pub(crate) fn slow(bytes: Vec<u8>, ms: u64) -> AnswerBody {
        AnswerBody { piece: 16 << 10, pause: Duration::from_millis(ms), ..AnswerBody::whole(bytes) }
    }

    /// Broken off at half its length.
    pub(crate) fn truncated(bytes: Vec<u8>) -> AnswerBody {
        AnswerBody { break_at: Some(bytes.len() / 2), ..AnswerBody::whole(bytes) }
    }

    /// No JSON, from its first byte on.
    pub(crate) fn garbled(bytes: Vec<u8>) -> AnswerBody {
        AnswerBody::whole([b"<", bytes.as_slice()].concat())
    }

    /// All but its last byte, and blanks for ever.
    pub(crate) fn endless(mut bytes: Vec<u8>) -> AnswerBody {
        bytes.pop();
        let blanks = Bytes::from_static(&[b' '; 256 << 10]);
        let mut first = Some(Bytes::from(bytes));
        AnswerBody::made(move || Some(first.take().unwrap_or_else(|| blanks.clone())))
    }

    /// Made piece by piece as the reader takes it, of unknown length.
    pub(crate) fn made(more: impl FnMut() -> Option<Bytes> + Send + 'static) -> AnswerBody {
        AnswerBody { more: Some(Box::new(more)), ..AnswerBody::whole(Vec::new()) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(sleep) = &mut self.sleep {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        if let Some(more) = &mut self.more {
            return Poll::Ready(more().map(|bytes| Ok(Frame::data(bytes))));
        }
        if let Some(left) = self.break_at {
            if left == 0 {
                return Poll::Ready(Some(Err(io::Error::other("body broken off"))));
            }
            self.break_at = Some(0);
            let bytes = self.bytes.split_to(left);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.piece.min(self.bytes.len());
        let bytes = self.bytes.split_to(piece);
        if !self.pause.is_zero() && !self.bytes.is_empty() {
            self.sleep = Some(Box::pin(tokio::time::sleep(self.pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.more.is_none() && self.break_at.is_none() && self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.more.is_some() { SizeHint::default() } else { SizeHint::with_exact(self.bytes.len() as u64) }
    }
}

/// How many bytes more a connection may write before it is reset; negative: any number.
#[derive(Clone)]
pub(crate) struct Cut(Arc<AtomicI64>);

impl Cut {
    /// No cut.
    pub(crate) fn none() -> Cut {
        Cut(Arc::new(AtomicI64::new(-1)))
    }

    /// Resets the connection after `bytes` more.
    pub(crate) fn after(&self, bytes: usize) {
        self.0.store(bytes as i64, Ordering::SeqCst);
    }
}

/// A TCP connection that can be reset from within an answer.
pub(crate) struct Wire {
    stream: TcpStream,
    cut: Cut,
}

impl Wire {
    /// A connection, and what cuts it.
    pub(crate) fn new(stream: TcpStream, cut: Cut) -> Wire {
        Wire { stream, cut }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.cut.0.load(Ordering::SeqCst);
        if left == 0 {
            // Linger zero makes the close a reset.
            self.stream.set_zero_linger()?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let most = if left < 0 { buf.len() } else { buf.len().min(left as usize) };
        let written = Pin::new(&mut self.stream).poll_write(cx, &buf[..most]);
        if let (Poll::Ready(Ok(n)), true) = (&written, left > 0) {
            self.cut.0.store(left - *n as i64, Ordering::SeqCst);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
