//! `tests::fuzz::dns` under libFuzzer.

#![no_main]

#[path = "../../src/fuzz/dns.rs"]
mod dns;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dns::run(data));
