//! Writes H.264 pictures into an MP4 that common players open.
//!
//! One video track, one chunk: `ftyp`, `mdat` as the pictures come, `moov` when it is finished. The crates that
//! write MP4 bring every codec and a second set of tables with them; this needs nine boxes.

use std::io::{Seek, SeekFrom, Write};

/// Ticks a second: whole for all usual frame rates.
const TIMESCALE: u32 = 90_000;

struct Sample {
    bytes: u32,
    shown_at_ticks: u64,
    sync: bool,
}

/// An MP4 being written.
pub struct Mp4Writer<W> {
    out: W,
    width_px: u16,
    height_px: u16,
    samples: Vec<Sample>,
    mdat_at: u64,
    first_sample_at: u64,
    bytes: u64,
    sps: Vec<u8>,
    pps: Vec<u8>,
}

/// A box: length, name, then what `fill` writes.
fn boxed(out: &mut Vec<u8>, name: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(name);
    fill(out);
    let bytes = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&bytes.to_be_bytes());
}

fn words(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend(value.to_be_bytes());
    }
}

/// The identity, as every `mvhd` and `tkhd` wants it.
const UNITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

impl<W: Write + Seek> Mp4Writer<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut out: W, width_px: u16, height_px: u16) -> std::io::Result<Self> {
        let mut head = Vec::new();
        boxed(&mut head, b"ftyp", |b| {
            b.extend(b"isom");
            words(b, &[0x200]);
            b.extend(b"isomiso2avc1mp41");
        });
        let mdat_at = head.len() as u64;
        // The 64-bit form of the length, filled in at the end.
        words(&mut head, &[1]);
        head.extend(b"mdat");
        head.extend([0; 8]);
        out.write_all(&head)?;
        Ok(Self {
            out,
            width_px,
            height_px,
            samples: Vec::new(),
            mdat_at,
            first_sample_at: head.len() as u64,
            bytes: 0,
            sps: Vec::new(),
            pps: Vec::new(),
        })
    }

    /// Appends one access unit in Annex B form, shown at the given microsecond.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, annex_b: &[u8], shown_at_micros: u64) -> std::io::Result<()> {
        let (mut bytes, mut sync) = (0u64, false);
        for unit in nal_units(annex_b) {
            match unit.first().map(|b| b & 0x1f) {
                None => continue,
                Some(7) => self.sps = unit.to_vec(),
                Some(8) => self.pps = unit.to_vec(),
                Some(kind) => {
                    sync |= kind == 5;
                    self.out.write_all(&(unit.len() as u32).to_be_bytes())?;
                    self.out.write_all(unit)?;
                    bytes += unit.len() as u64 + 4;
                }
            }
        }
        self.bytes += bytes;
        self.samples.push(Sample {
            bytes: bytes as u32,
            shown_at_ticks: (u128::from(shown_at_micros) * u128::from(TIMESCALE) / 1_000_000)
                as u64,
            sync,
        });
        Ok(())
    }

    /// Writes the tables. `last_micros` is how long the last picture stays.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self, last_micros: u64) -> std::io::Result<()> {
        let last_ticks = (last_micros * u64::from(TIMESCALE) / 1_000_000).max(1) as u32;
        let durations: Vec<u32> = self
            .samples
            .windows(2)
            .map(|pair| {
                pair[1]
                    .shown_at_ticks
                    .saturating_sub(pair[0].shown_at_ticks) as u32
            })
            .chain(self.samples.last().map(|_| last_ticks))
            .collect();
        let total = durations
            .iter()
            .map(|&d| u64::from(d))
            .sum::<u64>()
            .min(u64::from(u32::MAX)) as u32;
        let mut moov = Vec::new();
        boxed(&mut moov, b"moov", |b| {
            boxed(b, b"mvhd", |b| {
                words(b, &[0, 0, 0, TIMESCALE, total, 0x1_0000, 0x0100_0000, 0, 0]);
                words(b, &UNITY);
                words(b, &[0, 0, 0, 0, 0, 0, 2]);
            });
            boxed(b, b"trak", |b| {
                boxed(b, b"tkhd", |b| {
                    words(b, &[3, 0, 0, 1, 0, total, 0, 0, 0, 0]);
                    words(b, &UNITY);
                    words(
                        b,
                        &[
                            u32::from(self.width_px) << 16,
                            u32::from(self.height_px) << 16,
                        ],
                    );
                });
                boxed(b, b"mdia", |b| {
                    boxed(b, b"mdhd", |b| {
                        words(b, &[0, 0, 0, TIMESCALE, total, 0x55c4_0000])
                    });
                    boxed(b, b"hdlr", |b| {
                        words(b, &[0, 0]);
                        b.extend(b"vide");
                        words(b, &[0, 0, 0]);
                        b.extend(b"Video\0");
                    });
                    boxed(b, b"minf", |b| {
                        boxed(b, b"vmhd", |b| words(b, &[1, 0, 0]));
                        boxed(b, b"dinf", |b| {
                            boxed(b, b"dref", |b| {
                                words(b, &[0, 1]);
                                boxed(b, b"url ", |b| words(b, &[1]));
                            });
                        });
                        boxed(b, b"stbl", |b| self.tables(b, &durations));
                    });
                });
            });
        });
        self.out.write_all(&moov)?;
        self.out.seek(SeekFrom::Start(self.mdat_at + 8))?;
        self.out.write_all(&(self.bytes + 16).to_be_bytes())?;
        self.out.flush()
    }

    fn tables(&self, b: &mut Vec<u8>, durations: &[u32]) {
        let count = self.samples.len() as u32;
        boxed(b, b"stsd", |b| {
            words(b, &[0, 1]);
            boxed(b, b"avc1", |b| {
                words(b, &[0, 1, 0, 0, 0, 0]);
                b.extend(self.width_px.to_be_bytes());
                b.extend(self.height_px.to_be_bytes());
                // 72 dpi, one picture a sample, no compressor name, 24 bit, no colour table.
                words(b, &[0x48_0000, 0x48_0000, 0]);
                b.extend([0, 1]);
                b.extend([0; 32]);
                b.extend([0, 24, 0xff, 0xff]);
                boxed(b, b"avcC", |b| {
                    let profile = self.sps.get(1..4).unwrap_or(&[0; 3]);
                    b.push(1);
                    b.extend(profile);
                    b.extend([0xff, 0xe1]);
                    b.extend((self.sps.len() as u16).to_be_bytes());
                    b.extend(&self.sps);
                    b.push(1);
                    b.extend((self.pps.len() as u16).to_be_bytes());
                    b.extend(&self.pps);
                    // High profiles say their chroma format and bit depths again.
                    if matches!(profile[0], 100 | 110 | 122 | 144) {
                        b.extend([0xfd, 0xf8, 0xf8, 0]);
                    }
                });
            });
        });
        boxed(b, b"stts", |b| {
            let mut runs: Vec<(u32, u32)> = Vec::new();
            for &duration in durations {
                match runs.last_mut() {
                    Some((n, last)) if *last == duration => *n += 1,
                    _ => runs.push((1, duration)),
                }
            }
            words(b, &[0, runs.len() as u32]);
            runs.iter()
                .for_each(|&(n, duration)| words(b, &[n, duration]));
        });
        boxed(b, b"stss", |b| {
            let sync: Vec<u32> = (1..)
                .zip(&self.samples)
                .filter(|(_, s)| s.sync)
                .map(|(n, _)| n)
                .collect();
            words(b, &[0, sync.len() as u32]);
            words(b, &sync);
        });
        boxed(b, b"stsc", |b| words(b, &[0, 1, 1, count, 1]));
        boxed(b, b"stsz", |b| {
            words(b, &[0, 0, count]);
            self.samples.iter().for_each(|s| words(b, &[s.bytes]));
        });
        boxed(b, b"stco", |b| {
            words(b, &[0, 1, self.first_sample_at as u32])
        });
    }
}

/// The NAL units of an Annex B stream, without start codes.
fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts = stream
        .windows(3)
        .enumerate()
        .filter(|(_, w)| *w == [0, 0, 1])
        .map(|(i, _)| i);
    let mut start = starts.next();
    std::iter::from_fn(move || {
        let begin = start? + 3;
        start = starts.next();
        let unit = &stream[begin..start.unwrap_or(stream.len())];
        // The zero before a four-byte start code belongs to it.
        let end = unit
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        Some(&unit[..end])
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_are_cut_at_short_and_long_start_codes() {
        let stream = [
            0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 3, 4,
        ];
        let units: Vec<_> = nal_units(&stream).collect();
        assert_eq!(units, [&[0x67, 1][..], &[0x68, 2], &[0x65, 3, 4]]);
    }

    #[test]
    fn stream_without_start_code_has_no_units() {
        assert_eq!(nal_units(&[1, 2, 3]).count(), 0);
    }
}
