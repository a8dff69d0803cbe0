#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codeco_fuzz::run("wire_control", data));
