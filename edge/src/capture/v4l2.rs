//! Cameras by V4L2: the only file that names it.
//!
//! Enters: a device. Leaves: frames, copied once out of the driver's mapped buffers, which go back to the driver at once:
//! however long somebody looks at a frame, the driver never runs out. Time stamps are the driver's own where it keeps
//! them on the monotonic clock.
//!
//! The binding is safe to call but fragile: it hands out buffers only through `next`, which gives the last one back first
//! and must not be called again after it failed. Hence the polling before each call, and a stream that failed is closed.
//! A driver may start only once it has all its buffers, so none is kept back for the first `next` to give: the first
//! frame is taken to have one, and is not looked at.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roadhound_host::guard::quietly;
use roadhound_shared::frame::{PixelFormat, Timestamp};
use v4l::buffer::{Flags, Type};
use v4l::capability::Flags as Capability;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::io::traits::{CaptureStream, Stream as _};
use v4l::prelude::{Device, MmapStream};
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Format, FourCC, Fraction};

use super::negotiate::{Offer, Wanted, choose};
use super::{CaptureError, Encoding, Frame, LiveSource, Opener, Poll, StreamFormat};
use crate::clock;
use crate::config::V4l2Config;

/// No driver has more buffers; V4L2 itself allows 32.
const MOST_BUFFERS: usize = 64;
/// One is read while the driver fills another.
const LEAST_BUFFERS: usize = 2;

const ENCODINGS: [(&[u8; 4], Encoding); 7] = [
    (b"YUYV", Encoding::Raw(PixelFormat::Yuyv)),
    (b"NV12", Encoding::Raw(PixelFormat::Nv12)),
    (b"RGB3", Encoding::Raw(PixelFormat::Rgb8)),
    (b"BGR3", Encoding::Raw(PixelFormat::Bgr8)),
    (b"GREY", Encoding::Raw(PixelFormat::Grey8)),
    (b"MJPG", Encoding::Mjpeg),
    (b"JPEG", Encoding::Mjpeg),
];

/// Opens a V4L2 device.
pub struct V4l2 {
    config: V4l2Config,
}

impl V4l2 {
    /// A device that is not open yet.
    pub fn new(config: V4l2Config) -> Self {
        Self { config }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            width_px: self.config.width_px,
            height_px: self.config.height_px,
            fps: self.config.fps,
            only: self.config.format.encoding(),
        }
    }
}

/// Gone, or a fault: what the system says decides.
fn failure(device: &Path, reason: io::Error) -> CaptureError {
    let device = device.display().to_string();
    match reason.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO | libc::ENOENT) => CaptureError::Gone { device, reason },
        _ => CaptureError::Io { device, reason },
    }
}

impl Opener for V4l2 {
    fn open(&mut self) -> Result<Box<dyn LiveSource>, CaptureError> {
        let path = &self.config.device;
        let failed = |e: io::Error| failure(path, e);
        let device = Device::with_path(path).map_err(failed)?;
        let no_format = |reason: String| CaptureError::NoFormat {
            device: path.display().to_string(),
            reason,
        };
        let capabilities = device.query_caps().map_err(failed)?.capabilities;
        if !capabilities.contains(Capability::VIDEO_CAPTURE | Capability::STREAMING) {
            return Err(no_format("no camera that streams".into()));
        }
        let wanted = self.wanted();
        let offers = offers(&device, &wanted).map_err(failed)?;
        let offer = choose(&offers, &wanted).ok_or_else(|| {
            let names: Vec<&str> = offers.iter().map(|offer| offer.encoding.name()).collect();
            no_format(format!("has no format that is wanted, only {names:?}"))
        })?;
        let asked = Format::new(
            offer.width_px,
            offer.height_px,
            fourcc(&device, offer.encoding),
        );
        let agreed = Capture::set_format(&device, &asked).map_err(failed)?;
        let encoding = encoding(agreed.fourcc)
            .filter(|&encoding| encoding == offer.encoding)
            .ok_or_else(|| {
                no_format(format!("asked for {}, got {}", asked.fourcc, agreed.fourcc))
            })?;
        // Some drivers have one rate only and refuse to be told.
        let interval = Parameters::new(fraction(offer.fps));
        let fps = Capture::set_params(&device, &interval)
            .or_else(|_| Capture::params(&device))
            .ok()
            .and_then(|p| rate(p.interval))
            .unwrap_or(offer.fps);
        let format = StreamFormat {
            encoding,
            width_px: agreed.width,
            height_px: agreed.height,
            fps,
        };
        // Some drivers leave it empty where rows have no padding.
        let stride_bytes = match agreed.stride as usize {
            0 => row_bytes(encoding, agreed.width),
            told => told,
        };
        let stream = MmapStream::with_buffers(&device, Type::VideoCapture, self.config.buffers)
            .map_err(failed)?;
        // From here on it is closed under guard, also where it does not start.
        let mut stream = Stream {
            path: path.clone(),
            format,
            least_bytes: least_bytes(encoding, stride_bytes, agreed.width, agreed.height),
            stride_bytes,
            last_sequence: 0,
            holds_buffer: false,
            stream: Some(stream),
            _device: device,
        };
        stream.start().map_err(failed)?;
        Ok(Box::new(stream))
    }

