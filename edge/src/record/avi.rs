//! MJPEG in AVI, written so that it may be cut off anywhere.
//!
//! Enters: JPEG pictures, one by one. Leaves: a file that players and [`crate::source`] read, also while it grows and after
//! the power went. A picture is appended in one call; [`Writer::so_far`] is what somebody else, on another thread, needs to
//! bring the lengths in the header up to date and the file to the disk; the index, which players seek by, comes last.
//! [`recover`] does for a file that was cut off what [`Writer::finish`] would have done, and takes the torn picture at its
//! end away.
//!
//! ```
//! use roadhound_edge::record::avi::{Writer, recover};
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("a.avi");
//! let mut avi = Writer::create(&path, 64, 48, 30.0)?;
//! avi.push(&[0xff, 0xd8, 0xff, 0xd9])?; // nobody finishes it
//! drop(avi);
//! assert_eq!(recover(&path)?.pictures, 1);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Where the first chunk with a picture begins: everything before it has a fixed length.
pub(super) const HEADER_BYTES: u64 = 224;
/// What the lengths in the header count from.
const RIFF_FROM: u64 = 8;
const MOVI_FROM: u64 = HEADER_BYTES - 4;
/// Where lengths and counts stand that are brought up to date.
const RIFF_LENGTH_AT: u64 = 4;
const MICROS_AT: u64 = 32;
const FRAMES_AT: u64 = 48;
const STREAM_MICROS_AT: u64 = 128;
const STREAM_FRAMES_AT: u64 = 140;
const MOVI_LENGTH_AT: u64 = HEADER_BYTES - 8;
/// A file stays below what 32 bits can say, and what every player reads.
pub const MOST_BYTES: u64 = 1 << 30;
const PICTURE: &[u8; 4] = b"00dc";
/// Every picture can be decoded by itself.
const KEY_FRAME: u32 = 0x10;

fn header(width_px: u32, height_px: u32, fps: f64) -> Vec<u8> {
    let micros = (1e6 / fps).round() as u32;
    let mut to = Vec::with_capacity(HEADER_BYTES as usize);
    let word = |to: &mut Vec<u8>, value: u32| to.extend(value.to_le_bytes());
    let name = |to: &mut Vec<u8>, name: &[u8; 4], bytes: u32| {
        to.extend(name);
        to.extend(bytes.to_le_bytes());
    };
    name(&mut to, b"RIFF", (HEADER_BYTES - RIFF_FROM) as u32);
    to.extend(b"AVI ");
    name(&mut to, b"LIST", 192);
    to.extend(b"hdrl");
    // Time of a frame, rate of bytes, padding, flags (has an index), frames, first, streams, buffer, size, reserved.
    name(&mut to, b"avih", 56);
    for value in [
        micros, 0, 0, 0x10, 0, 0, 1, 0, width_px, height_px, 0, 0, 0, 0,
    ] {
        word(&mut to, value);
    }
    name(&mut to, b"LIST", 116);
    to.extend(b"strl");
    name(&mut to, b"strh", 56);
    to.extend(b"vidsMJPG");
    // Flags, priority, first, scale, rate, start, length, buffer, quality, size of a sample, and where it is shown.
    for value in [0, 0, 0, micros, 1_000_000, 0, 0, 0, u32::MAX, 0] {
        word(&mut to, value);
    }
    word(&mut to, 0);
    word(&mut to, (width_px & 0xffff) | (height_px << 16));
    name(&mut to, b"strf", 40);
    for value in [40, width_px, height_px, 1 | (24 << 16)] {
        word(&mut to, value);
    }
    to.extend(b"MJPG");
    for value in [
        width_px.saturating_mul(height_px).saturating_mul(3),
        0,
        0,
        0,
        0,
    ] {
        word(&mut to, value);
    }
    name(&mut to, b"LIST", 4);
    to.extend(b"movi");
    to
}

/// Where a picture's chunk begins and how long the picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: u64,
    bytes: u32,
}

/// A file that grows, as it was at some moment.
#[derive(Clone)]
pub struct SoFar {
    file: Arc<File>,
    lengths: Lengths,
}

impl SoFar {
    /// Brings the lengths in the header up to date; the file, for whoever brings it to the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self) -> io::Result<&File> {
        self.lengths.write(&self.file)?;
        Ok(&self.file)
    }
}

/// What the header says about what comes behind it.
#[derive(Clone, Copy)]
struct Lengths {
    /// Where the file ends, and where its pictures do.
    end: u64,
    pictures_end: u64,
    frames: u32,
    micros_per_frame: Option<u32>,
}

impl Lengths {
    fn write(&self, file: &File) -> io::Result<()> {
        for (at, value) in [
            (RIFF_LENGTH_AT, (self.end - RIFF_FROM) as u32),
            (FRAMES_AT, self.frames),
            (STREAM_FRAMES_AT, self.frames),
            (MOVI_LENGTH_AT, (self.pictures_end - MOVI_FROM) as u32),
        ] {
            file.write_all_at(&value.to_le_bytes(), at)?;
        }
        if let Some(micros) = self.micros_per_frame {
            for at in [MICROS_AT, STREAM_MICROS_AT] {
                file.write_all_at(&micros.to_le_bytes(), at)?;
            }
        }
        Ok(())
    }
}

