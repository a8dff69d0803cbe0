#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codeco_fuzz::run("recover_elector", data));