    fn name(&self) -> String {
        self.config.device.display().to_string()
    }
}

fn encoding(fourcc: FourCC) -> Option<Encoding> {
    ENCODINGS
        .iter()
        .find(|(name, _)| **name == fourcc.repr)
        .map(|(_, encoding)| *encoding)
}

/// Bytes of the pixels in a row; of NV12, in a row of either plane.
fn row_bytes(encoding: Encoding, width_px: u32) -> usize {
    width_px as usize
        * match encoding {
            Encoding::Raw(PixelFormat::Rgb8 | PixelFormat::Bgr8) => 3,
            Encoding::Raw(PixelFormat::Yuyv) => 2,
            Encoding::Raw(PixelFormat::Grey8 | PixelFormat::Nv12) => 1,
            Encoding::Mjpeg => 0,
        }
}

/// The fewest bytes that hold a picture. Not the size of the buffer that the driver names: some round that up, and say of
/// each frame how much of it is in use.
fn least_bytes(encoding: Encoding, stride_bytes: usize, width_px: u32, height_px: u32) -> usize {
    let rows = match encoding {
        Encoding::Mjpeg => return 1,
        Encoding::Raw(PixelFormat::Nv12) => height_px + height_px / 2,
        Encoding::Raw(_) => height_px,
    };
    // The last row may lack its padding.
    stride_bytes * (rows as usize).saturating_sub(1) + row_bytes(encoding, width_px)
}

/// The name under which this device has a layout.
fn fourcc(device: &Device, encoding: Encoding) -> FourCC {
    let names = ENCODINGS.iter().filter(|(_, e)| *e == encoding);
    let offered = Capture::enum_formats(device).unwrap_or_default();
    let name = names
        .clone()
        .find(|(name, _)| offered.iter().any(|format| format.fourcc.repr == **name))
        .or_else(|| names.clone().next());
    name.map_or(FourCC::new(b"YUYV"), |(name, _)| FourCC::new(name))
}

fn rate(interval: Fraction) -> Option<f64> {
    let (n, d) = (
        f64::from(interval.numerator),
        f64::from(interval.denominator),
    );
    (n > 0.0 && d > 0.0).then(|| d / n)
}

fn fraction(fps: f64) -> Fraction {
    if (fps - fps.round()).abs() < 1e-6 {
        Fraction::new(1, fps.round() as u32)
    } else {
        Fraction::new(1000, (fps * 1000.0).round() as u32)
    }
}

