//! `tests::fuzz::fragment` under libFuzzer.

#![no_main]

#[path = "../../src/fuzz/fragment.rs"]
mod fragment;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fragment::run(data));
