//! [`Decoder`]: what a tap sent, as [`Record`]s. A tap is near an application that strangers send to, so what it says is checked.
//!
//! Before: the stream from the tap, into a buffer that grows; after: `gateway::mirror`.

use bytes::{Buf, BytesMut};
use link::mirrored::{FrameHeader, FrameKind};
use thiserror::Error;

use super::{
    FromTap,
    records::{FlowNumber, FromFlow, HEADER_BYTES, MAX_SAID_BYTES, OPENED, Opened, Record, SAID},
};

/// What a tap sent is none of what taps say. Nothing that follows can be read.
#[derive(Debug, Error)]
pub enum TapNonsense {
    /// A frame is none.
    #[error("the tap sent nonsense about flow {flow}: {source}")]
    Frame {
        /// The flow's number.
        flow: u64,
        /// What is wrong with it.
        source: link::mirrored::Malformed,
    },
    /// The beginning of a flow cannot be read.
    #[error("the tap sent nonsense about the beginning of flow {0}")]
    Opened(u64),
    /// What it says about itself is longer than taps talk.
    #[error("the tap sent a message of {0} bytes about itself")]
    TooLong(usize),
    /// What it says about itself cannot be read.
    #[error("the tap sent a message about itself that cannot be read: {0}")]
    Message(serde_json::Error),
    /// A record of the tap is said of a flow, or the other way round.
    #[error("the tap sent kind {kind} for flow {flow}")]
    Misplaced {
        /// The flow's number.
        flow: u64,
        /// The record's kind.
        kind: u8,
    },
}

/// Takes records off the front of a buffer, without a copy: a frame shares the buffer's memory.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What the record at the front needs in all, when that is known.
    needed: usize,
}

impl Decoder {
    /// Room to reserve before a read: small enough for the cache, large enough for some frames of 64 KiB.
    pub const READ_BYTES: usize = 256 << 10;

    /// Nothing was read yet.
    pub const fn new() -> Self {
        Self { needed: HEADER_BYTES }
    }

    /// The next record, if `buffer` has it whole. `buffer` never has to hold more than one record beyond what was read at once.
    ///
    /// # Errors
    /// [`TapNonsense`]; the tap is of no use any more.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Record>, TapNonsense> {
        if buffer.len() < self.needed.max(HEADER_BYTES) {
            return Ok(None);
        }
        let flow = u64::from_be_bytes(buffer[..8].try_into().expect("eight bytes"));
        let head: [u8; FrameHeader::BYTES] = buffer[8..HEADER_BYTES].try_into().expect("four bytes");
        let shape = Shape::read(flow, head)?;
        self.needed = HEADER_BYTES + shape.len();
        if buffer.len() < self.needed {
            return Ok(None);
        }
        let mut record = buffer.split_to(self.needed);
        self.needed = HEADER_BYTES;
        let number = FlowNumber(flow);
        Ok(Some(match shape {
            Shape::Said(_) => {
                let said: FromTap = serde_json::from_slice(&record[HEADER_BYTES..]).map_err(TapNonsense::Message)?;
                Record::Said(said)
            }
            Shape::Opened => {
                let opened = Opened::decode(&record[HEADER_BYTES..]).ok_or(TapNonsense::Opened(flow))?;
                Record::Flow(number, FromFlow::Opened(opened))
            }
            Shape::Frame(header) => {
                record.advance(8);
                Record::Flow(number, FromFlow::Frame { header, bytes: record.freeze() })
            }
        }))
    }
}

enum Shape {
    Said(usize),
    Opened,
    Frame(FrameHeader),
}

impl Shape {
    fn read(flow: u64, head: [u8; FrameHeader::BYTES]) -> Result<Self, TapNonsense> {
        let kind = head[0];
        let len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        match (FlowNumber(flow) == FlowNumber::TAP, kind) {
            (true, SAID) if len <= MAX_SAID_BYTES => Ok(Self::Said(len)),
            (true, SAID) => Err(TapNonsense::TooLong(len)),
            (false, OPENED) if len == Opened::BYTES => Ok(Self::Opened),
            (false, OPENED) => Err(TapNonsense::Opened(flow)),
            (true, _) | (false, SAID) => Err(TapNonsense::Misplaced { flow, kind }),
            (false, _) => {
                let header = FrameHeader::decode(head).map_err(|source| TapNonsense::Frame { flow, source })?;
                let exact = header.kind != FrameKind::Gap || len == link::mirrored::Gap::BYTES;
                exact
                    .then_some(Self::Frame(header))
                    .ok_or(TapNonsense::Frame { flow, source: link::mirrored::Malformed::Truncated })
            }
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::Said(len) => *len,
            Self::Opened => Opened::BYTES,
            Self::Frame(header) => header.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use bytes::Bytes;
    use link::{
        mirrored::Gap,
        rules::{LossReason, RuleProtocol},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::tap::protocol::{RingState, TapStats, record_header, records::header_bytes};

    fn flow_number() -> impl Strategy<Value = FlowNumber> {
        prop_oneof![any::<u32>().prop_map(FlowNumber::tcp), (0..u64::MAX >> 1).prop_map(FlowNumber::udp)]
    }

    fn opened() -> impl Strategy<Value = Opened> {
        let ips = prop_oneof![
            any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)))
        ];
        (ips, any::<(u16, u16, bool, bool, u64)>(), 0u32..1_000_000).prop_map(|(ips, other, sample_number)| Opened {
            protocol: if other.2 { RuleProtocol::Udp } else { RuleProtocol::Tcp },
            from_start: other.3,
            client: SocketAddr::new(ips.0, other.0),
            server: SocketAddr::new(ips.1, other.1),
            sample_number,
            seen_unix_micros: other.4,
        })
    }

