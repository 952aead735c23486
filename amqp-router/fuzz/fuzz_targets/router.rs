#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| amqp_router::fuzzing::router(bytes));
