//! `tests::fuzz::tcp_flow` under libFuzzer.

#![no_main]

#[path = "../../src/fuzz/tcp_flow.rs"]
mod tcp_flow;

libfuzzer_sys::fuzz_target!(|data: &[u8]| tcp_flow::run(data));
