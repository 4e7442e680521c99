//! Simulations of what intervals promise, as Markdown on standard output.
//!
//! usage: calibrate bootstrap [EXPERIMENTS [LARGEST_N [FIRST_LAW]]]      600 experiments a cell, 20000 units an arm, all laws
//!        calibrate adjusted [EXPERIMENTS [LARGEST_N [FIRST_TABLE]]]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the command line")]

mod adjusted;
mod bootstrap;
mod simulate;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let subject = arguments.next().unwrap_or_default();
    let numbers: Vec<usize> = arguments.filter_map(|a| a.parse().ok()).collect();
    let number = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    let (experiments, largest) = (number(0, 600), number(1, 20_000));
    match subject.as_str() {
        "bootstrap" => bootstrap::tables(experiments, largest, number(2, 0)),
        "adjusted" => adjusted::tables(experiments, largest, number(2, 0)),
        _ => eprintln!("usage: calibrate bootstrap | adjusted [EXPERIMENTS [LARGEST_N [FIRST]]]"),
    }
}
