//! `tests::fuzz::reassembly` under libFuzzer.

#![no_main]

#[path = "../../src/fuzz/reassembly.rs"]
mod reassembly;

libfuzzer_sys::fuzz_target!(|data: &[u8]| reassembly::run(data));
