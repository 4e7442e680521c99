//! The random blocks that bootstrap weights are made of, as an endless stream on standard output, for tests of randomness.
//!
//! usage: weights_stream {hashed|sequential|shifted|replicates} SEED     (see tests/golden/weights/RANDOMNESS.md)
#![expect(clippy::print_stderr, reason = "a tool for the command line")]

use std::io::Write;

use gosset_stats::{units, weights};

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (Some(kind), Some(seed)) =
        (arguments.get(1), arguments.get(2).and_then(|seed| seed.parse().ok()))
    else {
        eprintln!("usage: weights_stream {{hashed|sequential|shifted|replicates}} SEED");
        return std::process::ExitCode::FAILURE;
    };
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    for i in 0u64.. {
        // The first blocks of one unit after the other, or all blocks of one unit.
        let (unit, counter) = match kind.as_str() {
            "hashed" => ((units::integer(i128::from(i / 4)) >> 64) as u64, i % 4),
            "sequential" => (i / 4, i % 4),
            "shifted" => ((i / 4) << 40, i % 4),
            _ => (7, i),
        };
        let block = weights::block(seed, unit, counter);
        if out.write_all(&block).is_err() {
            return std::process::ExitCode::SUCCESS;
        }
    }
    std::process::ExitCode::SUCCESS
}
