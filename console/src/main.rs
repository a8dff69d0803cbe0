//! The codeco command.
fn main() {}
