//! Cameras by `nokhwa`, the second backend: a quick trial with the webcam of a desktop. The only file that names it.
//!
//! Enters: the number of a camera. Leaves: frames. On a board use `v4l2`: this binding knows neither when a frame was
//! taken on a clock that does not jump (frames are stamped when they arrive), nor which buffers the driver lost or marked
//! as damaged (a raw frame that is too short is), nor why a camera failed (everything is a fault of the bus).
//!
//! The binding waits for a frame without a limit. So the camera lives on a thread of its own, which hands frames over a
//! queue of two and drops what nobody takes; whoever polls waits as long as they like, and a stalled camera is told from a
//! slow one. A thread that hangs inside the binding cannot be ended: until it ends by itself, the camera is not opened
//! again, and each attempt says so.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};
use nokhwa::{Buffer, Camera, NokhwaError};
use roadhound_host::guard::quietly;
use roadhound_host::line::joined;
use roadhound_shared::frame::PixelFormat;

use super::negotiate::{Offer, Wanted, choose};
use super::{CaptureError, Encoding, Frame, LiveSource, Opener, Poll, StreamFormat};
use crate::clock;
use crate::config::WebcamConfig;

/// A camera that has not opened by then hangs.
const OPENS_WITHIN: Duration = Duration::from_secs(10);
/// Frames between the two threads.
const QUEUE: usize = 2;

const ENCODINGS: [(FrameFormat, Encoding); 6] = [
    (FrameFormat::YUYV, Encoding::Raw(PixelFormat::Yuyv)),
    (FrameFormat::NV12, Encoding::Raw(PixelFormat::Nv12)),
    (FrameFormat::RAWRGB, Encoding::Raw(PixelFormat::Rgb8)),
    (FrameFormat::RAWBGR, Encoding::Raw(PixelFormat::Bgr8)),
    (FrameFormat::GRAY, Encoding::Raw(PixelFormat::Grey8)),
    (FrameFormat::MJPEG, Encoding::Mjpeg),
];

/// Opens a camera by its number.
pub struct Webcam {
    config: WebcamConfig,
    /// The thread of the last stream, which may hang.
    thread: Option<JoinHandle<()>>,
}

impl Webcam {
    /// A camera that is not open yet.
    pub fn new(config: WebcamConfig) -> Self {
        Self {
            config,
            thread: None,
        }
    }
}

/// What the binding says is a text; a line of it.
fn failure(name: &str, reason: impl std::fmt::Display) -> CaptureError {
    CaptureError::Io {
        device: name.to_owned(),
        reason: io::Error::other(joined(&reason.to_string())),
    }
}

fn late(name: &str, reason: &str) -> CaptureError {
    CaptureError::Io {
        device: name.to_owned(),
        reason: io::Error::new(io::ErrorKind::TimedOut, reason),
    }
}

impl Opener for Webcam {
    fn open(&mut self) -> Result<Box<dyn LiveSource>, CaptureError> {
        let name = self.name();
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            // It has said what there was to say through its queue.
            let _ = thread.join();
        }
        if self.thread.is_some() {
            return Err(late(&name, "still held by a stream that does not answer"));
        }
        let (say, opened) = sync_channel(1);
        let (give, frames) = sync_channel(QUEUE);
        let (give_back, used) = sync_channel(QUEUE + 1);
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Ends {
            say,
            give,
            used,
            stop: stop.clone(),
        };
        let (config, of) = (self.config, name.clone());
        let thread = std::thread::Builder::new()
            .name("webcam".into())
            .spawn(move || {
                let give = ends.give.clone();
                if let Err(said) = quietly(|| stream(&of, &config, ends)) {
                    // Whoever polls finds the queue closed if it is full as well.
                    let _ = give.try_send(Err(failure(&of, said)));
                }
            })
            .map_err(|reason| failure(&name, reason))?;
        self.thread = Some(thread);
        let format = match opened.recv_timeout(OPENS_WITHIN) {
            Ok(answer) => answer?,
            Err(RecvTimeoutError::Timeout) => {
                stop.store(true, Ordering::Relaxed);
                return Err(late(&name, "does not open"));
            }
            // A panic before it was open; the queue has its words.
            Err(RecvTimeoutError::Disconnected) => {
                let said = frames.try_recv().ok().and_then(Result::err);
                return Err(said.unwrap_or_else(|| failure(&name, "does not open")));
            }
        };
        Ok(Box::new(Stream {
            name,
            format,
            frames,
            give_back,
            stop,
        }))
    }

    fn name(&self) -> String {
        format!("webcam {}", self.config.index)
    }
}

