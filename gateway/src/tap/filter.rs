//! Which frames the kernel copies into a ring: a classic BPF program, made from the ports that are wanted.
//!
//! One pair of rings serves every interface, so that their memory does not grow with the interfaces, and the program takes only those
//! that [`super::interfaces`] chose: of devices that are stacked each frame is seen several times, and must be copied once.
//! A ring takes frames of one protocol and one [`Size`]; short ones would waste slots that have room for 64 KiB.
//!
//! The program of a ring for TCP sees a frame from its IP header on, that of one for UDP from its link header on. What it cannot decide
//! passes, and [`super::flows`] decides: IPv6 behind extension headers, and later fragments, which have no ports.
//! Before: [`super::interfaces`]; after: [`super::ring`].

mod assembler;
#[cfg(test)]
mod interpreter;
mod ranges;

use libc::{
    SKF_AD_HATYPE, SKF_AD_IFINDEX, SKF_AD_OFF, SKF_AD_PKTTYPE, SKF_AD_PROTOCOL, SKF_AD_VLAN_TAG,
    SKF_AD_VLAN_TAG_PRESENT, SKF_NET_OFF, sock_filter,
};
use link::rules::RuleProtocol;

use self::{
    assembler::{Assembler, Label},
    ranges::{Range, ranges},
};

/// The longest frame, as the program sees it, of a ring with short slots.
pub(super) const SHORT_BYTES: u32 = 1_900;

/// Which of a protocol's two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// Up to [`SHORT_BYTES`].
    Short,
    /// All longer ones.
    Long,
}

/// What is wanted; each list is sorted and has nothing twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Indexes of interfaces.
    pub(super) interfaces: Vec<u32>,
    /// Ports.
    pub(super) tcp: Vec<u32>,
    /// Ports.
    pub(super) udp: Vec<u32>,
}

impl Wanted {
    /// The ports of a protocol.
    pub(super) fn ports(&self, protocol: RuleProtocol) -> &[u32] {
        match protocol {
            RuleProtocol::Tcp => &self.tcp,
            RuleProtocol::Udp => &self.udp,
        }
    }
}

