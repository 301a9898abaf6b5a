//! roadhound
fn main() {}
