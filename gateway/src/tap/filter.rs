//! Which frames the kernel copies into a ring: a classic BPF program, made from the ports that are wanted.
//!
//! One pair of rings serves every interface, so that their memory does not grow with the interfaces, and the program takes only those
//! that [`super::interfaces`] chose: of devices that are stacked each frame is seen several times, and must be copied once.
//! A ring takes frames of one [`Size`]; short ones would waste slots that have room for 64 KiB.
//!
//! The program sees a frame from its IP header on. What it cannot decide passes, and [`super::flows`] decides: IPv6 behind extension
//! headers, and later fragments, which have no ports. Before: [`super::interfaces`]; after: [`super::ring`].

mod assembler;
#[cfg(test)]
mod interpreter;

use libc::{
    SKF_AD_IFINDEX, SKF_AD_OFF, SKF_AD_PKTTYPE, SKF_AD_PROTOCOL, SKF_AD_VLAN_TAG, SKF_AD_VLAN_TAG_PRESENT, sock_filter,
};

use self::assembler::{Assembler, Label};

/// The longest frame, from its IP header on, of the ring with short slots.
pub(super) const SHORT_BYTES: u32 = 1_900;

/// Which of the two rings.
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

const TCP: u32 = 6;
const UDP: u32 = 17;
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

/// The program for one ring.
pub(super) fn program(wanted: &Wanted, size: Size) -> Vec<sock_filter> {
    let mut asm = Assembler::default();
    let (take, leave) = (asm.label(), asm.label());
    length(&mut asm, size, leave);
    device(&mut asm, wanted, leave);
    let (tcp, udp) = (asm.label(), asm.label());
    let (v4, v6) = (asm.label(), asm.label());
    asm.load_word(ancillary(SKF_AD_PROTOCOL));
    asm.if_eq(IPV4, Some(v4), None);
    asm.if_eq(IPV6, Some(v6), Some(leave));
    asm.here(v4);
    // Where nothing is wanted of a protocol, its fragments are not either.
    let protocols: Vec<(u32, Label)> = [(TCP, tcp, &wanted.tcp), (UDP, udp, &wanted.udp)]
        .into_iter()
        .filter(|(.., ports)| !ports.is_empty())
        .map(|(number, label, _)| (number, label))
        .collect();
    ipv4(&mut asm, &protocols, take, leave);
    asm.here(v6);
    ipv6(&mut asm, &protocols, take, leave);
    asm.here(tcp);
    search(&mut asm, &wanted.tcp, take, leave);
    asm.here(udp);
    search(&mut asm, &wanted.udp, take, leave);
    asm.here(take);
    asm.give(WHOLE_FRAME);
    asm.here(leave);
    asm.give(0);
    asm.finish()
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
    search(asm, &wanted.interfaces, known, leave);
    asm.here(known);
}

fn ipv4(asm: &mut Assembler, protocols: &[(u32, Label)], take: Label, leave: Label) {
    for &(number, ports) in protocols {
        let other = asm.label();
        asm.load_byte(9);
        asm.if_eq(number, None, Some(other));
        asm.load_half(6);
        asm.if_set(0x1fff, Some(take), None);
        asm.load_header_len(0);
        asm.load_half_behind_header(2);
        asm.goto(ports);
        asm.here(other);
    }
    asm.goto(leave);
}

fn ipv6(asm: &mut Assembler, protocols: &[(u32, Label)], take: Label, leave: Label) {
    let extended = asm.label();
    for &(number, ports) in protocols {
        let other = asm.label();
        asm.load_byte(6);
        asm.if_eq(number, None, Some(other));
        asm.load_half(42);
        asm.goto(ports);
        asm.here(other);
    }
    asm.load_byte(6);
    for header in [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS] {
        asm.if_eq(header, Some(extended), None);
    }
    asm.goto(leave);
    // Groups are joined by ICMP behind an extension header, all the time: look one header further.
    asm.here(extended);
    asm.load_byte(40);
    for &(number, _) in protocols {
        asm.if_eq(number, Some(take), None);
    }
    for header in [ROUTING, FRAGMENT, DESTINATION_OPTIONS] {
        asm.if_eq(header, Some(take), None);
    }
    asm.goto(leave);
}

/// Whether what is loaded is one of `values`.
fn search(asm: &mut Assembler, values: &[u32], found: Label, missing: Label) {
    if values.len() <= LEAF {
        // The ends are far away for most leaves, and one long jump is shorter than many.
        let here = asm.label();
        for &value in values {
            asm.if_eq(value, Some(here), None);
        }
        asm.goto(missing);
        asm.here(here);
        asm.goto(found);
        return;
    }
    let (low, high) = values.split_at(values.len() / 2);
    let upper = asm.label();
    asm.if_ge(high[0], Some(upper), None);
    search(asm, low, found, missing);
    asm.here(upper);
    search(asm, high, found, missing);
}

#[cfg(test)]
mod tests;
