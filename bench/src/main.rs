//! Benchmarks of CODECO, one subcommand per table.
fn main() {}
