//! `tests::fuzz::packet` under libFuzzer.

#![no_main]

#[path = "../../src/fuzz/packet.rs"]
mod packet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| packet::run(data));
