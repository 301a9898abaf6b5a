//! MJPEG in AVI, as cameras and older dashcams write it.
//!
//! The container is RIFF: chunks of a four-letter name, a little-endian length and data padded to two bytes. No
//! well-kept crate reads it, and what a tracker needs of it is small: the first video stream's rate and size from
//! the `hdrl` list, then the `movi` lists from front to back. The index is not used, so a file that was never
//! closed plays up to where it ends. Files over 2 GiB continue in `AVIX` chunks (OpenDML).

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use roadhound_shared::frame::Timestamp;

use super::{FrameSource, Pixels, Reason, SizeGuard, SourceError, SourceFrame, jpeg};

/// Largest compressed frame that is believed.
const MAX_FRAME_BYTES: u32 = 64 << 20;
/// Lists may lie in lists only so deep.
const MAX_DEPTH: usize = 8;

fn broken(what: impl Into<String>) -> Reason {
    Reason::Container {
        container: "AVI",
        what: what.into(),
    }
}

/// What the header says about the video stream.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Header {
    stream: u8,
    fps: f64,
    frames: Option<u64>,
}

/// Reads the compressed frames of an AVI one by one.
struct Frames<R> {
    input: R,
    header: Header,
    /// End of each list that is open, innermost last.
    open_lists: Vec<u64>,
    at: u64,
    length: u64,
}

struct Chunk {
    name: [u8; 4],
    bytes: u32,
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

impl<R: Read + Seek> Frames<R> {
    fn open(mut input: R) -> Result<Self, Reason> {
        let length = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        let mut frames = Self {
            input,
            header: Header {
                stream: 0,
                fps: 0.0,
                frames: None,
            },
            open_lists: Vec::new(),
            at: 0,
            length,
        };
        let riff = frames.chunk()?.ok_or_else(|| broken("empty file"))?;
        if &riff.name != b"RIFF" || &frames.list_name()? != b"AVI " {
            return Err(broken("does not start with RIFF AVI"));
        }
        frames.header()?;
        Ok(frames)
    }