/// A file that grows.
pub struct Writer {
    file: Arc<File>,
    at: u64,
    entries: Vec<Entry>,
    chunk: Vec<u8>,
    /// Where it is not what the header began with.
    micros_per_frame: Option<u32>,
}

impl Writer {
    /// Begins a file; one of that name must not be there.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path, width_px: u32, height_px: u32, fps: f64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&header(width_px, height_px, fps))?;
        Ok(Self::of(file))
    }

    fn of(file: File) -> Self {
        Self {
            file: Arc::new(file),
            at: HEADER_BYTES,
            entries: Vec::new(),
            chunk: Vec::new(),
            micros_per_frame: None,
        }
    }

    /// Appends a picture. After an error the file is as it was before, unless taking the rest away failed too.
    ///
    /// # Errors
    /// What the system says; a file that would become too long.
    pub fn push(&mut self, jpeg: &[u8]) -> io::Result<()> {
        let bytes = u32::try_from(jpeg.len())
            .ok()
            .filter(|_| self.at + (jpeg.len() as u64) < MOST_BYTES);
        let bytes = bytes
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "the segment is full"))?;
        self.chunk.clear();
        self.chunk.extend(PICTURE);
        self.chunk.extend(bytes.to_le_bytes());
        self.chunk.extend(jpeg);
        self.chunk.resize(self.chunk.len() + jpeg.len() % 2, 0);
        if let Err(e) = self.file.write_all_at(&self.chunk, self.at) {
            // What fitted on the full disk would be taken for a picture.
            self.file.set_len(self.at)?;
            return Err(e);
        }
        self.entries.push(Entry { at: self.at, bytes });
        self.at += self.chunk.len() as u64;
        Ok(())
    }

    /// From one picture to the next, from the next sync on.
    pub fn set_micros_per_frame(&mut self, micros: u32) {
        self.micros_per_frame = Some(micros);
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// Pictures so far.
    pub fn frames(&self) -> usize {
        self.entries.len()
    }

    /// The file as it is now.
    pub fn so_far(&self) -> SoFar {
        SoFar {
            file: Arc::clone(&self.file),
            lengths: self.lengths(self.at),
        }
    }

    fn lengths(&self, end: u64) -> Lengths {
        Lengths {
            end,
            pictures_end: self.at,
            frames: self.entries.len() as u32,
            micros_per_frame: self.micros_per_frame,
        }
    }

    /// Writes the index and ends the file.
    ///
    /// # Errors
    /// What the system says; the file can be recovered then.
    pub fn finish(&self) -> io::Result<()> {
        self.finish_by(File::sync_data)
    }

    /// The same, with somebody else to bring the file to the disk: first its pictures, and only then what says that they
    /// are all there.
    ///
    /// # Errors
    /// What the system says; it can be tried again then, or the file be recovered.
    pub fn finish_by(&self, sync: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
        sync(&self.file)?;
        let mut index = Vec::with_capacity(8 + 16 * self.entries.len());
        index.extend(b"idx1");
        index.extend((16 * self.entries.len() as u32).to_le_bytes());
        for entry in &self.entries {
            index.extend(PICTURE);
            for value in [KEY_FRAME, (entry.at - MOVI_FROM) as u32, entry.bytes] {
                index.extend(value.to_le_bytes());
            }
        }
        self.file.write_all_at(&index, self.at)?;
        let end = self.at + index.len() as u64;
        self.file.set_len(end)?;
        self.lengths(end).write(&self.file)?;
        sync(&self.file)
    }
}

/// What [`recover`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whole pictures in the file.
    pub pictures: usize,
    /// Nobody had finished it.
    pub was_cut: bool,
}

