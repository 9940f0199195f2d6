//! A program takes what its rules name and nothing else, as a machine for it runs it and as plain words say it.

use proptest::prelude::*;

use super::{interpreter::Frame, *};

const SHORT: usize = SHORT_BYTES as usize;

/// What a program should do, said plainly.
fn takes(wanted: &Wanted, ring: RuleProtocol, size: Size, frame: &Frame) -> bool {
    let bytes = frame.bytes.get(frame.link_bytes..).unwrap_or_default();
    let port = |wanted: &[u32], at: usize| {
        let port = bytes.get(at..at + 2).map(|port| u32::from(u16::from_be_bytes([port[0], port[1]])));
        port.is_some_and(|port| wanted.contains(&port))
    };
    let ports = |protocol: u8| match protocol {
        6 if ring == RuleProtocol::Tcp => &wanted.tcp[..],
        17 if ring == RuleProtocol::Udp => &wanted.udp[..],
        _ => &[],
    };
    let byte = |at: usize| bytes.get(at).copied();
    let inside = || match frame.protocol {
        0x0800 => {
            let ports = ports(byte(9)?);
            let later = (byte(6)? & 0x1f) != 0 || byte(7)? != 0;
            Some(!ports.is_empty() && (later || port(ports, usize::from(byte(0)? & 0xf) * 4 + 2)))
        }
        0x86dd => match byte(6)? {
            protocol @ (6 | 17) => Some(port(ports(protocol), 42)),
            0 | 43 | 44 | 60 => match byte(40)? {
                protocol @ (6 | 17) => Some(!ports(protocol).is_empty()),
                next => Some(matches!(next, 43 | 44 | 60)),
            },
            _ => Some(false),
        },
        _ => Some(false),
    };
    (size == Size::Short) == (frame.bytes.len() <= SHORT)
        && frame.kind <= 2
        && frame.vlan.is_none_or(|tag| tag & 0xfff == 0)
        && wanted.interfaces.contains(&frame.interface)
        && inside() == Some(true)
}

fn list(most: usize, values: u32) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::btree_set(0..values, 0..most).prop_map(|set| set.into_iter().collect())
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        (list(5, 8), list(4, 20), list(4, 20)).prop_map(|(interfaces, tcp, udp)| Wanted { interfaces, tcp, udp }),
        (list(40, 60), list(600, 1_200), list(600, 1_200)).prop_map(|(interfaces, tcp, udp)| Wanted {
            interfaces,
            tcp,
            udp
        }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let protocol = prop_oneof![4 => Just(0x0800), 4 => Just(0x86dd), 1 => Just(0x0806), 1 => Just(0x8100)];
    let inside = prop_oneof![Just(6), Just(17), Just(0), Just(43), Just(44), Just(60), Just(58), Just(1)];
    let vlan = prop_oneof![4 => Just(None), 1 => any::<u16>().prop_map(Some), 1 => Just(Some(0xe000))];
    let hardware = prop_oneof![Just(1), Just(772), Just(0), Just(20)];
    let head = (0u8..8, 0u32..9, vlan, protocol, hardware);
    let numbers = (inside.clone(), inside, prop_oneof![Just(0u16), Just(0x4000), Just(0x2000), any::<u16>()]);
    (
        head,
        numbers,
        0u16..1_300,
        5u8..16,
        prop_oneof![4 => Just(100), 1 => Just(SHORT - 14), 1 => Just(SHORT - 13), 1 => Just(SHORT), 1 => Just(SHORT + 1), 1 => 0..100usize],
    )
        .prop_map(|((kind, interface, vlan, protocol, hardware), (number, next, offset), port, words, len)| {
            let mut bytes = vec![0; len.max(128)];
            if protocol == 0x86dd {
                (bytes[0], bytes[6], bytes[40]) = (0x60, number, next);
                if !matches!(number, 0 | 43 | 44 | 60) {
                    bytes[42..44].copy_from_slice(&port.to_be_bytes());
                }
            } else {
                (bytes[0], bytes[9]) = (0x40 | words, number);
                bytes[6..8].copy_from_slice(&offset.to_be_bytes());
                let at = usize::from(words) * 4 + 2;
                bytes[at..at + 2].copy_from_slice(&port.to_be_bytes());
            }
            bytes.truncate(len);
            Frame { kind, interface, vlan, protocol, hardware, bytes, link_bytes: 0 }
        })
}

/// A ring for UDP has the link's header: of Ethernet, or of a device that has none or another.
fn seen_by(ring: RuleProtocol, frame: &Frame) -> Frame {
    let mut frame = frame.clone();
    if ring == RuleProtocol::Udp {
        frame.link_bytes = if matches!(frame.hardware, 1 | 772) { 14 } else { usize::from(frame.hardware) };
        frame.bytes.splice(..0, vec![0xee; frame.link_bytes]);
    }
    frame
}

proptest! {
    #[test]
    fn a_program_takes_exactly_what_is_wanted(wanted in wanted(), frames in prop::collection::vec(frame(), 1..30)) {
        let wanted_of = [RuleProtocol::Tcp, RuleProtocol::Udp].into_iter().filter(|ring| !wanted.ports(*ring).is_empty());
        for (ring, size) in wanted_of.flat_map(|ring| [(ring, Size::Short), (ring, Size::Long)]) {
            let coarse = program(&wanted, ring, size, 2);
            let program = program(&wanted, ring, size, usize::MAX);
            for frame in &frames {
                let frame = seen_by(ring, frame);
                let (copied, wanted) = (interpreter::run(&program, &frame), takes(&wanted, ring, size, &frame));
                prop_assert_eq!(copied > 0, wanted, "{:?} {:?} {:?}", ring, size, frame);
                prop_assert!(copied == 0 || copied == WHOLE_FRAME);
                prop_assert!(!wanted || interpreter::run(&coarse, &frame) > 0);
            }
        }
    }
}

#[test]
fn as_many_ports_as_there_can_be_fit_a_program() {
    let ports: Vec<u32> = (0..1_024).map(|n| n * 7).collect();
    let wanted = Wanted { interfaces: (0..1_024).collect(), tcp: ports.clone(), udp: Vec::new() };
    let program = program(&wanted, RuleProtocol::Tcp, Size::Short, usize::MAX);
    for &port in &ports {
        let mut bytes = vec![0; 64];
        (bytes[0], bytes[9]) = (0x45, 6);
        bytes[22..24].copy_from_slice(&u16::try_from(port).unwrap().to_be_bytes());
        let mut frame =
            Frame { kind: 0, interface: 1_023, vlan: None, protocol: 0x0800, hardware: 1, bytes, link_bytes: 0 };
        assert!(interpreter::run(&program, &frame) > 0, "{port}");
        frame.bytes[23] ^= 1;
        assert_eq!(interpreter::run(&program, &frame) > 0, ports.contains(&(port ^ 1)), "{port}");
    }
}
