//! H.264 in MP4 (and MOV), plain or fragmented.
//!
//! `re_mp4` reads the tables, `rusty_h264` decodes; both are Rust only, so that a machine with nothing but a
//! compiler can build this. Of H.264 everything progressive in 4:2:0 is decoded, B-frames and CABAC included;
//! interlaced material and 4:2:2 or 4:4:4 are refused by name. Pictures come in display order with the
//! container's time stamps, the first at zero. Edit lists are not applied: every picture is shown. Colours are
//! read as BT.601 limited range.
//!
//! Only the sample being decoded is in memory, besides the decoder's own reference pictures.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use re_mp4::{StsdBoxContent, TrackKind};
use roadhound_shared::frame::Timestamp;
use rusty_h264::{Decoder, YuvFrame};

use roadhound_host::guard::quietly;

use super::{FrameSource, MAX_PIXELS, Pixels, Reason, SizeGuard, SourceError, SourceFrame};

/// Most pictures that H.264 lets wait for their turn.
const MAX_REORDERED: usize = 16;
/// Largest compressed picture that is believed.
const MAX_SAMPLE_BYTES: u64 = 64 << 20;
/// Tables larger than this are not read; an hour at 30 pictures a second takes about 2 MiB.
const MAX_TABLE_BYTES: u64 = 64 << 20;

fn broken(what: impl Into<String>) -> Reason {
    Reason::Container {
        container: "MP4",
        what: what.into(),
    }
}

/// One compressed picture in the file.
#[derive(Clone, Copy)]
struct Sample {
    offset: u64,
    bytes: u32,
    /// Display time in units of the track.
    shown_at: i64,
    /// The earliest display time of this and all later samples: what is due before it can be shown.
    earliest_from_here: i64,
}

/// Decodes an MP4 picture by picture.
pub struct Mp4Source {
    path: PathBuf,
    file: File,
    samples: Vec<Sample>,
    next_sample: usize,
    timescale: f64,
    fps: f64,
    first_shown_at: i64,
    /// Bytes of the length before each NAL unit.
    length_bytes: usize,
    /// Parameter sets of the header, put before the first sample.
    parameter_sets: Vec<u8>,
    decoder: Decoder,
    waiting: BTreeMap<(i64, usize), YuvFrame>,
    failed: Option<Reason>,
    sample: Vec<u8>,
    annex_b: Vec<u8>,
    size: SizeGuard,
    shown: u64,
    current: Option<YuvFrame>,
    chroma: Vec<u8>,
}