/// Everything the device says it can do, as far as it can be tracked.
fn offers(device: &Device, wanted: &Wanted) -> io::Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for format in Capture::enum_formats(device)? {
        let Some(encoding) = encoding(format.fourcc) else {
            continue;
        };
        let sizes = Capture::enum_framesizes(device, format.fourcc).unwrap_or_default();
        let mut all: Vec<(u32, u32)> = sizes
            .into_iter()
            .map(|size| match size.size {
                FrameSizeEnum::Discrete(size) => (size.width, size.height),
                FrameSizeEnum::Stepwise(s) => (
                    nearest(wanted.width_px, s.min_width, s.max_width, s.step_width),
                    nearest(wanted.height_px, s.min_height, s.max_height, s.step_height),
                ),
            })
            .collect();
        if all.is_empty() {
            // Drivers that do not say: ask for what is wanted, and see what `set_format` answers.
            all.push((wanted.width_px, wanted.height_px));
        }
        for (width_px, height_px) in all {
            let intervals =
                Capture::enum_frameintervals(device, format.fourcc, width_px, height_px)
                    .unwrap_or_default();
            let mut rates: Vec<f64> = intervals
                .into_iter()
                .filter_map(|interval| match interval.interval {
                    FrameIntervalEnum::Discrete(interval) => rate(interval),
                    FrameIntervalEnum::Stepwise(steps) => {
                        let (fastest, slowest) = (rate(steps.min)?, rate(steps.max)?);
                        Some(wanted.fps.clamp(slowest.min(fastest), fastest.max(slowest)))
                    }
                })
                .collect();
            if rates.is_empty() {
                rates.push(wanted.fps);
            }
            offers.extend(rates.into_iter().map(|fps| Offer {
                encoding,
                width_px,
                height_px,
                fps,
            }));
        }
    }
    Ok(offers)
}

/// The value of a range with steps that is nearest to the wanted one, not above it where that is possible.
fn nearest(wanted: u32, least: u32, most: u32, step: u32) -> u32 {
    let clamped = wanted.clamp(least, most.max(least));
    least + (clamped - least) / step.max(1) * step.max(1)
}

struct Stream {
    path: PathBuf,
    format: StreamFormat,
    /// A buffer with fewer bytes holds no whole picture.
    least_bytes: usize,
    stride_bytes: usize,
    /// The driver counts in 32 bits.
    last_sequence: u64,
    /// A buffer is out of the driver, for `next` to give back.
    holds_buffer: bool,
    stream: Option<MmapStream<'static>>,
    _device: Device,
}

impl Stream {
    fn start(&mut self) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut() else {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        };
        // All of them; how many there are, only the driver knows. It refuses the one behind the last, and a driver with a
        // single buffer, which could not fill one while another is read, the second.
        for index in 0..MOST_BUFFERS {
            match CaptureStream::queue(stream, index) {
                Ok(()) => {}
                Err(e) if index < LEAST_BUFFERS => return Err(e),
                Err(_) => break,
            }
        }
        stream.start()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Closing a device that is half gone is where the binding panics.
        let stream = self.stream.take();
        if let Err(said) = quietly(|| drop(stream)) {
            log::warn!("{}: while closing: {said}", self.path.display());
        }
    }
}

impl LiveSource for Stream {
    fn poll(&mut self, frame: &mut Frame, wait: Duration) -> Result<Poll, CaptureError> {
        let path = &self.path;
        let failed = |e: io::Error| failure(path, e);
        let Some(stream) = self.stream.as_mut() else {
            return Err(failed(io::Error::from_raw_os_error(libc::ENODEV)));
        };
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX).max(1);
        match stream.handle().poll(libc::POLLIN, millis) {
            Ok(0) => return Ok(Poll::Nothing),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Poll::Nothing),
            Err(e) => return Err(failed(e)),
        }
        if !self.holds_buffer {
            CaptureStream::dequeue(stream).map_err(failed)?;
            self.holds_buffer = true;
            return Ok(Poll::Nothing);
        }
        let (bytes, meta) = CaptureStream::next(stream).map_err(failed)?;
        let used = bytes.get(..meta.bytesused as usize).unwrap_or_default();
        frame.sequence = widened(meta.sequence, self.last_sequence);
        self.last_sequence = frame.sequence;
        // The buffer goes back to the driver with the next call, whatever is in it.
        if meta.flags.contains(Flags::ERROR) || used.len() < self.least_bytes {
            return Ok(Poll::Corrupt);
        }
        frame.encoding = self.format.encoding;
        (frame.width_px, frame.height_px) = (self.format.width_px, self.format.height_px);
        frame.stride_bytes = self.stride_bytes;
        frame.bytes.clear();
        frame.bytes.extend_from_slice(used);
        #[allow(
            clippy::unnecessary_cast,
            reason = "32-bit boards count seconds in 32 bits"
        )]
        let (sec, usec) = (meta.timestamp.sec as i64, meta.timestamp.usec as i64);
        frame.captured_at = stamp(meta.flags, sec, usec);
        Ok(Poll::Frame)
    }

    fn format(&self) -> StreamFormat {
        self.format
    }
}