    fn frame() -> impl Strategy<Value = FromFlow> {
        let kinds = prop_oneof![
            any::<(bool, bool)>().prop_map(|(starts_segment, pushed)| FrameKind::Bytes { starts_segment, pushed }),
            Just(FrameKind::Datagram),
            Just(FrameKind::Finished),
            Just(FrameKind::Gone),
        ];
        let plain = (kinds, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, mut payload)| {
            if matches!(kind, FrameKind::Finished | FrameKind::Gone) {
                payload.clear();
            }
            let header = FrameHeader { kind, len: payload.len() };
            (header, [&header.encode()[..], &payload].concat())
        });
        let gap = any::<(u64, u64)>().prop_map(|(bytes, datagrams)| {
            let frame = Gap { reason: LossReason::Ring, bytes, datagrams }.frame();
            (FrameHeader { kind: FrameKind::Gap, len: Gap::BYTES }, frame.to_vec())
        });
        prop_oneof![plain, gap].prop_map(|(header, bytes)| FromFlow::Frame { header, bytes: bytes.into() })
    }

    fn record() -> impl Strategy<Value = Record> {
        let said = prop_oneof![
            any::<(u64, u64)>().prop_map(|(frames, losses)| FromTap::Stats(TapStats {
                frames,
                losses,
                ..TapStats::default()
            })),
            ".{0,40}".prop_map(|reason| FromTap::Failed { reason }),
            any::<u64>().prop_map(|generation| FromTap::RulesApplied {
                generation,
                ring: RingState::Open { bytes: generation, reduced: true },
                nobody_listens: Vec::new()
            }),
        ];
        let flow = prop_oneof![opened().prop_map(FromFlow::Opened), frame()];
        prop_oneof![
            said.prop_map(Record::Said),
            (flow_number(), flow).prop_map(|(number, flow)| Record::Flow(number, flow))
        ]
    }

    fn encode(record: &Record) -> Vec<u8> {
        match record {
            Record::Said(said) => said.record(),
            Record::Flow(number, FromFlow::Opened(opened)) => opened.record(*number).to_vec(),
            Record::Flow(number, FromFlow::Frame { header, bytes }) => {
                [&record_header(*number, *header)[..], &bytes[FrameHeader::BYTES..]].concat()
            }
        }
    }

    proptest! {
        #[test]
        fn what_a_tap_says_arrives_however_it_is_cut(
            records in prop::collection::vec(record(), 0..12),
            cuts in prop::collection::vec(1usize..200, 1..20),
        ) {
            let bytes: Bytes = records.iter().flat_map(encode).collect();
            let (mut decoder, mut buffer, mut got) = (Decoder::new(), BytesMut::new(), Vec::new());
            let (mut at, mut turn) = (0, 0);
            while at < bytes.len() {
                let end = bytes.len().min(at + cuts[turn % cuts.len()]);
                buffer.extend_from_slice(&bytes[at..end]);
                while let Some(record) = decoder.take(&mut buffer).unwrap() {
                    got.push(record);
                }
                (at, turn) = (end, turn + 1);
            }
            prop_assert_eq!(got, records);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, flow in 0u64..3, kind: u8, len in 0usize..40) {
            for mut buffer in [BytesMut::from(&bytes[..]), {
                let mut lying = BytesMut::from(&header_bytes(FlowNumber(flow), kind, len)[..]);
                lying.extend_from_slice(&bytes);
                lying
            }] {
                let mut decoder = Decoder::new();
                while let Ok(Some(_)) = decoder.take(&mut buffer) {}
                prop_assert!(decoder.needed <= HEADER_BYTES + link::mirrored::MAX_FRAME_BYTES.max(MAX_SAID_BYTES));
            }
        }
    }

    #[test]
    fn nonsense_is_named_before_its_length_is_waited_for() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 0, 0, 0, 0, 0, SAID, 0xff, 0xff, 0xff][..]);
        let error = Decoder::new().take(&mut buffer).unwrap_err();
        assert_eq!(error.to_string(), "the tap sent a message of 16777215 bytes about itself");
        let mut buffer = BytesMut::from(&[0, 0, 0, 0, 0, 0, 0, 7, 0x66, 0, 0, 0][..]);
        let error = Decoder::new().take(&mut buffer).unwrap_err();
        assert_eq!(error.to_string(), "the tap sent nonsense about flow 7: unknown kind 102");
    }
}
