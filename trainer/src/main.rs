//! roadhound-train
fn main() {}
