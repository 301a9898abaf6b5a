//! Mutations without a fuzzer: the same bytes on every run and machine.
//!
//! Enters: seeds and a stream of numbers. Leaves: an input that is near one of them, or between two.

use roadhound_shared::mix::SplitMix64;

/// Where the numbers come from.
pub struct Dice(SplitMix64);

impl Dice {
    /// The dice of a target, one sequence a name and throw.
    pub fn of(name: &str, throw: u64) -> Self {
        let hash = name.bytes().fold(7, |hash: u64, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        Self(SplitMix64(hash.wrapping_add(throw)))
    }

    fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// Below a bound; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What breaks parsers: numbers at the edges of their types, the brackets of every format, lengths that lie.
const TOKENS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"nan",
    b"inf",
    b"1e39",
    b"4294967296",
    b"-9223372036854775808",
    b"18446744073709551615",
    b",",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<",
    b"</",
    b"&#x0;",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\xff\xd8",
    b"\xff\xc0",
    b"\xff\xda",
    b"\xc3\x28",
    b"\xf0\x9f\x9a\x97",
    b"null",
    b"true",
    b"../",
    b":",
    b"%00",
    b"00dc",
    b"LIST",
];

/// Most bytes that one step takes away or repeats.
const MOST_STEP: usize = 40;

/// One to four changes to a seed, and now and then forty.
pub fn mutate(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let Some(seed) = seeds.get(dice.below(seeds.len())) else {
        return Vec::new();
    };
    let mut bytes = seed.clone();
    let steps = match dice.below(16) {
        0 => 1 + dice.below(40),
        _ => 1 + dice.below(4),
    };
    for _ in 0..steps {
        step(&mut bytes, seeds, dice);
    }
    bytes
}

fn step(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = dice
        .below(bytes.len() + 1)
        .min(bytes.len().saturating_sub(1));
    let end = |length: usize| (at + length).min(bytes.len());
    match dice.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        1 if !bytes.is_empty() => bytes[at] = dice.next() as u8,
        2 => bytes.truncate(at),
        3 => {
            let token = TOKENS[dice.below(TOKENS.len())];
            bytes.splice(at..at, token.iter().copied());
        }
        4 => {
            let token = TOKENS[dice.below(TOKENS.len())];
            let end = end(token.len());
            bytes.splice(at..end, token.iter().copied());
        }
        5 => {
            let end = end(dice.below(MOST_STEP));
            bytes.drain(at..end);
        }
        6 => {
            // What stands behind this place in another seed.
            let other = &seeds[dice.below(seeds.len())];
            let from = at.min(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let end = end(dice.below(MOST_STEP));
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
    }
}
