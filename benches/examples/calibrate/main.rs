//! Simulations of what intervals promise, as Markdown on standard output.
//!
//! usage: calibrate bootstrap [EXPERIMENTS [LARGEST_N [TABLE]]]           600 experiments a cell, 20000 units an arm, all tables
//!        calibrate adjusted [EXPERIMENTS [LARGEST_N [TABLE]]]            1000 experiments a cell, 500000 units an arm, all tables
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the command line")]

mod adjusted;
mod bootstrap;
mod models;
mod relative;
mod simulate;
mod table;
mod world;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let subject = arguments.next().unwrap_or_default();
    let numbers: Vec<usize> = arguments.filter_map(|a| a.parse().ok()).collect();
    let number = |i: usize, default| numbers.get(i).copied().unwrap_or(default);
    match subject.as_str() {
        "bootstrap" => bootstrap::tables(number(0, 600), number(1, 20_000), number(2, 0)),
        "adjusted" => adjusted::tables(number(0, 1000), number(1, 500_000), number(2, 0)),
        _ => eprintln!("usage: calibrate bootstrap | adjusted [EXPERIMENTS [LARGEST_N [TABLE]]]"),
    }
}
