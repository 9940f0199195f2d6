//! The kernel's own receiver against `netstack::reassembly`: both get the same segments, hostile ones among them, and what a program reads
//! from its socket is what comes out.

use std::{
    io::{self, ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
};

use netstack::{
    moment::Moment,
    packet::Packet,
    reassembly::{Event, Flags, FlowId, GapReason, Limits, Reassembler, Segment, checksum_holds},
};
use nix::sched::{CloneFlags, unshare};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{emulator::tun::Tun, lab::PATIENCE, machine, process, wait};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const PORT: u16 = 80;

const SYN: u8 = Flags::SYN.0;
const FIN: u8 = Flags::FIN.0;
const RST: u8 = Flags::RST.0;
const ACK: u8 = Flags::ACK.0;

/// What came of a stream: bytes, `None` for one that is missing, and its end.
#[derive(Debug, Default)]
struct Outcome {
    /// Offset, flags and length of what was sent, for who reads a failure.
    sent: Vec<(u32, u8, usize)>,
    bytes: Vec<Option<u8>>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    Reset,
    /// It went on behind its FIN.
    Unclear,
}

#[test]
fn overlaps_are_read_as_the_kernel_reads_them() {
    let target = Target::new();
    let mut random = StdRng::seed_from_u64(4);
    let mut certain = 0;
    for port in 1000..1800 {
        let mut client = target.connect(port, random.random());
        let segments = random.random_range(1..8);
        for number in 1..=segments {
            let (start, len) = (random.random_range(1..60), random.random_range(1..30));
            client.send(start, ACK, &vec![number; len]);
        }
        client.send(0, ACK, &[0]);
        let (kernel, ours) = client.finish();
        certain += usize::from(ours.bytes.iter().all(Option::is_some));
        assert_same(&kernel, &ours);
    }
    // Some depend on what the kernel has joined, which is not to be known; most do not.
    assert!(certain > 400, "{certain} of 800 without a gap");
}

#[test]
fn endings_count_when_they_count_for_the_kernel() {
    let target = Target::new();
    let mut random = StdRng::seed_from_u64(5);
    let mut ends = [0; 4];
    for port in 1000..2500 {
        let mut client = target.connect(port, random.random());
        // Four at most: the kernel remembers no more of what came behind a hole.
        for number in 1..=4 {
            let (at, len) = (random.random_range(0..9), random.random_range(0..8));
            match random.random_range(0..10) {
                0 => client.send(at, RST, &[]),
                1 => client.send(at, RST | ACK, &[]),
                2 => client.send(at, SYN, &[]),
                3 => client.send(at, 0, &[9; 4]),
                4 => client.send(at, ACK | FIN, &vec![number; len]),
                _ => client.send(at, ACK, &vec![number; len.max(1)]),
            }
            if client.ours.end.is_some() {
                break;
            }
        }
        if client.ours.end.is_none() {
            client.send(0, ACK, &[0; 3]);
        }
        let (kernel, ours) = client.finish();
        assert_same(&kernel, &ours);
        ends[ours.end.map_or(0, |end| 1 + end as usize)] += 1;
    }
    assert!(ends[..3].iter().all(|&times| times > 50), "open, finished, reset, unclear: {ends:?}");
}

#[test]
fn the_kernel_counts_what_it_received_as_we_take_it_to() {
    let target = Target::new();
    let mut client = target.connect(1000, u32::MAX - 1);
    let received = || {
        let sockets = process::run(Command::new("ss").args(["-tniH", "sport", "=", "80"]));
        let counts = sockets.split_whitespace().filter_map(|word| word.strip_prefix("bytes_received:"));
        counts.map(|count| count.parse::<u64>().expect("a number")).next().unwrap_or(0)
    };
    assert_eq!(received(), 0);
    client.send(0, ACK, &[1; 500]);
    client.send(600, ACK, &[1; 100]);
    client.send(400, ACK, &[1; 150]);
    assert_eq!(received(), 550, "what is in order, and once");
    client.send(550, ACK | FIN, &[1; 50]);
    assert_eq!(received(), 601, "and the FIN as a byte; what is behind it is nothing");
}

/// Whatever is not missing is the same, and so is the end, if that is clear.
#[track_caller]
fn assert_same(kernel: &Outcome, ours: &Outcome) {
    if ours.end != Some(End::Unclear) {
        assert_eq!((kernel.bytes.len(), kernel.end), (ours.bytes.len(), ours.end), "{kernel:?} {ours:?}");
    }
    let same = |(kernel, ours): (&Option<u8>, &Option<u8>)| ours.is_none() || kernel == ours;
    assert!(kernel.bytes.iter().zip(&ours.bytes).all(same), "{kernel:?} {ours:?}");
}

/// A namespace with a listener and one device, whose other end is the test.
struct Target {
    tun: Tun,
    listener: TcpListener,
}

impl Target {
    /// Moves this thread, and with it the test, into a network of its own.
    fn new() -> Self {
        machine::require_namespaces();
        unshare(CloneFlags::CLONE_NEWNET).expect("namespaces were required");
        let tun = Tun::open("tap0").expect("a device");
        for arguments in ["address add 10.9.0.1/24 dev tap0", "link set tap0 up"] {
            process::run(Command::new("ip").args(arguments.split(' ')));
        }
        let listener = TcpListener::bind((SERVER, PORT)).expect("nobody else is here");
        Self { tun, listener }
    }

    fn connect(&self, port: u16, first: u32) -> Client<'_> {
        let reassembler = Reassembler::new(Limits::DEFAULT, 1);
        let mut client =
            Client { target: self, port, first, ack: 0, reassembler, ours: Outcome::default(), socket: None };
        client.send(u32::MAX, SYN, &[]);
        wait::until("the kernel answers", PATIENCE, || {
            let mut answer = [0; 100];
            while let Ok(len) = self.tun.receive(&mut answer) {
                if let Some((isn, SYN_ACK)) = answer_to(&answer[..len], port) {
                    client.ack = isn.wrapping_add(1);
                    return true;
                }
            }
            false
        });
        client.send(0, ACK, &[]);
        let (socket, peer) = self.listener.accept().expect("the handshake is over");
        assert_eq!(peer, SocketAddr::from((CLIENT, port)));
        socket.set_nonblocking(true).expect("it is a socket");
        client.socket = Some(socket);
        client
    }
}