/// The camera's ends of what its thread and the stream tell each other.
struct Ends {
    /// Whether it is open.
    say: SyncSender<Result<StreamFormat, CaptureError>>,
    give: SyncSender<Result<Frame, CaptureError>>,
    /// Buffers that were read.
    used: Receiver<Vec<u8>>,
    stop: Arc<AtomicBool>,
}

/// The thread: opens the camera, and hands its frames over until it fails or is told to stop.
fn stream(name: &str, config: &WebcamConfig, ends: Ends) {
    let failed = |reason: NokhwaError| failure(name, reason);
    let (mut camera, format) = match open(name, config) {
        Ok(opened) => opened,
        Err(error) => {
            let _ = ends.say.send(Err(error));
            return;
        }
    };
    if ends.say.send(Ok(format)).is_err() {
        return;
    }
    let mut sequence = 0;
    while !ends.stop.load(Ordering::Relaxed) {
        let delivered = match camera.frame() {
            Ok(buffer) => filled(&buffer, &format, sequence, ends.used.try_recv().ok()),
            Err(reason) => Err(failed(reason)),
        };
        sequence += 1;
        let ends_here = delivered.is_err();
        match ends.give.try_send(delivered) {
            Ok(()) => {}
            // Nobody takes them: the newest wins over there, and the gap in the count says what was lost.
            Err(TrySendError::Full(Ok(_))) => {}
            Err(TrySendError::Full(error @ Err(_))) => {
                let _ = ends.give.send(error);
            }
            Err(TrySendError::Disconnected(_)) => return,
        }
        if ends_here {
            return;
        }
    }
}

/// A copy of what came, in a buffer that was used before where there is one.
fn filled(
    buffer: &Buffer,
    agreed: &StreamFormat,
    sequence: u64,
    used: Option<Vec<u8>>,
) -> Result<Frame, CaptureError> {
    let (width_px, height_px) = (agreed.width_px, agreed.height_px);
    let mut frame = Frame {
        sequence,
        captured_at: clock::monotonic(),
        bytes: used.unwrap_or_default(),
        ..Frame::default()
    };
    match agreed.encoding {
        Encoding::Raw(format) => frame.set_tight(format, width_px, height_px, &[buffer.buffer()]),
        Encoding::Mjpeg => {
            frame.encoding = Encoding::Mjpeg;
            (frame.width_px, frame.height_px) = (width_px, height_px);
            frame.bytes.clear();
            frame.bytes.extend_from_slice(buffer.buffer());
        }
    }
    Ok(frame)
}

/// Opens the camera, agrees on one of its formats and starts the stream.
fn open(name: &str, config: &WebcamConfig) -> Result<(Camera, StreamFormat), CaptureError> {
    let failed = |reason: NokhwaError| failure(name, reason);
    let known = ENCODINGS.map(|(format, _)| format);
    let any = RequestedFormat::with_formats(RequestedFormatType::None, &known);
    let mut camera = Camera::new(CameraIndex::Index(config.index), any).map_err(failed)?;
    let offered = camera.compatible_camera_formats().map_err(failed)?;
    let offers: Vec<Offer> = offered.iter().filter_map(offer).collect();
    let wanted = Wanted {
        width_px: config.width_px,
        height_px: config.height_px,
        fps: f64::from(config.fps),
        only: config.format.encoding(),
    };
    let chosen = choose(&offers, &wanted).ok_or_else(|| {
        let names: Vec<&str> = offers.iter().map(|offer| offer.encoding.name()).collect();
        CaptureError::NoFormat {
            device: name.to_owned(),
            reason: format!("has no format that is wanted, only {names:?}"),
        }
    })?;
    let asked = offered
        .into_iter()
        .find(|format| offer(format) == Some(chosen));
    let asked = asked.ok_or_else(|| failure(name, "offers what it has not"))?;
    let layout = [asked.format()];
    let exactly = RequestedFormat::with_formats(RequestedFormatType::Exact(asked), &layout);
    camera.set_camera_requset(exactly).map_err(failed)?;
    let agreed = camera.camera_format();
    let agreed = offer(&agreed).ok_or_else(|| CaptureError::FormatChanged {
        device: name.to_owned(),
        agreed: asked.to_string(),
        found: agreed.to_string(),
    })?;
    camera.open_stream().map_err(failed)?;
    let format = StreamFormat {
        encoding: agreed.encoding,
        width_px: agreed.width_px,
        height_px: agreed.height_px,
        fps: agreed.fps,
    };
    Ok((camera, format))
}

