//! What the fuzz targets run: plain functions from bytes to nothing that panic when an invariant breaks.
//!
//! `tests/fuzz` compiles each file under libFuzzer (`make fuzz`); `tests/tests/fuzz_corpus.rs` replays the committed corpora under the
//! stable toolchain. Not here: what the invariants are about, which is each crate's own.

pub mod dns;
pub mod fragment;
pub mod http1;
pub mod link_codecs;
pub mod packet;
pub mod reassembly;
pub mod tcp_flow;

/// One target: its name, which is its directory under `tests/fuzz/corpus`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("dns", dns::run),
    ("fragment", fragment::run),
    ("http1", http1::run),
    ("link_codecs", link_codecs::run),
    ("packet", packet::run),
    ("reassembly", reassembly::run),
    ("tcp_flow", tcp_flow::run),
];
