//! The codec, the endpoint and the forwarding by themselves.
//!
//! ```sh
//! cargo bench -p amqp-router --features benchmarks
//! cargo bench -p amqp-router --features benchmarks forwarding    # some of them
//! ```

use std::hint::black_box;

use amqp_router::benchmarks::{self, Forwarding, Pair};
use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for (name, frame) in [
        ("decode transfer", benchmarks::transfer_frame()),
        ("decode attach", benchmarks::attach_frame()),
    ] {
        assert!(benchmarks::decode_frame(&frame));
        group.bench_function(name, |bencher| {
            bencher.iter(|| benchmarks::decode_frame(black_box(&frame)));
        });
    }
    let mut out = BytesMut::with_capacity(1024);
    group.bench_function("encode transfer", |bencher| {
        bencher.iter(|| {
            out.clear();
            benchmarks::encode_transfer(black_box(7), &mut out);
        });
    });
    for octets in [100, 65_536] {
        let message = benchmarks::message(octets);
        assert!(benchmarks::find_to(&message) && benchmarks::decode_message(&message));
        group.bench_with_input(BenchmarkId::new("find to", octets), &message, |b, it| {
            b.iter(|| benchmarks::find_to(black_box(it)));
        });
        let id = BenchmarkId::new("decode message", octets);
        group.bench_with_input(id, &message, |bencher, message| {
            bencher.iter(|| benchmarks::decode_message(black_box(message)));
        });
    }
    group.finish();
}

fn endpoint(criterion: &mut Criterion) {
    const MESSAGES: u32 = 100;
    let mut group = criterion.benchmark_group("endpoint");
    group.throughput(Throughput::Elements(MESSAGES.into()));
    for octets in [100, 10_000] {
        let mut pair = Pair::new(octets);
        group.bench_function(BenchmarkId::new("pass and settle", octets), |bencher| {
            bencher.iter(|| pair.pass(MESSAGES));
        });
    }
    group.finish();
}

/// What a message costs must not depend on how many links and addresses there are.
fn forwarding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forwarding");
    group.throughput(Throughput::Elements(32));
    for (links, addresses) in [(1, 1), (100, 1), (1000, 1), (1000, 1000), (10_000, 10_000)] {
        for (name, settled) in [("settled", true), ("unsettled", false)] {
            let mut forwarding = Forwarding::new(links, addresses);
            let parameter = format!("{links} links, {addresses} addresses");
            group.bench_function(BenchmarkId::new(name, parameter), |bencher| {
                bencher.iter(|| forwarding.turn(settled));
            });
        }
    }
    group.finish();
}

criterion_group!(micro, codec, endpoint, forwarding);
criterion_main!(micro);