    /// Reads exactly `buffer`; `false` where the file ends before it.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Reason> {
        match self.input.read_exact(buffer) {
            Ok(()) => {
                self.at += buffer.len() as u64;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn chunk(&mut self) -> Result<Option<Chunk>, Reason> {
        let mut head = [0u8; 8];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let [a, b, c, d, rest @ ..] = head;
        Ok(Some(Chunk {
            name: [a, b, c, d],
            bytes: u32::from_le_bytes(rest),
        }))
    }

    fn list_name(&mut self) -> Result<[u8; 4], Reason> {
        let mut name = [0u8; 4];
        if self.fill(&mut name)? {
            Ok(name)
        } else {
            Err(broken("truncated in a list"))
        }
    }

    fn skip_to(&mut self, at: u64) -> Result<(), Reason> {
        if at != self.at {
            let delta = i64::try_from(at)
                .ok()
                .zip(i64::try_from(self.at).ok())
                .map(|(to, from)| to - from);
            self.input
                .seek_relative(delta.ok_or_else(|| broken("chunk length out of range"))?)?;
            self.at = at;
        }
        Ok(())
    }

    /// Where the chunk that starts here ends, padding included.
    fn end_of(&self, bytes: u32) -> u64 {
        self.at + u64::from(bytes) + u64::from(bytes & 1)
    }

    /// Walks the header lists up to and into the first `movi`.
    fn header(&mut self) -> Result<(), Reason> {
        let mut stream: Option<u8> = None;
        let mut streams_seen: u8 = 0;
        let (mut fps, mut fps_of_file) = (None, None);
        let mut frames = None;
        let mut current_is_video = false;
        loop {
            let chunk = self
                .chunk()?
                .ok_or_else(|| broken("truncated before the pictures"))?;
            let end = self.end_of(chunk.bytes);
            if &chunk.name == b"LIST" {
                match &self.list_name()? {
                    b"movi" => {
                        let stream = stream.ok_or_else(|| {
                            Reason::Unsupported("this AVI has no video stream".into())
                        })?;
                        let fps: f64 = fps.or(fps_of_file).unwrap_or(30.0);
                        self.header = Header {
                            stream,
                            fps,
                            frames,
                        };
                        self.open_lists.push(end);
                        return Ok(());
                    }
                    b"hdrl" | b"strl" => {}
                    _ => self.skip_to(end)?,
                }
                continue;
            }
            if !matches!(&chunk.name, b"avih" | b"strh" | b"strf") {
                self.skip_to(end)?;
                continue;
            }
            if chunk.bytes > 4096 {
                return Err(broken("a header chunk is too long"));
            }
            let mut data = vec![0u8; chunk.bytes as usize];
            if !self.fill(&mut data)? {
                return Err(broken("truncated in the header"));
            }
            match &chunk.name {
                b"avih" => {
                    fps_of_file = u32_at(&data, 0)
                        .filter(|&us| us > 0)
                        .map(|us| 1e6 / f64::from(us));
                    frames = u32_at(&data, 16).filter(|&n| n > 0).map(u64::from);
                }
                b"strh" => {
                    current_is_video = data.get(..4) == Some(b"vids") && stream.is_none();
                    if current_is_video {
                        stream = Some(streams_seen);
                        if let (Some(scale), Some(rate)) = (u32_at(&data, 20), u32_at(&data, 24))
                            && scale > 0
                            && rate > 0
                        {
                            fps = Some(f64::from(rate) / f64::from(scale));
                        }
                    }
                    streams_seen = streams_seen.saturating_add(1);
                }
                _ if current_is_video => {
                    let codec = data.get(16..20).unwrap_or_default();
                    if !codec.eq_ignore_ascii_case(b"MJPG") && !codec.eq_ignore_ascii_case(b"AVRN")
                    {
                        let name: String = codec
                            .iter()
                            .map(|&b| char::from(b).to_ascii_uppercase())
                            .filter(char::is_ascii_graphic)
                            .collect();
                        return Err(Reason::Unsupported(format!(
                            "AVI video is '{name}', only MJPG is decoded"
                        )));
                    }
                    current_is_video = false;
                }
                _ => {}
            }
            self.skip_to(end)?;
        }
    }

    /// The next compressed frame of the video stream into `data`; `false` at the end. An empty frame means that
    /// the camera dropped one.
    fn next(&mut self, data: &mut Vec<u8>) -> Result<bool, Reason> {
        loop {
            while self.open_lists.last().is_some_and(|&end| self.at >= end) {
                self.open_lists.pop();
            }
            let Some(chunk) = self.chunk()? else {
                // Between chunks is where a recording ends that was never closed: all frames so far were whole.
                return Ok(false);
            };
            let end = self.end_of(chunk.bytes);
            let stream = self.header.stream;
            let digits = [stream / 10, stream % 10].map(|digit| b'0' + digit);
            let video = chunk.name[..2] == digits && matches!(&chunk.name[2..], b"dc" | b"db");
            match &chunk.name {
                b"RIFF" | b"LIST" => {
                    let inner = self.list_name()?;
                    if matches!(&inner, b"AVIX" | b"movi" | b"rec ")
                        && self.open_lists.len() < MAX_DEPTH
                    {
                        self.open_lists.push(end);
                    } else {
                        self.skip_to(end)?;
                    }
                }
                _ if video => {
                    if chunk.bytes > MAX_FRAME_BYTES {
                        return Err(broken(format!("a frame of {} bytes", chunk.bytes)));
                    }
                    if self.at + u64::from(chunk.bytes) > self.length {
                        return Err(broken("truncated in a frame"));
                    }
                    data.resize(chunk.bytes as usize, 0);
                    if !self.fill(data)? {
                        return Err(broken("truncated in a frame"));
                    }
                    self.skip_to(end.min(self.length))?;
                    return Ok(true);
                }
                _ => self.skip_to(end)?,
            }
        }
    }
}

/// Decodes an MJPEG AVI frame by frame.
pub struct AviSource {
    path: PathBuf,
    frames: Frames<BufReader<File>>,
    next: u64,
    size: SizeGuard,
    data: Vec<u8>,
    pixels: Vec<u8>,
}

impl AviSource {
    /// Reads the headers of an AVI.
    ///
    /// # Errors
    /// Not an AVI, no MJPEG stream, or broken before the first picture.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let at = |reason: Reason| reason.at(path);
        let file = File::open(path).map_err(|e| at(e.into()))?;
        let frames = Frames::open(BufReader::with_capacity(1 << 16, file)).map_err(at)?;
        Ok(Self {
            path: path.to_path_buf(),
            frames,
            next: 0,
            size: SizeGuard::default(),
            data: Vec::new(),
            pixels: Vec::new(),
        })
    }
}

impl FrameSource for AviSource {
    fn next_frame(&mut self) -> Result<Option<SourceFrame<'_>>, SourceError> {
        let path = &self.path;
        loop {
            if !self
                .frames
                .next(&mut self.data)
                .map_err(|reason| reason.at(path))?
            {
                return Ok(None);
            }
            let index = self.next;
            self.next += 1;
            // A dropped frame takes time but shows nothing new.
            if self.data.is_empty() {
                continue;
            }
            let decoded = jpeg::decode(&self.data, &mut self.pixels).map_err(|e| {
                Reason::VideoFrame {
                    frame: index,
                    what: e.to_string(),
                }
                .at(path)
            })?;
            let (width_px, height_px) = (decoded.width_px, decoded.height_px);
            self.size
                .check(index, (width_px, height_px))
                .map_err(|reason| reason.at(path))?;
            let pixels = Pixels::Packed {
                format: decoded.format,
                width_px,
                height_px,
                data: &self.pixels,
            };
            let captured_at = Timestamp::of_frame(index, self.frames.header.fps);
            return Ok(Some(SourceFrame {
                pixels,
                captured_at,
            }));
        }
    }

    fn frames_expected(&self) -> Option<u64> {
        self.frames.header.frames
    }

    fn fps(&self) -> f64 {
        self.frames.header.fps
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut out = name.to_vec();
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
        out.resize(out.len() + data.len() % 2, 0);
        out
    }