impl Mp4Source {
    /// Reads the tables of an MP4.
    ///
    /// # Errors
    /// Not an MP4, no H.264 track, or tables that are damaged or missing.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        Self::read(path).map_err(|reason| reason.at(path))
    }

    fn read(path: &Path) -> Result<Self, Reason> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let declared = survey(&mut file, length)?;
        file.rewind()?;
        // A recording that was cut off has boxes that reach behind its end; the samples that are there still play.
        let mp4 = quietly(|| {
            let input = Patience {
                inner: BufReader::with_capacity(1 << 12, &mut file),
                left: 4 * length.min(2 * MAX_TABLE_BYTES) + (1 << 16),
            };
            re_mp4::Mp4::read(input, declared.max(length))
        })
        .map_err(broken)?
        .map_err(|e| broken(e.to_string()))?;
        let track = mp4
            .tracks()
            .values()
            .find(|track| track.kind == Some(TrackKind::Video))
            .ok_or_else(|| Reason::Unsupported("this MP4 has no H.264 video track".into()))?;
        let StsdBoxContent::Avc1(_) = track.trak(&mp4).mdia.minf.stbl.stsd.contents else {
            let codec = track
                .codec_string(&mp4)
                .unwrap_or_else(|| "of an unknown kind".into());
            return Err(Reason::Unsupported(format!(
                "this MP4's video is {codec}, only H.264 is decoded"
            )));
        };
        let config = track.raw_codec_config(&mp4).unwrap_or_default();
        let (length_bytes, parameter_sets) = parameter_sets(&config)?;
        if track.timescale == 0 || track.samples.is_empty() {
            return Err(broken("no pictures in it"));
        }
        let mut samples = track
            .samples
            .iter()
            .map(|s| {
                Ok(Sample {
                    offset: s.offset,
                    bytes: u32::try_from(s.size)
                        .ok()
                        .filter(|&n| u64::from(n) <= MAX_SAMPLE_BYTES)
                        .ok_or_else(|| broken(format!("a picture of {} bytes", s.size)))?,
                    shown_at: s.composition_timestamp,
                    earliest_from_here: s.composition_timestamp,
                })
            })
            .collect::<Result<Vec<_>, Reason>>()?;
        let mut earliest = i64::MAX;
        for sample in samples.iter_mut().rev() {
            earliest = earliest.min(sample.shown_at);
            sample.earliest_from_here = earliest;
        }
        let latest = samples.iter().map(|s| s.shown_at).max().unwrap_or(earliest);
        let timescale = track.timescale as f64;
        let seconds = latest.saturating_sub(earliest) as f64 / timescale;
        let fps = if seconds > 0.0 {
            (samples.len() - 1) as f64 / seconds
        } else {
            30.0
        };
        Ok(Self {
            path: path.to_path_buf(),
            samples,
            next_sample: 0,
            timescale,
            fps,
            first_shown_at: earliest,
            length_bytes,
            parameter_sets,
            decoder: Decoder::new(),
            waiting: BTreeMap::new(),
            failed: None,
            sample: Vec::new(),
            annex_b: Vec::new(),
            size: SizeGuard::default(),
            shown: 0,
            current: None,
            chroma: Vec::new(),
            file,
        })
    }

    /// Decodes the next sample, if there is one, and puts its picture among those that wait.
    fn decode_one(&mut self) -> Result<(), Reason> {
        let index = self.next_sample;
        let Sample {
            offset,
            bytes,
            shown_at,
            ..
        } = self.samples[index];
        self.next_sample += 1;
        let frame = index as u64;
        self.sample.resize(bytes as usize, 0);
        self.file.seek(SeekFrom::Start(offset))?;
        self.file
            .read_exact(&mut self.sample)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => Reason::VideoFrame {
                    frame,
                    what: "truncated: the file ends before it".into(),
                },
                _ => e.into(),
            })?;
        self.annex_b.clear();
        if index == 0 {
            self.annex_b.append(&mut self.parameter_sets);
        }
        annex_b_from_sample(&self.sample, self.length_bytes, &mut self.annex_b).map_err(
            |what| Reason::VideoFrame {
                frame,
                what: what.into(),
            },
        )?;
        let failed = |what: String| Reason::VideoFrame { frame, what };
        let decoded = quietly(|| self.decoder.decode(&self.annex_b))
            .map_err(failed)?
            .map_err(|e| failed(e.to_string()))?;
        // A sample without a picture (only parameter sets) shows nothing.
        if let Some(picture) = decoded {
            if picture.width as u64 * picture.height as u64 > MAX_PIXELS {
                return Err(Reason::VideoFrame {
                    frame,
                    what: "larger than this program decodes".into(),
                });
            }
            self.waiting.insert((shown_at, index), picture);
        }
        Ok(())
    }

    /// The next picture in display order.
    fn advance(&mut self) -> Result<Option<i64>, Reason> {
        loop {
            let due = self
                .samples
                .get(self.next_sample)
                .map(|s| s.earliest_from_here);
            if let Some(entry) = self.waiting.first_entry() {
                let shown_at = entry.key().0;
                let nothing_earlier = due.is_none_or(|due| shown_at <= due);
                if nothing_earlier || self.failed.is_some() {
                    self.current = Some(entry.remove());
                    return Ok(Some(shown_at));
                }
                if self.waiting.len() > MAX_REORDERED {
                    return Err(broken("its time stamps put pictures too far out of order"));
                }
            }
            if let Some(reason) = self.failed.take() {
                // Said once, after all that was decoded before; then the source is over.
                self.next_sample = self.samples.len();
                return Err(reason);
            }
            if due.is_none() {
                return Ok(None);
            }
            if let Err(reason) = self.decode_one() {
                self.failed = Some(reason);
            }
        }
    }
}

impl FrameSource for Mp4Source {
    fn next_frame(&mut self) -> Result<Option<SourceFrame<'_>>, SourceError> {
        let advanced = self.advance().map_err(|reason| reason.at(&self.path))?;
        let (Some(shown_at), Some(picture)) = (advanced, &self.current) else {
            return Ok(None);
        };
        let at = |reason: Reason| reason.at(&self.path);
        let (width_px, height_px) = (picture.width as u32, picture.height as u32);
        self.size
            .check(self.shown, (width_px, height_px))
            .map_err(at)?;
        self.shown += 1;
        self.chroma.clear();
        self.chroma
            .extend(picture.u.iter().zip(&picture.v).flat_map(|(&u, &v)| [u, v]));
        let micros =
            shown_at.saturating_sub(self.first_shown_at).max(0) as f64 * 1e6 / self.timescale;
        Ok(Some(SourceFrame {
            pixels: Pixels::Nv12 {
                width_px,
                height_px,
                luma: &picture.y,
                chroma: &self.chroma,
            },
            captured_at: Timestamp(micros.round() as u64),
        }))
    }

    fn frames_expected(&self) -> Option<u64> {
        Some(self.samples.len() as u64)
    }

    fn fps(&self) -> f64 {
        self.fps
    }
}

/// A reader that gives up when it is asked for much more than the file holds: `re_mp4` goes back to the start of a box
/// whose length is zero, and would do so for ever.
struct Patience<R> {
    inner: R,
    /// Bytes and calls that are still answered.
    left: u64,
}

impl<R> Patience<R> {
    fn spend(&mut self, cost: u64) -> std::io::Result<()> {
        self.left = self
            .left
            .checked_sub(cost)
            .ok_or_else(|| std::io::Error::other("its tables lead back to themselves"))?;
        Ok(())
    }
}

