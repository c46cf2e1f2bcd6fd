//! Whether a device is there. Flight Control tells when it was last seen (a healthy
//! idle one up to 2 min 15 s ago: a long poll of two minutes, saved every 15 s), and
//! five to seven minutes after that calls it `Unknown`.
//!
//! What we did not read says nothing about a device: it is away only when Flight
//! Control has answered us for a whole window, and says itself that it has heard
//! nothing for as long. What was told of it before a restart stands until there is
//! news.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The shortest window that a fleet may have: a healthy device's last sign may be
/// 2 min 15 s old.
pub const SHORTEST_WINDOW: Duration = Duration::from_secs(150);
/// The window where nothing is configured.
pub const WINDOW: Duration = Duration::from_secs(180);
/// Between two questions about a device that is away: whoever waits for it is told
/// soon, and few of them cost next to nothing.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// Returns within this make a device one that comes and goes.
const FLAPPING_WITHIN: Duration = Duration::from_secs(30 * 60);
/// So many of them.
const FLAPPING_RETURNS: usize = 3;
/// It takes new pods again when it has stayed for so long.
const STEADY: Duration = Duration::from_secs(10 * 60);

/// A device that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// Since when Kubernetes is told so.
    pub since: Timestamp,
    /// When that was on the clock that nobody sets; not known of before a start.
    at: Option<Instant>,
}

impl Away {
    /// For how long it has been away.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        match self.at {
            Some(at) => at.elapsed(),
            None => Duration::try_from(now.duration_since(self.since)).unwrap_or_default(),
        }
    }
}

/// What became of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is away.
    Left,
    /// It is back, after so long.
    Back(Duration),
}

/// What is known of one device.
#[derive(Clone, Debug)]
pub struct Silence {
    known: Instant,
    /// When there was last a sign of life, as far as is known.
    heard: Instant,
    /// There was one since the start of this process.
    signed: bool,
    /// What Flight Control answered last: when it was asked, and how old the last
    /// sign was then.
    answer: Option<(Instant, Duration)>,
    /// When that was.
    last_seen: Option<Timestamp>,
    /// Flight Control calls it `Unknown`.
    unknown: bool,
    away: Option<Away>,
    returns: VecDeque<Instant>,
}

impl Silence {
    /// Of a device that was read for the first time.
    pub fn new(unknown: bool) -> Self {
        Self {
            known: Instant::now(),
            heard: Instant::now(),
            signed: false,
            answer: None,
            last_seen: None,
            unknown,
            away: None,
            returns: VecDeque::new(),
        }
    }

    /// How long ago it was read for the first time.
    pub fn known_for(&self) -> Duration {
        self.known.elapsed()
    }

    /// Since when it is away, if it is.
    pub fn away(&self) -> Option<Away> {
        self.away
    }

    /// When it was last seen; of one that Flight Control was not asked about, when it
    /// was found to be away.
    pub fn vanished(&self) -> Option<Timestamp> {
        self.last_seen.or(self.away.map(|away| away.since))
    }

    /// Whether Flight Control calls it `Unknown`. It does not any more: a sign.
    pub fn read(&mut self, unknown: bool) {
        if self.unknown && !unknown {
            self.sign();
        }
        self.unknown = unknown;
    }

    /// It did something that nobody but itself does.
    pub fn sign(&mut self) {
        self.heard = Instant::now();
        self.signed = true;
    }

    /// Flight Control was asked at `asked`, and answered that it was last seen then,
    /// so long before its own present; or that it never was.
    pub fn seen(&mut self, asked: Instant, last: Option<(Timestamp, Duration)>) {
        let Some((last_seen, age)) = last else {
            self.answer = Some((asked, Duration::ZERO));
            return;
        };
        let later = self.last_seen.is_none_or(|known| last_seen > known);
        let news = later && (self.last_seen.is_some() || age < WINDOW);
        if news && let Some(heard) = asked.checked_sub(age) {
            // Of a sign that is older than one that we noticed nothing follows.
            self.signed |= heard > self.heard || self.away.is_some();
            self.heard = self.heard.max(heard);
        }
        self.last_seen = self.last_seen.max(Some(last_seen));
        self.answer = Some((asked, age));
    }

