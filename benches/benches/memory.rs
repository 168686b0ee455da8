//! DRAM get and Memory put beside DashMap and memcpy, by size and threads.

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use isotherm_benches::Outcome;
use isotherm_benches::drive::{Direction, Load};
use isotherm_benches::rows::dram::{Peers, SIZES, THREADS};

fn memory(criterion: &mut Criterion) {
    for (name, value_len, keys) in SIZES {
        let peers = sound(Peers::new(Path::new(env!("CARGO_TARGET_TMPDIR")), keys, value_len));
        for (direction, verb) in [(Direction::Get, "get"), (Direction::Put, "put")] {
            for threads in THREADS {
                let load = Load::new(direction, keys, value_len, threads);
                let mut group = criterion.benchmark_group(format!("{verb} {name} x{threads}"));
                group.throughput(Throughput::Bytes(value_len as u64));
                group.warm_up_time(Duration::from_millis(500));
                group.measurement_time(Duration::from_secs(2));
                group.sample_size(20);
                for memory in peers.in_direction(direction) {
                    group.bench_function(BenchmarkId::from_parameter(memory.name()), |bencher| {
                        bencher.iter_custom(|ops| sound(load.run_count(memory, ops)));
                    });
                    sound(memory.settle());
                }
                group.finish();
            }
        }
    }
}

/// A bench cannot go on after an error, and its figures would be wrong.
fn sound<T>(outcome: Outcome<T>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

criterion_group!(benches, memory);
criterion_main!(benches);
