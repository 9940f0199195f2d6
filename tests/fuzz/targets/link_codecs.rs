//! `tests::fuzz::link_codecs` under libFuzzer.

#![no_main]

#[path = "../../src/fuzz/link_codecs.rs"]
mod link_codecs;

libfuzzer_sys::fuzz_target!(|data: &[u8]| link_codecs::run(data));