    /// An earlier process has told Kubernetes that it is away since then.
    pub fn found_away(&mut self, since: Timestamp) {
        if self.away.is_none() && !self.signed {
            self.away = Some(Away { since, at: None });
        }
    }

    /// Whether Flight Control has to be asked about it: it has answered since
    /// `answering`.
    pub fn is_in_question(&self, answering: Instant, window: Duration) -> bool {
        let asked_for = |wait: Duration| self.answer.is_none_or(|(at, _)| at.elapsed() >= wait);
        match self.away {
            Some(_) => asked_for(ASK_AGAIN),
            None => self.is_quiet(answering, window) && asked_for(ASK_AGAIN),
        }
    }

    /// Whether it was not asked about for a while.
    pub fn may_be_asked(&self) -> bool {
        self.answer.is_none_or(|(at, _)| at.elapsed() >= ASK_AGAIN)
    }

    /// Nobody asked about it yet.
    pub fn is_unasked(&self) -> bool {
        self.answer.is_none()
    }

    /// Whether it was asked about since Flight Control answers, and lately.
    pub fn is_fresh(&self, answering: Instant) -> bool {
        self.answer
            .is_some_and(|(at, _)| at >= answering && at.elapsed() <= 4 * ASK_AGAIN)
    }

    /// What has become of it now; `answering` is since when Flight Control answers
    /// without a break.
    pub fn turn(&mut self, now: Timestamp, answering: Instant, window: Duration) -> Option<Turn> {
        match self.away {
            Some(away) if self.signed => {
                self.away = None;
                self.returns.push_back(Instant::now());
                self.is_flapping();
                Some(Turn::Back(away.elapsed(now)))
            }
            None if self.is_gone(answering, window) => {
                self.signed = false;
                self.away = Some(Away {
                    since: now,
                    at: Some(Instant::now()),
                });
                Some(Turn::Left)
            }
            _ => None,
        }
    }

    /// It came and went too often, and has not stayed for long enough since.
    pub fn is_flapping(&mut self) -> bool {
        while let Some(first) = self.returns.front()
            && first.elapsed() > FLAPPING_WITHIN + STEADY
        {
            self.returns.pop_front();
        }
        let last = self.returns.back().copied();
        let counted = self
            .returns
            .iter()
            .filter(|at| last.is_some_and(|last| last.duration_since(**at) <= FLAPPING_WITHIN));
        counted.count() >= FLAPPING_RETURNS && last.is_some_and(|last| last.elapsed() < STEADY)
    }

    /// A window in which there could have been a sign, and was none.
    fn is_quiet(&self, answering: Instant, window: Duration) -> bool {
        self.heard.max(answering).elapsed() >= window
    }