/// A count of 32 bits that has gone round goes on.
fn widened(sequence: u32, last: u64) -> u64 {
    let high = last & !u64::from(u32::MAX);
    let same = high | u64::from(sequence);
    if same + (1 << 31) < last {
        same + (1 << 32)
    } else {
        same
    }
}

/// The driver's time where it is on the monotonic clock and not in the future, else now.
fn stamp(flags: Flags, seconds: i64, micros: i64) -> Timestamp {
    let now = clock::monotonic();
    let kind = flags & Flags::TIMESTAMP_MASK;
    let told = u64::try_from(seconds)
        .ok()
        .zip(u64::try_from(micros).ok())
        .map(|(s, us)| Timestamp(s.saturating_mul(1_000_000).saturating_add(us)));
    match told {
        Some(told) if kind == Flags::TIMESTAMP_MONOTONIC && told <= now => told,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_count_that_goes_round_goes_on() {
        assert_eq!(widened(5, 4), 5);
        assert_eq!(widened(0, u64::from(u32::MAX)), 1 << 32);
        assert_eq!(widened(7, (1 << 32) + 6), (1 << 32) + 7);
    }

    #[test]
    fn rates_survive_being_asked_for() {
        for fps in [5.0, 30.0, 29.97, 7.5, 120.0] {
            assert!((rate(fraction(fps)).unwrap() - fps).abs() < 1e-3);
        }
        assert_eq!(rate(Fraction::new(0, 30)), None);
    }

    #[test]
    fn a_time_of_another_clock_or_of_the_future_is_not_believed() {
        let now = clock::monotonic();
        assert_eq!(stamp(Flags::TIMESTAMP_MONOTONIC, 0, 5), Timestamp(5));
        assert!(stamp(Flags::TIMESTAMP_UNKNOWN, 0, 5) >= now);
        assert!(stamp(Flags::TIMESTAMP_MONOTONIC, 1 << 40, 0) <= clock::monotonic());
        assert!(stamp(Flags::TIMESTAMP_MONOTONIC, -1, 0) >= now);
    }

    #[test]
    fn a_buffer_holds_a_picture_from_its_last_pixel_on() {
        use PixelFormat::{Nv12, Yuyv};
        for (format, bytes) in [(Yuyv, 16 * 5 + 12), (Nv12, 16 * 8 + 6)] {
            let encoding = Encoding::Raw(format);
            assert_eq!(least_bytes(encoding, 16, 6, 6), bytes);
            let mut frame = Frame {
                encoding,
                width_px: 6,
                height_px: 6,
                stride_bytes: 16,
                bytes: vec![0; bytes],
                ..Frame::default()
            };
            assert!(frame.view().is_ok());
            frame.bytes.pop();
            assert!(frame.view().is_err());
        }
        assert_eq!(least_bytes(Encoding::Mjpeg, 0, 6, 6), 1);
    }

    #[test]
    fn sizes_in_steps_are_met_or_stayed_below() {
        assert_eq!(nearest(1280, 320, 1920, 16), 1280);
        assert_eq!(nearest(1281, 320, 1920, 16), 1280);
        assert_eq!(nearest(4000, 320, 1920, 16), 1920);
        assert_eq!(nearest(100, 320, 1920, 0), 320);
    }

    #[test]
    fn a_device_that_is_not_there_is_gone_and_one_that_is_none_has_no_format() {
        let open = |device: &str| {
            let config = V4l2Config {
                device: device.into(),
                ..V4l2Config::default()
            };
            V4l2::new(config).open().err().unwrap().cause()
        };
        assert_eq!(open("/dev/no-such-camera"), Some(super::super::Cause::Gone));
        assert_eq!(open("/dev/null"), Some(super::super::Cause::Io));
    }
}
