use proptest::prelude::*;

use super::*;

fn decode_all(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let (mut decoder, mut input) = (Decoder::default(), BytesMut::from(bytes));
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next(&mut input)? {
        frames.push(frame);
    }
    assert!(input.is_empty(), "bytes were left over");
    Ok(frames)
}

fn control_frame(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    header(&mut out, kind, flags, 0, payload);
    out.put_slice(payload);
    out.to_vec()
}

#[test]
fn a_syn_stream_is_laid_out_as_the_draft_draws_it() {
    let frame = Frame::SynStream {
        stream: StreamId(3),
        associated: 1,
        priority: 5,
        fin: true,
        unidirectional: false,
        block: Bytes::from_static(b"hh"),
    };
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    let wire = b"\x80\x03\x00\x01\x01\x00\x00\x0c\x00\x00\x00\x03\x00\x00\x00\x01\xa0\x00hh";
    assert_eq!(&out[..], wire);
}

#[test]
fn a_frame_over_the_limit_is_refused_by_its_header_alone() {
    let mut input = BytesMut::from(&b"\x80\x03\x00\x01\x00\xff\xff\xff"[..]);
    let error = Decoder::default().next(&mut input).unwrap_err();
    assert_eq!(
        error,
        FrameError::TooLarge {
            kind: 1,
            len: 0xff_ffff
        }
    );
}

#[test]
fn another_version_is_refused() {
    let mut input = BytesMut::from(&b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"[..]);
    assert_eq!(
        Decoder::default().next(&mut input),
        Err(FrameError::Version(2))
    );
}

#[test]
fn wrong_lengths_are_refused_by_type() {
    for (kind, payload) in [
        (1, 9),
        (2, 3),
        (3, 7),
        (3, 9),
        (4, 3),
        (6, 5),
        (7, 4),
        (8, 3),
        (9, 12),
    ] {
        let bytes = control_frame(kind, 0, &vec![1; payload]);
        assert_eq!(
            decode_all(&bytes),
            Err(FrameError::Length { kind, len: payload })
        );
    }
}

#[test]
fn settings_that_promise_more_than_they_bring_are_refused() {
    let bytes = control_frame(kind::SETTINGS, 0, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(
        decode_all(&bytes),
        Err(FrameError::Length {
            kind: kind::SETTINGS,
            len: 8
        })
    );
}

#[test]
fn unknown_control_frames_are_passed_over() {
    let mut bytes = control_frame(10, 0, b"credential");
    bytes.extend(control_frame(kind::PING, 0, &[0, 0, 0, 7]));
    assert_eq!(
        decode_all(&bytes).unwrap(),
        [Frame::Unknown(10), Frame::Ping(7)]
    );
}

#[test]
fn nothing_is_for_stream_zero() {
    assert_eq!(decode_all(&[0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::Zero));
    assert_eq!(
        decode_all(&control_frame(
            kind::RST_STREAM,
            0,
            &[0, 0, 0, 0, 0, 0, 0, 1]
        )),
        Err(FrameError::Zero)
    );
}

#[test]
fn data_comes_through_before_its_frame_is_whole() {
    let mut out = BytesMut::new();
    encode_data(StreamId(1), b"hello", true, &mut out);
    let mut rest = out.split_off(10);
    let mut decoder = Decoder::default();
    let piece = |data: &'static [u8], fin| Frame::Data {
        stream: StreamId(1),
        data: data.into(),
        fin,
    };
    assert_eq!(decoder.next(&mut out), Ok(Some(piece(b"he", false))));
    assert_eq!(decoder.next(&mut out), Ok(None));
    assert_eq!(decoder.next(&mut rest), Ok(Some(piece(b"llo", true))));
}

fn frames() -> impl Strategy<Value = Frame> {
    let id = (1..=StreamId::MAX.0).prop_map(StreamId);
    let block = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let setting = (any::<u8>(), 0..=U24, any::<u32>()).prop_map(|(flags, id, value)| Setting {
        flags,
        id,
        value,
    });
    prop_oneof![
        (
            id.clone(),
            0..=U31,
            0..8u8,
            any::<bool>(),
            any::<bool>(),
            block.clone()
        )
            .prop_map(
                |(stream, associated, priority, fin, unidirectional, block)| Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional,
                    block
                }
            ),
        (id.clone(), any::<bool>(), block.clone())
            .prop_map(|(stream, fin, block)| Frame::SynReply { stream, fin, block }),
        (id.clone(), any::<bool>(), block.clone())
            .prop_map(|(stream, fin, block)| Frame::Headers { stream, fin, block }),
        (id.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream {
            stream,
            status: ResetStatus(status)
        }),
        proptest::collection::vec(setting, 0..5).prop_map(Frame::Settings),
        (1..=u32::MAX).prop_map(Frame::Ping),
        (0..=U31, any::<u32>()).prop_map(|(last_good, status)| Frame::GoAway {
            last_good,
            status: GoAwayStatus(status)
        }),
        (0..=U31, 0..=U31).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        (id, block, any::<bool>()).prop_map(|(stream, data, fin)| Frame::Data {
            stream,
            data: Payload(data),
            fin
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_frame_comes_back_as_it_was(frames in proptest::collection::vec(frames(), 0..6)) {
        let mut out = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut out));
        prop_assert_eq!(decode_all(&out), Ok(frames));
    }

    #[test]
    fn a_cut_at_any_byte_changes_nothing(frames in proptest::collection::vec(frames(), 0..4)) {
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut wire));
        for cut in 0..=wire.len() {
            let (mut decoder, mut input, mut got) = (Decoder::default(), BytesMut::new(), Vec::new());
            for part in [&wire[..cut], &wire[cut..]] {
                input.extend_from_slice(part);
                while let Some(frame) = decoder.next(&mut input).unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(merged(got), merged(frames.clone()));
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn any_bytes_give_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::from(&bytes[..]));
        while let Ok(Some(_)) = decoder.next(&mut input) {}
    }
}

/// The same frames with the neighbouring pieces of one stream put together.
fn merged(frames: Vec<Frame>) -> Vec<Frame> {
    let mut out: Vec<Frame> = Vec::new();
    for frame in frames {
        match (out.last_mut(), frame) {
            (
                Some(Frame::Data {
                    stream,
                    data,
                    fin: open @ false,
                }),
                Frame::Data {
                    stream: next,
                    data: more,
                    fin,
                },
            ) if *stream == next => {
                *data = [&data[..], &more[..]].concat().into();
                *open = fin;
            }
            (_, frame) => out.push(frame),
        }
    }
    out
}
