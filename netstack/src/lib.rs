//! Packets, flows and TCP in user space: what interprets IP and TCP bytes, without a clock, a socket or a task.
//!
//! - [`moment`]: time, as an argument.
//! - [`packet`], [`segment`], [`udp`], [`icmp`]: views of what the TUN device read, and builders of what it is to write.
//! - [`virtio`]: the header in front of every packet written to the device.
//! - [`fragment`]: IP fragments put together again.
//! - [`flow`], [`flow_table`]: names of flows, and the flows that are alive, with a cap and a stated eviction order.
//! - [`tcp_flow`], [`tcp_reply`], [`ring`]: one TCP connection of an application, the replies to segments without one, its memory.
//! - [`reassembly`]: what clients send to a target, as bytes in order, from what a tap sees of it.
//! - [`drop_reason`]: why a packet went no further, counted.
//!
//! The caller (`tunnel::outbound`) strips the virtio header, then [`packet::Packet::parse`], [`segment::Segment::parse`],
//! [`flow_table::FlowTable::lookup`], [`tcp_flow::TcpFlow::ingress`], `recv`, `send`, and `egress` straight into `write(2)`.
//! A tap calls [`packet::Packet::parse_captured`], [`reassembly::Segment::parse`] and [`reassembly::Reassembler::segment`].
//! Nothing here verifies a checksum, unless asked ([`reassembly::checksum_holds`]): the kernel leaves them unfinished on a device with
//! `IFF_VNET_HDR`, and in what a tap sees of its own machine.

pub mod drop_reason;
pub mod flow;
pub mod flow_table;
pub mod fragment;
pub mod icmp;
pub mod moment;
pub mod packet;
pub mod reassembly;
pub mod ring;
pub mod segment;
pub mod tcp_flow;
pub mod tcp_reply;
pub mod udp;
pub mod virtio;
