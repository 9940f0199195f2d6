//! A machine for classic BPF, as far as [`super::program`] uses it, so that tests can ask what a program does with a frame.

use libc::{
    SKF_AD_HATYPE, SKF_AD_IFINDEX, SKF_AD_OFF, SKF_AD_PKTTYPE, SKF_AD_PROTOCOL, SKF_AD_VLAN_TAG,
    SKF_AD_VLAN_TAG_PRESENT, SKF_NET_OFF, sock_filter,
};

/// A frame as the kernel hands it to a filter.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) interface: u32,
    pub(super) vlan: Option<u16>,
    pub(super) protocol: u16,
    /// What kind of device it came on.
    pub(super) hardware: u16,
    /// As the program sees it, and how much of that is the link's header.
    pub(super) bytes: Vec<u8>,
    pub(super) link_bytes: usize,
}

/// The bytes to copy. Panics where the kernel would refuse the program.
pub(super) fn run(program: &[sock_filter], frame: &Frame) -> u32 {
    assert!(program.len() <= 4_096, "the kernel takes no program of {} instructions", program.len());
    let (mut a, mut x, mut at) = (0_u32, 0_usize, 0_usize);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |yes: bool| usize::from(if yes { jt } else { jf });
        match code {
            0x06 => return k,
            0x05 => at += k as usize,
            0x15 => at += branch(a == k),
            0x25 => at += branch(a > k),
            0x35 => at += branch(a >= k),
            0x45 => at += branch(a & k != 0),
            0x80 => a = u32::try_from(frame.bytes.len()).unwrap(),
            0x20 | 0x28 | 0x30 | 0x48 | 0xb1 => {
                let width = match code {
                    0x20 => 4,
                    0x28 | 0x48 => 2,
                    _ => 1,
                };
                let base = if code == 0x48 { x } else { 0 };
                let Some(loaded) = load(frame, k, base, width) else { return 0 };
                if code == 0xb1 { x = (loaded as usize & 0xf) * 4 } else { a = loaded }
            }
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn load(frame: &Frame, k: u32, base: usize, width: usize) -> Option<u32> {
    let field = k.cast_signed().wrapping_sub(SKF_AD_OFF);
    if (0..64).contains(&field) {
        return Some(match field {
            SKF_AD_HATYPE => frame.hardware.into(),
            SKF_AD_PKTTYPE => frame.kind.into(),
            SKF_AD_IFINDEX => frame.interface,
            SKF_AD_PROTOCOL => frame.protocol.into(),
            SKF_AD_VLAN_TAG_PRESENT => frame.vlan.is_some().into(),
            // Some kernels leave an old tag there.
            SKF_AD_VLAN_TAG => frame.vlan.unwrap_or(0xbad).into(),
            other => panic!("field {other}"),
        });
    }
    let from_network = usize::try_from(k.cast_signed().wrapping_sub(SKF_NET_OFF)).ok().filter(|_| k.cast_signed() < 0);
    let at = from_network.map_or(k as usize, |at| at + frame.link_bytes);
    let bytes = frame.bytes.get(base + at..)?.get(..width)?;
    Some(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
}