impl<R: Read> Read for Patience<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let found = self.inner.read(out)?;
        self.spend(found.max(1) as u64)?;
        Ok(found)
    }
}

impl<R: Seek> Seek for Patience<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.spend(1)?;
        self.inner.seek(to)
    }
}

/// Walks the outermost boxes; gives the end that they claim. Refuses tables so large that reading them would
/// cost more memory than any real recording does.
fn survey(file: &mut File, length: u64) -> Result<u64, Reason> {
    let mut at = 0u64;
    let mut has_tables = false;
    while at + 8 <= length {
        let mut head = [0u8; 16];
        file.seek(SeekFrom::Start(at))?;
        let wanted = if at + 16 <= length { 16 } else { 8 };
        file.read_exact(&mut head[..wanted])?;
        let short = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let name = [head[4], head[5], head[6], head[7]];
        let bytes = match short {
            0 => length - at,
            1 if wanted == 16 => u64::from_be_bytes([
                head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
            ]),
            n => u64::from(n),
        };
        if bytes < 8 {
            return Err(broken(format!("a box of {bytes} bytes at {at}")));
        }
        let end = at
            .checked_add(bytes)
            .ok_or_else(|| broken("a box of absurd length"))?;
        if matches!(&name, b"moov" | b"moof") {
            has_tables = true;
            if bytes > MAX_TABLE_BYTES {
                return Err(broken("its tables are too large"));
            }
            if end > length {
                return Err(broken("truncated in its tables"));
            }
        }
        at = end;
    }
    if has_tables {
        Ok(at)
    } else {
        Err(broken(
            "truncated or not closed: it has no table of pictures (moov)",
        ))
    }
}

/// From an `avcC` record: the bytes of a NAL length, and the parameter sets as Annex B.
fn parameter_sets(config: &[u8]) -> Result<(usize, Vec<u8>), Reason> {
    let short = || broken("its H.264 header is cut off");
    let mut rest = config.get(4..).ok_or_else(short)?;
    let byte = |rest: &mut &[u8]| -> Result<usize, Reason> {
        let (&first, tail) = rest.split_first().ok_or_else(short)?;
        *rest = tail;
        Ok(usize::from(first))
    };
    let length_bytes = (byte(&mut rest)? & 3) + 1;
    let mut out = Vec::new();
    for mask in [0x1f, 0xff] {
        for _ in 0..byte(&mut rest)? & mask {
            let bytes = byte(&mut rest)? << 8 | byte(&mut rest)?;
            let unit = rest.get(..bytes).ok_or_else(short)?;
            rest = &rest[bytes..];
            out.extend([0, 0, 0, 1]);
            out.extend(unit);
        }
    }
    Ok((length_bytes, out))
}

/// Appends a sample's NAL units with start codes in place of lengths.
fn annex_b_from_sample(
    mut sample: &[u8],
    length_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    while !sample.is_empty() {
        let Some((length, rest)) = sample.split_at_checked(length_bytes) else {
            return Err("broken: a NAL length is cut off");
        };
        let bytes = length.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
        let Some((unit, rest)) = rest.split_at_checked(bytes) else {
            return Err("broken: a NAL unit is longer than its sample");
        };
        out.extend([0, 0, 0, 1]);
        out.extend(unit);
        sample = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use super::*;

    fn patience(left: u64) -> Patience<Cursor<Vec<u8>>> {
        Patience {
            inner: Cursor::new(vec![0; 64]),
            left,
        }
    }

    #[test]
    fn a_reader_that_goes_in_circles_runs_out_of_patience() {
        let mut input = patience(1000);
        let mut rounds = 0;
        let error = loop {
            let mut head = [0; 8];
            let round = input
                .seek(SeekFrom::Start(0))
                .and_then(|_| input.read_exact(&mut head));
            match round {
                Ok(()) => rounds += 1,
                Err(error) => break error,
            }
            assert!(rounds < 2000, "it would have gone on for ever");
        };
        // A seek costs one and a head of eight bytes eight.
        assert_eq!(rounds, 1000 / 9);
        assert!(error.to_string().contains("lead back to themselves"));
    }

    #[test]
    fn asking_costs_something_even_where_nothing_is_moved() {
        let mut input = patience(10);
        input.seek(SeekFrom::End(0)).unwrap();
        let mut byte = [0];
        for _ in 0..9 {
            assert_eq!(input.read(&mut byte).unwrap(), 0);
        }
        assert!(input.read(&mut byte).is_err());
        let mut input = patience(2);
        for _ in 0..2 {
            input.seek(SeekFrom::Start(0)).unwrap();
        }
        assert!(input.seek(SeekFrom::Start(0)).is_err());
    }

    #[test]
    fn tables_that_lead_back_to_themselves_end_in_an_error() {
        let endless = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fuzz/regressions/mp4/endless"
        );
        let Err(error) = Mp4Source::open(Path::new(endless)) else {
            panic!("opened");
        };
        assert!(error.to_string().contains("broken MP4: "), "{error}");
    }
}
