//! smoltcp's two views of the outside: what a flow may emit, and where. Used by [`super::TcpFlow`] only.
//!
//! [`Ingress`] hands one packet in and keeps the reply, if any, since a reply may come while nobody can write. [`Egress`] lays
//! each packet into the caller's scratch behind a virtio header and hands it on at once.

use std::{net::IpAddr, ops::ControlFlow};

use smoltcp::{
    phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
    wire::{IpProtocol, checksum},
};

use crate::{
    flow::FlowKey,
    packet::{ipv4, ipv6, word},
    segment, virtio,
};

/// A segment without payload: the longest IP header that smoltcp writes, and the longest TCP header.
const REPLY_BYTES: usize = virtio::HEADER_BYTES + ipv6::HEADER_BYTES + 60;

pub(super) fn capabilities(mtu: u16) -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::ignored();
    checksum.ipv4 = Checksum::Tx;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = usize::from(mtu);
    capabilities.checksum = checksum;
    capabilities
}

/// What every packet of a flow has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Sum of the pseudo-header without the length.
    pseudo_sum: u16,
    ip_header_len: usize,
    /// Taken off every window but the SYN-ACK's, which is not scaled.
    pub(super) window_margin: u16,
}

impl Frame {
    pub(super) fn new(key: &FlowKey) -> Self {
        // RFC 9293 3.1: the sum is the same in both directions.
        let (pseudo_sum, ip_header_len) = match (key.cluster.0.ip(), key.host.0.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                (checksum::pseudo_header_v4(&from, &to, IpProtocol::Tcp, 0), ipv4::HEADER_BYTES)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                (checksum::pseudo_header_v6(&from, &to, IpProtocol::Tcp, 0), ipv6::HEADER_BYTES)
            }
            // Such a flow never gets a packet: both addresses of a packet are of one family.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => (0, ipv6::HEADER_BYTES),
        };
        Self { pseudo_sum, ip_header_len, window_margin: 0 }
    }

    /// Completes `packet`, which `fill` has laid behind the virtio header.
    fn finish(self, buffer: &mut [u8]) {
        let start = self.ip_header_len;
        let tcp = &mut buffer[virtio::HEADER_BYTES + start..];
        let len = u16::try_from(tcp.len()).expect("a packet is at most 65,535 bytes");
        let sum = checksum::combine(&[self.pseudo_sum, len]);
        tcp[usize::from(segment::CHECKSUM_OFFSET)..][..2].copy_from_slice(&sum.to_be_bytes());
        if tcp[segment::FLAGS_AT] & segment::SYN == 0 {
            let window = word(tcp, segment::WINDOW_AT).saturating_sub(self.window_margin);
            tcp[segment::WINDOW_AT..][..2].copy_from_slice(&window.to_be_bytes());
        }
        buffer[..virtio::HEADER_BYTES].copy_from_slice(&virtio::unfinished(start, segment::CHECKSUM_OFFSET));
    }

    fn write<R>(self, buffer: &mut [u8], fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let result = fill(&mut buffer[virtio::HEADER_BYTES..]);
        self.finish(buffer);
        result
    }
}

/// A segment without payload that waits for the next egress. A later one takes its place: it acknowledges as much or more.
#[derive(Debug)]
pub(super) struct Reply {
    buffer: [u8; REPLY_BYTES],
    len: u8,
}

impl Reply {
    pub(super) const NONE: Self = Self { buffer: [0; REPLY_BYTES], len: 0 };

    pub(super) const fn is_some(&self) -> bool {
        self.len > 0
    }

    pub(super) fn take(&mut self) -> Option<&[u8]> {
        let len = usize::from(std::mem::take(&mut self.len));
        (len > 0).then(|| &self.buffer[..len])
    }
}

/// The device of an ingress.
pub(super) struct Ingress<'a> {
    pub(super) mtu: u16,
    pub(super) frame: Frame,
    pub(super) packet: Option<&'a [u8]>,
    pub(super) reply: &'a mut Reply,
}

pub(super) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct ReplyToken<'a> {
    frame: Frame,
    reply: &'a mut Reply,
}

impl TxToken for ReplyToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let len = virtio::HEADER_BYTES + len;
        self.reply.len = u8::try_from(len).expect("a reply carries no payload");
        self.frame.write(&mut self.reply.buffer[..len], f)
    }
}

impl Device for Ingress<'_> {
    type RxToken<'b>
        = Received<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = ReplyToken<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, ReplyToken<'_>)> {
        let packet = self.packet.take()?;
        Some((Received(packet), ReplyToken { frame: self.frame, reply: self.reply }))
    }

    fn transmit(&mut self, _: Instant) -> Option<ReplyToken<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

/// The device of an egress.
pub(super) struct Egress<'a, E> {
    pub(super) mtu: u16,
    pub(super) frame: Frame,
    pub(super) scratch: &'a mut [u8],
    pub(super) emit: E,
    /// What the last packet acknowledged.
    pub(super) acknowledged: &'a mut u32,
    pub(super) emitted: usize,
    pub(super) stopped: bool,
}

pub(super) enum NeverReceived {}

impl RxToken for NeverReceived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, _: F) -> R {
        match self {}
    }
}

pub(super) struct EmitToken<'a, 'b, E>(&'b mut Egress<'a, E>);

impl<E: FnMut(&[u8]) -> ControlFlow<()>> TxToken for EmitToken<'_, '_, E> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let egress = self.0;
        let buffer = &mut egress.scratch[..virtio::HEADER_BYTES + len];
        let result = egress.frame.write(buffer, f);
        *egress.acknowledged = segment::number(buffer, virtio::HEADER_BYTES + egress.frame.ip_header_len + 8);
        egress.stopped = (egress.emit)(buffer).is_break();
        egress.emitted += 1;
        result
    }
}

impl<'a, E: FnMut(&[u8]) -> ControlFlow<()>> Device for Egress<'a, E> {
    type RxToken<'b>
        = NeverReceived
    where
        Self: 'b;
    type TxToken<'b>
        = EmitToken<'a, 'b, E>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(NeverReceived, EmitToken<'a, '_, E>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<EmitToken<'a, '_, E>> {
        (!self.stopped).then_some(EmitToken(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}
