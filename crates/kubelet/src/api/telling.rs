//! An answer's body on its way out: whose turn it is.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::counters::UnderWay;
use super::pulse::{Busy, Turn};

struct Telling {
    body: Body,
    /// Whose turn it is while a piece is there that is not taken. HTTP asks for
    /// the next one when the client has made room for it.
    taker: Turn,
    busy: Busy,
    _under_way: UnderWay,
}

/// The body, which counts as under way until it is told to its end or dropped.
pub(super) fn telling(body: Body, (mut busy, under_way): (Busy, UnderWay)) -> Body {
    let taker = match body.size_hint().exact() {
        Some(_) => Turn::Client,
        None => Turn::Reader,
    };
    busy.turn(taker);
    Body::new(Telling {
        body,
        taker,
        busy,
        _under_way: under_way,
    })
}

impl http_body::Body for Telling {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let turn = if polled.is_pending() {
            Turn::Node
        } else {
            self.taker
        };
        self.busy.turn(turn);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::super::counters::Counters;
    use super::super::pulse::{Connections, Place};
    use super::*;
    use futures::FutureExt;
    use futures::channel::mpsc;
    use http_body_util::BodyExt;
    use std::convert::Infallible;
    use std::sync::Arc;

    /// The only place, with a request on it.
    fn asked() -> (Arc<Connections>, Place, (Busy, UnderWay)) {
        let all = Connections::new(1);
        let place = all.admit().unwrap();
        let busy = place.pulse.request().unwrap();
        (all, place, (busy, Counters::default().under_way("other")))
    }

    #[tokio::test]
    async fn a_follower_of_a_quiet_log_is_safe_and_one_who_does_not_read_is_not() {
        let (all, place, held) = asked();
        let (writing, written) = mpsc::unbounded::<Result<Bytes, Infallible>>();
        let mut log = telling(Body::from_stream(written), held);
        assert!(log.frame().now_or_never().is_none());
        assert!(all.admit().is_none(), "nothing was written");
        writing.unbounded_send(Ok("a\n".into())).unwrap();
        assert!(log.frame().now_or_never().is_some());
        assert!(log.frame().now_or_never().is_none());
        assert!(all.admit().is_none(), "it has read all");
        writing.unbounded_send(Ok("b\n".into())).unwrap();
        assert!(log.frame().now_or_never().is_some());
        assert!(all.admit().is_some(), "the line is not taken");
        assert!(place.pulse.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_has_thirty_seconds_to_be_taken_and_a_log_has_no_end() {
        let (_all, place, held) = asked();
        let refusal = telling(Body::from("Unauthorized"), held);
        let begun = tokio::time::Instant::now();
        place.pulse.ends().await;
        assert_eq!(begun.elapsed(), super::super::limits::ANSWER);
        drop(refusal);
        let (_all, place, held) = asked();
        let lines = futures::stream::iter([Ok::<_, Infallible>("a\n")]);
        let _log = telling(Body::from_stream(lines), held);
        let day = std::time::Duration::from_secs(24 * 3600);
        let lasting = tokio::time::timeout(day, place.pulse.ends()).await;
        assert!(lasting.is_err());
    }
}
