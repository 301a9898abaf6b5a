#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(target) = system_tests::fuzz::find("crop") {
        target.feed(data);
    }
});