    fn list(name: &[u8; 4], kind: &[u8; 4], parts: &[Vec<u8>]) -> Vec<u8> {
        chunk(name, &[kind.to_vec(), parts.concat()].concat())
    }

    /// An AVI with an audio stream before the video and the given video chunks.
    fn avi(frames: &[&[u8]], codec: &[u8; 4]) -> Vec<u8> {
        let mut avih = vec![0u8; 56];
        avih[..4].copy_from_slice(&40_000u32.to_le_bytes());
        avih[16..20].copy_from_slice(&(frames.len() as u32).to_le_bytes());
        let strh = |kind: &[u8; 4], scale: u32, rate: u32| {
            let mut data = vec![0u8; 56];
            data[..4].copy_from_slice(kind);
            data[20..24].copy_from_slice(&scale.to_le_bytes());
            data[24..28].copy_from_slice(&rate.to_le_bytes());
            chunk(b"strh", &data)
        };
        let mut strf = vec![0u8; 40];
        strf[16..20].copy_from_slice(codec);
        let header = list(
            b"LIST",
            b"hdrl",
            &[
                chunk(b"avih", &avih),
                list(
                    b"LIST",
                    b"strl",
                    &[strh(b"auds", 1, 8000), chunk(b"strf", &[1; 18])],
                ),
                list(
                    b"LIST",
                    b"strl",
                    &[strh(b"vids", 1001, 30000), chunk(b"strf", &strf)],
                ),
            ],
        );
        let mut movi = vec![chunk(b"00wb", &[7; 5])];
        movi.extend(frames.iter().map(|data| chunk(b"01dc", data)));
        let tail = list(b"LIST", b"rec ", &[chunk(b"01dc", b"last")]);
        movi.push(tail);
        list(
            b"RIFF",
            b"AVI ",
            &[
                header,
                chunk(b"JUNK", &[0; 11]),
                list(b"LIST", b"movi", &movi),
                chunk(b"idx1", &[0; 32]),
            ],
        )
    }

    fn read_all(bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Reason> {
        let mut frames = Frames::open(Cursor::new(bytes))?;
        let mut out = Vec::new();
        let mut data = Vec::new();
        while frames.next(&mut data)? {
            out.push(data.clone());
        }
        Ok(out)
    }

    #[test]
    fn video_chunks_come_out_in_order_audio_and_index_do_not() {
        let bytes = avi(&[b"one", b"", b"three"], b"MJPG");
        assert_eq!(
            read_all(bytes.clone()).unwrap(),
            [&b"one"[..], b"", b"three", b"last"]
        );
        let header = Frames::open(Cursor::new(bytes)).unwrap().header;
        assert_eq!((header.stream, header.frames), (1, Some(3)));
        assert!((header.fps - 29.97).abs() < 0.001);
    }

    #[test]
    fn a_chunk_whose_number_is_none_is_not_of_the_stream() {
        let mut bytes = avi(&[b"one", b"two"], b"MJPG");
        let name = bytes.windows(4).position(|w| w == b"01dc").unwrap();
        // 128 above the digit: ten times that is the same in eight bits.
        for first in [b'0' + 128, b'0' - 1, 0, 255] {
            bytes[name] = first;
            assert_eq!(read_all(bytes.clone()).unwrap(), [&b"two"[..], b"last"]);
        }
    }

    #[test]
    fn continuation_of_a_large_file_is_read() {
        let mut bytes = avi(&[b"one"], b"MJPG");
        bytes.extend(list(
            b"RIFF",
            b"AVIX",
            &[list(b"LIST", b"movi", &[chunk(b"01dc", b"more")])],
        ));
        assert_eq!(read_all(bytes).unwrap(), [&b"one"[..], b"last", b"more"]);
    }

    #[test]
    fn another_codec_is_named() {
        let Err(Reason::Unsupported(text)) = read_all(avi(&[b"one"], b"XVID")) else {
            panic!("XVID must be refused")
        };
        assert!(text.contains("'XVID'"), "{text}");
    }

    #[test]
    fn file_cut_inside_a_frame_gives_the_frames_before_it_and_an_error() {
        let bytes = avi(&[b"one", b"three"], b"MJPG");
        let cut = bytes.windows(5).position(|w| w == b"three").unwrap() + 2;
        let mut frames = Frames::open(Cursor::new(bytes[..cut].to_vec())).unwrap();
        let mut data = Vec::new();
        assert!(frames.next(&mut data).unwrap());
        assert_eq!(data, b"one");
        assert!(
            frames
                .next(&mut data)
                .unwrap_err()
                .to_string()
                .contains("truncated")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_all(bytes);
        }

        #[test]
        fn damaged_files_are_read_to_an_end(at in 0usize..700, value: u8, cut in 0usize..700) {
            let mut bytes = avi(&[b"one", b"two", b"three"], b"MJPG");
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let total: usize = read_all(bytes.clone()).map_or(0, |frames| frames.iter().map(Vec::len).sum());
            prop_assert!(total <= bytes.len());
        }
    }
}
