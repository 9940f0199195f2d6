//! The `virtio_net_hdr` in front of every packet that is written to a TUN device with `IFF_VNET_HDR`.
//!
//! With it the kernel takes a TCP or UDP checksum as unfinished: the checksum field holds the folded sum of the pseudo-header and
//! the kernel adds the rest only where the packet leaves the machine. Used by every builder of packets in this crate.

/// Length of the header. The device must not be switched to the longer one (`TUNSETVNETHDRSZ`).
pub const HEADER_BYTES: usize = 10;

/// Header and the largest packet, which is IPv6 with 65,535 bytes behind its header: as much room as any builder of packets needs. The device
/// takes a packet larger than its MTU, too.
pub const SCRATCH_BYTES: usize = HEADER_BYTES + 40 + 65_535;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`
const NEEDS_CSUM: u8 = 1;

/// No checksum is left to the kernel.
pub(crate) const FINISHED: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// The checksum at `start + offset` (from the packet's first byte) is left to the kernel, over everything from `start` on.
pub(crate) fn unfinished(start: usize, offset: u16) -> [u8; HEADER_BYTES] {
    let start = u16::try_from(start).expect("an IP header is shorter than 64 KiB").to_ne_bytes();
    let offset = offset.to_ne_bytes();
    // flags, GSO type (none), header length, GSO size, checksum start, checksum offset; the device's words are native-endian
    [NEEDS_CSUM, 0, 0, 0, 0, 0, start[0], start[1], offset[0], offset[1]]
}
