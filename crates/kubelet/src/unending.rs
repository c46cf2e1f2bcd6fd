//! A backend's streams, which are not meant to end: one that does, or panics,
//! is opened anew.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep};
use tracing::{error, warn};

/// First pause before a stream is opened again, doubled up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
/// Meanwhile the last nodes hold, and listings tell of pods as often as this.
const LONGEST: Duration = Duration::from_secs(60);
/// A stream that lived this long was well.
const WELL: Duration = Duration::from_secs(120);

/// All that `open`'s streams say, one after the other.
pub(crate) fn unending<T, F>(what: &'static str, open: F) -> BoxStream<'static, T>
where
    T: Send + 'static,
    F: FnMut() -> BoxStream<'static, T> + Send + 'static,
{
    let source = Source {
        what,
        open,
        stream: None,
        opened: Instant::now(),
        pause: FIRST,
    };
    stream::unfold(source, |mut source| async move {
        let item = source.next().await;
        Some((item, source))
    })
    .boxed()
}

struct Source<T, F> {
    what: &'static str,
    open: F,
    stream: Option<BoxStream<'static, T>>,
    opened: Instant,
    pause: Duration,
}

impl<T, F: FnMut() -> BoxStream<'static, T>> Source<T, F> {
    async fn next(&mut self) -> T {
        loop {
            let said = async {
                let stream = self.stream.get_or_insert_with(&mut self.open);
                stream.next().await
            };
            match AssertUnwindSafe(said).catch_unwind().await {
                Ok(Some(item)) => return item,
                Ok(None) => warn!(what = self.what, "a stream of the backend's ended"),
                Err(_) => error!(what = self.what, "a stream of the backend's panicked"),
            }
            self.stream = None;
            if self.opened.elapsed() >= WELL {
                self.pause = FIRST;
            }
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST);
            self.opened = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_breaks_is_opened_again_ever_more_rarely_until_it_is_well() {
        let begun = Instant::now();
        let mut opened = 0;
        let mut numbers = unending("test", move || {
            opened += 1;
            let number = opened;
            assert_ne!(number, 3, "panics when it is opened");
            let said = stream::once(async move { number });
            match number {
                1 | 9 => said.boxed(),
                10 => said.chain(stream::pending()).boxed(),
                // It lives for a while, and is none the worse for its end.
                8 => said
                    .chain(stream::once(async {
                        sleep(WELL).await;
                        0
                    }))
                    .boxed(),
                _ => said
                    .chain(stream::once(async { panic!("when it is polled") }))
                    .boxed(),
            }
        });
        let mut heard = Vec::new();
        while heard.last() != Some(&10) {
            let number = numbers.next().await.unwrap();
            heard.push(number);
            if number == 9 {
                let passed = begun.elapsed();
                let pauses = Duration::from_secs(1 + 2 + 4 + 8 + 16 + 32 + 60 + 1);
                assert_eq!(passed, pauses + WELL);
            }
        }
        assert_eq!(heard, [1, 2, 4, 5, 6, 7, 8, 0, 9, 10]);
    }
}