const TCP: u32 = 6;
const UDP: u32 = 17;
/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK`, whose link header has a fixed length.
const ETHERNET: u32 = 1;
const LOOPBACK: u32 = 772;
const ETHERNET_BYTES: u32 = 14;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const DESTINATION_OPTIONS: u32 = 60;
/// `PACKET_MULTICAST` of linux/if_packet.h; above it are frames that are not for this machine, or from it.
const LAST_INCOMING: u32 = 2;
/// More than any frame has.
const WHOLE_FRAME: u32 = 256 << 10;
/// Values that are compared one after the other rather than halved further.
const LEAF: usize = 8;

const fn ancillary(field: i32) -> u32 {
    (SKF_AD_OFF + field).cast_unsigned()
}

/// Ranges of ports in a program: all, or as many as make it short, for kernels that give filters little memory. What is between two ranges
/// that are joined is left to user space.
pub(super) const PORT_RANGES: [usize; 3] = [usize::MAX, 64, 1];

/// The program for one ring, which names ports by at most `most` ranges.
pub(super) fn program(wanted: &Wanted, protocol: RuleProtocol, size: Size, most: usize) -> Vec<sock_filter> {
    let mut asm = Assembler::default();
    let (ports, take, leave) = (asm.label(), asm.label(), asm.label());
    length(&mut asm, size, leave);
    device(&mut asm, wanted, leave);
    match protocol {
        RuleProtocol::Tcp => headers(&mut asm, (0, TCP), [ports, take, leave]),
        RuleProtocol::Udp => {
            let ethernet = asm.label();
            asm.load_word(ancillary(SKF_AD_HATYPE));
            asm.if_eq(ETHERNET, Some(ethernet), None);
            asm.if_eq(LOOPBACK, Some(ethernet), None);
            // The kernel knows where the IP header is, but finds it so only if it is not in a fragment of its buffers.
            headers(&mut asm, (SKF_NET_OFF.cast_unsigned(), UDP), [ports, take, leave]);
            asm.here(ethernet);
            headers(&mut asm, (ETHERNET_BYTES, UDP), [ports, take, leave]);
        }
    }
    asm.here(ports);
    search(&mut asm, &ranges(wanted.ports(protocol), most), take, leave);
    asm.here(take);
    asm.give(WHOLE_FRAME);
    asm.here(leave);
    asm.give(0);
    asm.finish()
}

/// From the IP header on, which is at `at`, to the port, with which it goes on at `ports`.
fn headers(asm: &mut Assembler, (at, number): (u32, u32), [ports, take, leave]: [Label; 3]) {
    let (v4, v6) = (asm.label(), asm.label());
    asm.load_word(ancillary(SKF_AD_PROTOCOL));
    asm.if_eq(IPV4, Some(v4), None);
    asm.if_eq(IPV6, Some(v6), Some(leave));
    asm.here(v4);
    ipv4(asm, (at, number), [ports, take, leave]);
    asm.here(v6);
    ipv6(asm, (at, number), [ports, take, leave]);
}

fn length(asm: &mut Assembler, size: Size, leave: Label) {
    asm.load_len();
    match size {
        Size::Short => asm.if_gt(SHORT_BYTES, Some(leave), None),
        Size::Long => asm.if_gt(SHORT_BYTES, None, Some(leave)),
    }
}

/// Only what comes in, on an interface that is wanted, and not for another device behind a VLAN tag: there it is seen again without.
fn device(asm: &mut Assembler, wanted: &Wanted, leave: Label) {
    asm.load_byte(ancillary(SKF_AD_PKTTYPE));
    asm.if_gt(LAST_INCOMING, Some(leave), None);
    let (untagged, known) = (asm.label(), asm.label());
    asm.load_word(ancillary(SKF_AD_VLAN_TAG_PRESENT));
    asm.if_eq(0, Some(untagged), None);
    asm.load_word(ancillary(SKF_AD_VLAN_TAG));
    asm.if_set(0xfff, Some(leave), None);
    asm.here(untagged);
    asm.load_word(ancillary(SKF_AD_IFINDEX));
    search(asm, &ranges(&wanted.interfaces, usize::MAX), known, leave);
    asm.here(known);
}

fn ipv4(asm: &mut Assembler, (at, number): (u32, u32), [ports, take, leave]: [Label; 3]) {
    asm.load_byte(at.wrapping_add(9));
    asm.if_eq(number, None, Some(leave));
    asm.load_half(at.wrapping_add(6));
    asm.if_set(0x1fff, Some(take), None);
    asm.load_header_len(at);
    asm.load_half_behind_header(at.wrapping_add(2));
    asm.goto(ports);
}

fn ipv6(asm: &mut Assembler, (at, number): (u32, u32), [ports, take, leave]: [Label; 3]) {
    let (extended, other) = (asm.label(), asm.label());
    asm.load_byte(at.wrapping_add(6));
    asm.if_eq(number, None, Some(other));
    asm.load_half(at.wrapping_add(42));
    asm.goto(ports);
    asm.here(other);
    for header in [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS] {
        asm.if_eq(header, Some(extended), None);
    }
    asm.goto(leave);
    // Groups are joined by ICMP behind an extension header, all the time: look one header further.
    asm.here(extended);
    asm.load_byte(at.wrapping_add(40));
    for header in [number, ROUTING, FRAGMENT, DESTINATION_OPTIONS] {
        asm.if_eq(header, Some(take), None);
    }
    asm.goto(leave);
}

/// Whether what is loaded is in one of `ranges`.
fn search(asm: &mut Assembler, ranges: &[Range], found: Label, missing: Label) {
    if ranges.len() <= LEAF {
        // The ends are far away for most leaves, and one long jump is shorter than many.
        let here = asm.label();
        for &(low, high) in ranges {
            if low == high {
                asm.if_eq(low, Some(here), None);
            } else {
                let below = asm.label();
                asm.if_ge(low, None, Some(below));
                asm.if_gt(high, None, Some(here));
                asm.here(below);
            }
        }
        asm.goto(missing);
        asm.here(here);
        asm.goto(found);
        return;
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let upper = asm.label();
    asm.if_ge(high[0].0, Some(upper), None);
    search(asm, low, found, missing);
    asm.here(upper);
    search(asm, high, found, missing);
}

#[cfg(test)]
mod tests;
