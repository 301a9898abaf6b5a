//! Plays raw frames into a V4L2 output device, for a driver that loops them back into a camera (`vivid`).
//!
//! `feed_camera DEVICE FOURCC WIDTH HEIGHT FRAMES MILLIS`, in a folder of its own. Shows the first frame of the file
//! until a file `play` is there, then every frame for MILLIS, then writes `done` and shows the last one until a file
//! `stop` is there. Writes `ready` once the driver takes frames.
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use v4l::buffer::Type;
use v4l::io::traits::OutputStream;
use v4l::prelude::{Device, MmapStream};
use v4l::video::Output;
use v4l::{Format, FourCC};

const BUFFERS: u32 = 4;
/// `V4L2_FIELD_NONE`: whole frames.
const PROGRESSIVE: u32 = 1;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, device, fourcc, width, height, frames, millis] = args.as_slice() else {
        anyhow::bail!("usage: feed_camera DEVICE FOURCC WIDTH HEIGHT FRAMES MILLIS");
    };
    let fourcc: [u8; 4] = fourcc.as_bytes().try_into().context("four letters")?;
    let (width, height): (u32, u32) = (width.parse()?, height.parse()?);
    let each = Duration::from_millis(millis.parse()?);
    let frames = File::open(frames).with_context(|| frames.clone())?;
    let length = frames.metadata()?.len();

    let device = Device::with_path(device).with_context(|| device.clone())?;
    let asked = Format::new(width, height, FourCC::new(&fourcc));
    let agreed = Output::set_format(&device, &asked)?;
    ensure!(
        (agreed.width, agreed.height, agreed.fourcc) == (width, height, asked.fourcc),
        "asked for {asked}, got {agreed}"
    );
    let bytes = u64::from(agreed.size);
    ensure!(
        bytes > 0 && length > 0 && length.is_multiple_of(bytes),
        "{length} bytes are no frames of {bytes}"
    );
    let last = length / bytes - 1;

    let mut stream = MmapStream::with_buffers(&device, Type::VideoOutput, BUFFERS)?;
    stream.set_timeout(Duration::from_secs(30));
    // The binding waits for a free buffer before it has given any away, which would take for ever.
    for index in 1..BUFFERS as usize {
        OutputStream::queue(&mut stream, index)?;
    }
    let mut playing: Option<Instant> = None;
    let mut sent = 0_u64;
    while !Path::new("stop").exists() {
        if playing.is_none() && Path::new("play").exists() {
            playing = Some(Instant::now());
        }
        let turn = playing.map_or(0, |since| {
            (since.elapsed().as_millis() / each.as_millis().max(1)) as u64
        });
        if turn > last {
            std::fs::write("done", "yes")?;
        }
        let (buffer, meta) = OutputStream::next(&mut stream)?;
        let buffer = buffer
            .get_mut(..bytes as usize)
            .context("a buffer that is too small")?;
        frames.read_exact_at(buffer, turn.min(last) * bytes)?;
        meta.bytesused = agreed.size;
        meta.field = PROGRESSIVE;
        sent += 1;
        if sent == u64::from(BUFFERS) + 1 {
            std::fs::write("ready", "yes")?;
        }
    }
    println!("{sent} frames sent");
    Ok(())
}