const SYN_ACK: u8 = SYN | ACK;

/// Sequence number and flags of a segment to `port`.
fn answer_to(bytes: &[u8], port: u16) -> Option<(u32, u8)> {
    let packet = Packet::parse_captured(bytes).ok()?;
    let segment = Segment::parse(&packet).ok().filter(|segment| segment.server.port() == port)?;
    Some((segment.seq, segment.flags.0))
}

struct Client<'t> {
    target: &'t Target,
    port: u16,
    /// The sequence number of the stream's first byte.
    first: u32,
    ack: u32,
    reassembler: Reassembler,
    ours: Outcome,
    socket: Option<TcpStream>,
}

impl Client<'_> {
    /// Sends what starts at `offset` to the kernel, and to the reassembler.
    fn send(&mut self, offset: u32, flags: u8, payload: &[u8]) {
        let bytes = packet(self.port, self.first.wrapping_add(offset), self.ack, flags, payload);
        self.target.tun.send(&bytes).expect("the device takes it");
        let packet = Packet::parse_captured(&bytes).expect("it is one");
        assert!(checksum_holds(&packet));
        let segment = Segment::parse(&packet).expect("it is one");
        let ours = &mut self.ours;
        ours.sent.push((offset, flags, payload.len()));
        self.reassembler.segment(&segment, Moment::ORIGIN, &mut |_: FlowId, event| match event {
            Event::Opened { from_start, .. } => assert!(from_start),
            Event::Bytes { bytes, .. } => ours.bytes.extend(bytes.iter().copied().map(Some)),
            Event::Gap { bytes, reason } => {
                assert_eq!(reason, GapReason::Conflict);
                ours.bytes.extend((0..bytes).map(|_| None));
            }
            Event::Finished => ours.end = Some(End::Finished),
            Event::Reset => ours.end = Some(End::Reset),
            Event::Gone => ours.end = Some(End::Unclear),
        });
    }

    /// What a program reads, and what came out.
    fn finish(mut self) -> (Outcome, Outcome) {
        let mut kernel = Outcome::default();
        let mut socket = self.socket.take().expect("it was accepted");
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => kernel.end = Some(End::Finished),
                Ok(len) => {
                    kernel.bytes.extend(buffer[..len].iter().copied().map(Some));
                    continue;
                }
                Err(error) => kernel.end = end_of(&error),
            }
            return (kernel, self.ours);
        }
    }
}

fn end_of(error: &io::Error) -> Option<End> {
    let reset = error.kind() == ErrorKind::ConnectionReset;
    assert!(reset || error.kind() == ErrorKind::WouldBlock, "{error}");
    reset.then_some(End::Reset)
}

/// A whole IPv4 packet with right checksums; a SYN permits selective acknowledgments.
fn packet(port: u16, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let options: &[u8] = if flags & SYN == 0 { &[] } else { &[4, 2, 1, 1] };
    let mut tcp = [port.to_be_bytes(), PORT.to_be_bytes()].concat();
    tcp.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    tcp.extend([u8::try_from(5 + options.len() / 4).expect("few") << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(payload);
    let tcp_len = u16::try_from(tcp.len()).expect("small").to_be_bytes();
    let pseudo = [&CLIENT.octets()[..], &SERVER.octets(), &[0, 6], &tcp_len].concat();
    let sum = checksum(&[pseudo, tcp.clone()].concat());
    tcp[16..18].copy_from_slice(&sum);
    let len = u16::try_from(20 + tcp.len()).expect("small").to_be_bytes();
    let mut ip = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, 6, 0, 0];
    ip.extend([CLIENT.octets(), SERVER.octets()].concat());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    ip.extend(tcp);
    ip
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u32::from(low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    [high, low]
}
