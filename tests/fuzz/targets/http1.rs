//! `tests::fuzz::http1` under libFuzzer.

#![no_main]

#[path = "../../src/fuzz/http1.rs"]
mod http1;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http1::run(data));