/// A format of the binding's, where it can be tracked.
fn offer(format: &CameraFormat) -> Option<Offer> {
    let encoding = ENCODINGS
        .iter()
        .find(|(known, _)| *known == format.format())?;
    Some(Offer {
        encoding: encoding.1,
        width_px: format.width(),
        height_px: format.height(),
        fps: f64::from(format.frame_rate()),
    })
}

struct Stream {
    name: String,
    format: StreamFormat,
    frames: Receiver<Result<Frame, CaptureError>>,
    give_back: SyncSender<Vec<u8>>,
    stop: Arc<AtomicBool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl LiveSource for Stream {
    fn poll(&mut self, frame: &mut Frame, wait: Duration) -> Result<Poll, CaptureError> {
        match self.frames.recv_timeout(wait) {
            Ok(delivered) => {
                let came = delivered?;
                let bytes = std::mem::replace(frame, came).bytes;
                // Nobody waits for it where the camera has enough.
                let _ = self.give_back.try_send(bytes);
                Ok(match frame.view() {
                    Ok(_) => Poll::Frame,
                    Err(_) => Poll::Corrupt,
                })
            }
            Err(RecvTimeoutError::Timeout) => Ok(Poll::Nothing),
            Err(RecvTimeoutError::Disconnected) => Err(failure(&self.name, "its stream ended")),
        }
    }

    fn format(&self) -> StreamFormat {
        self.format
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use nokhwa::utils::Resolution;

    use super::*;
    use crate::capture::Cause;

    #[test]
    fn a_camera_that_is_not_there_is_said_in_one_line_each_time() {
        let config = WebcamConfig {
            index: 200,
            ..WebcamConfig::default()
        };
        let mut webcam = Webcam::new(config);
        for _ in 0..2 {
            let error = webcam.open().err().unwrap();
            assert_eq!(error.cause(), Some(Cause::Io));
            let said = error.to_string();
            assert!(
                said.starts_with("webcam 200: ") && !said.contains('\n'),
                "{said}"
            );
        }
    }

    /// A stream whose camera is the test.
    fn streaming() -> (
        Stream,
        SyncSender<Result<Frame, CaptureError>>,
        Receiver<Vec<u8>>,
    ) {
        let (give, frames) = sync_channel(QUEUE);
        let (give_back, used) = sync_channel(QUEUE + 1);
        let stream = Stream {
            name: "webcam 0".into(),
            format: StreamFormat {
                encoding: Encoding::Raw(PixelFormat::Yuyv),
                width_px: 4,
                height_px: 2,
                fps: 30.0,
            },
            frames,
            give_back,
            stop: Arc::default(),
        };
        (stream, give, used)
    }

    #[test]
    fn frames_are_taken_when_they_come_buffers_go_back_and_short_ones_are_damaged() {
        let (mut stream, give, used) = streaming();
        let soon = Duration::from_millis(1);
        let mut frame = Frame::default();
        assert_eq!(stream.poll(&mut frame, soon).unwrap(), Poll::Nothing);
        let agreed = stream.format();
        for (sequence, length, expected) in [(0, 16, Poll::Frame), (5, 15, Poll::Corrupt)] {
            let size = Resolution::new(4, 2);
            let buffer = Buffer::new(size, &vec![7; length], FrameFormat::YUYV);
            give.send(filled(&buffer, &agreed, sequence, None)).unwrap();
            assert_eq!(stream.poll(&mut frame, soon).unwrap(), expected);
            assert_eq!(frame.sequence, sequence);
        }
        assert_eq!(
            (used.recv().unwrap().len(), used.recv().unwrap().len()),
            (0, 16)
        );
    }

    #[test]
    fn a_camera_that_fails_or_whose_thread_is_gone_ends_the_stream() {
        let (mut stream, give, _used) = streaming();
        let soon = Duration::from_millis(1);
        let mut frame = Frame::default();
        let reason = NokhwaError::ReadFrameError("No such device\n(os error 19)".into());
        give.send(Err(failure("webcam 0", reason))).unwrap();
        let said = stream.poll(&mut frame, soon).unwrap_err().to_string();
        assert_eq!(
            said,
            "webcam 0: Could not capture frame: No such device (os error 19)"
        );
        drop(give);
        assert!(stream.poll(&mut frame, soon).is_err());
    }
}