/// Ends a file that was cut off: what follows the last whole picture goes, the index comes. A file that was finished stays
/// as it is.
///
/// # Errors
/// What the system says, or `InvalidData` for a file that [`Writer`] did not begin.
pub fn recover(path: &Path) -> io::Result<Recovered> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut input = BufReader::new(&file);
    let mut head = [0; HEADER_BYTES as usize];
    let foreign = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "not a recording of this program",
        )
    };
    if length < HEADER_BYTES {
        return Err(foreign());
    }
    input.read_exact(&mut head)?;
    let [movi, riff] =
        [MOVI_LENGTH_AT + 4, RIFF_FROM].map(|at| &head[at as usize..at as usize + 4]);
    if movi != b"movi" || riff != b"AVI " {
        return Err(foreign());
    }
    if let Some(pictures) = finished(&file, &head, length)? {
        return Ok(Recovered {
            pictures,
            was_cut: false,
        });
    }
    let mut writer = Writer::of(OpenOptions::new().read(true).write(true).open(path)?);
    loop {
        let mut chunk = [0; 12];
        // A chunk's head and the first two bytes of a picture, with its padding.
        if writer.at + 10 > length {
            break;
        }
        let take = (length - writer.at).min(12) as usize;
        input.seek(SeekFrom::Start(writer.at))?;
        input.read_exact(&mut chunk[..take])?;
        let [a, b, c, d, e, f, g, h, soi @ ..] = chunk;
        let bytes = u32::from_le_bytes([e, f, g, h]);
        let end = writer.at + 8 + u64::from(bytes) + u64::from(bytes & 1);
        // A disk that lost power may have given a file its length and not its content.
        if [a, b, c, d] != *PICTURE || soi[..2] != [0xff, 0xd8] || end > length || end >= MOST_BYTES
        {
            break;
        }
        writer.entries.push(Entry {
            at: writer.at,
            bytes,
        });
        writer.at = end;
    }
    let pictures = writer.entries.len();
    writer.file.set_len(writer.at)?;
    writer.finish()?;
    Ok(Recovered {
        pictures,
        was_cut: true,
    })
}

/// How many pictures the index at the end of a file counts, where header and index agree about its length.
fn finished(file: &File, head: &[u8], length: u64) -> io::Result<Option<usize>> {
    let word = |at: u64| u32::from_le_bytes(std::array::from_fn(|n| head[at as usize + n]));
    let index_at = MOVI_FROM + u64::from(word(MOVI_LENGTH_AT));
    let pictures = word(FRAMES_AT);
    let index_bytes = 8 + 16 * u64::from(pictures);
    if u64::from(word(RIFF_LENGTH_AT)) + RIFF_FROM != length || index_at + index_bytes != length {
        return Ok(None);
    }
    let mut name = [0; 4];
    file.read_exact_at(&mut name, index_at)?;
    Ok((name == *b"idx1").then_some(pictures as usize))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::source::{Options, open};

    const JPEG: &[u8] = include_bytes!("../../tests/data/one.jpg");

    fn recording(path: &Path, frames: usize) -> Writer {
        let mut avi = Writer::create(path, 64, 48, 30.0).unwrap();
        (0..frames).for_each(|_| avi.push(JPEG).unwrap());
        avi
    }

    fn readable(path: &Path) -> usize {
        let mut source = open(path, &Options::default()).unwrap();
        assert!((source.fps() - 30.0).abs() < 1e-2);
        let mut frames = 0;
        while source.next_frame().unwrap().is_some() {
            frames += 1;
        }
        frames
    }

    #[test]
    fn a_finished_file_is_read_back_whole_and_recovering_it_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.avi");
        recording(&path, 7).finish().unwrap();
        assert_eq!(readable(&path), 7);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(
            u32::from_le_bytes(before[4..8].try_into().unwrap()) as usize,
            before.len() - 8
        );
        assert_eq!(
            recover(&path).unwrap(),
            Recovered {
                pictures: 7,
                was_cut: false
            }
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_file_that_nobody_finished_is_read_and_recovered_to_what_finishing_would_have_made() {
        let folder = tempfile::tempdir().unwrap();
        let (cut, whole) = (folder.path().join("a.avi"), folder.path().join("b.avi"));
        let avi = recording(&cut, 5);
        avi.so_far().write().unwrap().sync_data().unwrap();
        drop(avi);
        assert_eq!(readable(&cut), 5);
        recording(&whole, 5).finish().unwrap();
        assert_eq!(
            recover(&cut).unwrap(),
            Recovered {
                pictures: 5,
                was_cut: true
            }
        );
        assert_eq!(std::fs::read(&cut).unwrap(), std::fs::read(&whole).unwrap());
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.avi");
        for content in [&b"RIFF"[..], &[7; 500]] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(
                recover(&path).unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }

    proptest! {
        /// Whatever the disk kept of a recording, the whole pictures before the cut are there afterwards and nothing else.
        #[test]
        fn a_file_cut_off_anywhere_keeps_every_whole_picture(keep in 0.0f64..=1.0, zeros in 0usize..2000) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.avi");
            let written = recording(&path, 4);
            let entries = written.entries.clone();
            drop(written);
            let mut bytes = std::fs::read(&path).unwrap();
            let keep = HEADER_BYTES as usize + ((bytes.len() - HEADER_BYTES as usize) as f64 * keep) as usize;
            bytes.truncate(keep);
            let whole = entries.iter().filter(|e| e.at as usize + 8 + e.bytes as usize + (e.bytes as usize & 1) <= keep).count();
            // A length without content reads as zeros, which are no picture; inside one they are damage that stays.
            let inside = keep > HEADER_BYTES as usize && !entries.iter().any(|e| e.at as usize == keep) && whole < 4;
            if !inside {
                bytes.resize(keep + zeros, 0);
            }
            std::fs::write(&path, &bytes).unwrap();
            prop_assert_eq!(recover(&path).unwrap().pictures, whole);
            prop_assert_eq!(readable(&path), whole);
        }
    }
}