    fn is_gone(&self, answering: Instant, window: Duration) -> bool {
        let silent_since = self.heard.max(answering);
        self.is_quiet(answering, window)
            && (self.unknown
                || self
                    .answer
                    .is_some_and(|(at, age)| at >= silent_since + window && age >= window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const AGO: fn(u64) -> Duration = Duration::from_secs;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn turn(silence: &mut Silence, answering: Instant) -> Option<Turn> {
        silence.turn(now(), answering, WINDOW)
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_flight_control_has_not_seen_for_the_window_is_away() {
        let start = Instant::now();
        let mut silence = Silence::new(false);
        advance(WINDOW - AGO(1)).await;
        assert!(!silence.is_in_question(start, WINDOW));
        advance(AGO(1)).await;
        assert!(silence.is_in_question(start, WINDOW));
        assert_eq!(turn(&mut silence, start), None, "nobody was asked yet");
        silence.seen(Instant::now(), Some((now(), WINDOW)));
        assert_eq!(turn(&mut silence, start), Some(Turn::Left));
        assert_eq!(turn(&mut silence, start), None, "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_idle_device_is_asked_about_when_its_last_sign_is_a_window_old() {
        let start = Instant::now();
        let mut silence = Silence::new(false);
        advance(WINDOW).await;
        silence.seen(Instant::now(), Some((now(), AGO(100))));
        assert_eq!(turn(&mut silence, start), None);
        assert!(!silence.is_in_question(start, WINDOW));
        advance(WINDOW - AGO(100)).await;
        assert!(silence.is_in_question(start, WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn what_flight_control_did_not_answer_says_nothing() {
        let mut silence = Silence::new(false);
        advance(AGO(3600)).await;
        // It answers again, and calls the device Unknown before that can come back.
        let answering = Instant::now();
        silence.read(true);
        silence.seen(Instant::now(), Some((now(), AGO(3600))));
        assert_eq!(turn(&mut silence, answering), None);
        advance(WINDOW - AGO(1)).await;
        assert_eq!(turn(&mut silence, answering), None);
        advance(AGO(1)).await;
        assert_eq!(turn(&mut silence, answering), Some(Turn::Left));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_the_window_had_passed_does_not_count() {
        let start = Instant::now();
        let mut silence = Silence::new(false);
        silence.seen(Instant::now(), Some((now(), AGO(600))));
        advance(WINDOW).await;
        assert_eq!(turn(&mut silence, start), None, "it may have come back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_returns_without_news_is_told_by_when_it_was_last_seen() {
        let start = Instant::now();
        let mut silence = Silence::new(false);
        advance(WINDOW).await;
        silence.seen(Instant::now(), Some((now(), AGO(200))));
        assert_eq!(turn(&mut silence, start), Some(Turn::Left));
        advance(AGO(60)).await;
        silence.seen(Instant::now(), Some((now(), AGO(260))));
        assert_eq!(turn(&mut silence, start), None, "the same sign");
        advance(AGO(60)).await;
        let later = now().checked_add(AGO(300)).unwrap();
        silence.seen(Instant::now(), Some((later, AGO(20))));
        assert_eq!(turn(&mut silence, start), Some(Turn::Back(AGO(120))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_process_has_told_stands_until_there_is_news() {
        let since = now().checked_sub(AGO(240)).unwrap();
        let start = Instant::now();
        let mut silence = Silence::new(false);
        silence.found_away(since);
        assert_eq!(silence.away().unwrap().elapsed(now()), AGO(240));
        // Seen before that: the same absence.
        silence.seen(Instant::now(), Some((since, AGO(500))));
        assert_eq!(turn(&mut silence, start), None);
        let mut back = silence.clone();
        back.seen(Instant::now(), Some((now(), AGO(10))));
        assert_eq!(turn(&mut back, start), Some(Turn::Back(AGO(240))));
        let mut reported = Silence::new(false);
        reported.sign();
        reported.found_away(since);
        assert_eq!(reported.away(), None, "there was news already");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_first_answer_brings_a_device_back_that_an_earlier_process_missed() {
        let start = Instant::now();
        let mut silence = Silence::new(false);
        silence.found_away(now());
        silence.seen(Instant::now(), Some((now(), AGO(30))));
        assert!(matches!(turn(&mut silence, start), Some(Turn::Back(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_and_goes_is_known_until_it_has_stayed() {
        let start = Instant::now();
        let mut silence = Silence::new(false);
        for round in 1..=FLAPPING_RETURNS {
            assert!(!silence.is_flapping(), "{round}");
            silence.read(true);
            advance(WINDOW).await;
            assert_eq!(turn(&mut silence, start), Some(Turn::Left));
            silence.read(false);
            assert!(matches!(turn(&mut silence, start), Some(Turn::Back(_))));
        }
        assert!(silence.is_flapping());
        advance(STEADY).await;
        assert!(!silence.is_flapping());
    }
}
