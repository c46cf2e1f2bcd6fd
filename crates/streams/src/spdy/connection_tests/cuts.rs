//! Whatever the cuts and the damage, by properties.

use proptest::prelude::*;

use super::*;

/// What a client does, for [`conversation`].
#[derive(Debug, Clone)]
enum Step {
    Open,
    Send(usize, Vec<u8>),
    Finish(usize),
    Reset(usize),
    Ping,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Open),
        (0..4usize, proptest::collection::vec(any::<u8>(), 1..30))
            .prop_map(|(n, data)| Step::Send(n, data)),
        (0..4usize).prop_map(Step::Finish),
        (0..4usize).prop_map(Step::Reset),
        Just(Step::Ping),
    ];
    proptest::collection::vec(step, 1..15)
}

/// The bytes a client sends when it takes these steps.
fn conversation(steps: &[Step]) -> BytesMut {
    let mut client = Connection::new(Role::Client, FlowControl::Ignored);
    let mut streams = Vec::new();
    for step in steps {
        match step {
            Step::Open => streams.push(client.open(&stdin()).unwrap()),
            Step::Send(n, data) => {
                let _ = streams.get(*n).map(|s| client.send(*s, data));
            }
            Step::Finish(n) => streams.get(*n).into_iter().for_each(|s| client.finish(*s)),
            Step::Reset(n) => streams
                .get(*n)
                .into_iter()
                .for_each(|s| client.reset(*s, ResetStatus::CANCEL)),
            Step::Ping => drop(client.ping()),
        }
    }
    client.output().split()
}

/// The events with the pieces of one stream's data that follow each other put together.
fn merged(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (
                Some(Event::Data { stream, data }),
                Event::Data {
                    stream: next,
                    data: more,
                },
            ) if *stream == next => {
                *data = [&data[..], &more[..]].concat().into();
            }
            (_, event) => out.push(event),
        }
    }
    out
}

proptest! {
    // Each case is a connection for every byte.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_cut_at_any_byte_tells_the_same(steps in steps()) {
        let bytes = conversation(&steps);
        let mut whole = server();
        let expected = merged(feed(&mut whole, &bytes));
        for cut in 0..=bytes.len() {
            let mut server = server();
            let (mut input, mut events) = (BytesMut::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                input.extend_from_slice(part);
                while let Some(event) = server.next(&mut input).unwrap() {
                    events.push(event);
                }
            }
            prop_assert_eq!(merged(events), expected.clone());
            prop_assert_eq!(server.output(), whole.output());
        }
    }
}

proptest! {
    #[test]
    fn byte_by_byte_tells_the_same(steps in steps()) {
        let bytes = conversation(&steps);
        let expected = merged(feed(&mut server(), &bytes));
        let (mut server, mut input, mut events) = (server(), BytesMut::new(), Vec::new());
        for byte in bytes {
            input.extend_from_slice(&[byte]);
            while let Some(event) = server.next(&mut input).unwrap() {
                events.push(event);
            }
        }
        prop_assert_eq!(merged(events), expected);
    }

    #[test]
    fn a_damaged_conversation_gives_events_or_an_error(
        steps in steps(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        kept in any::<bool>(),
    ) {
        let mut bytes = conversation(&steps);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let flow = if kept { FlowControl::Kept } else { FlowControl::Ignored };
        let mut server = Connection::new(Role::Server, flow);
        while let Ok(Some(_)) = server.next(&mut bytes) {}
        prop_assert!(server.open_streams() <= MAX_STREAMS);
    }
}
