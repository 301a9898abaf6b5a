//! The files that `roadhound watch` was asked for.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use roadhound_host::whole;
use roadhound_shared::frame::Timestamp;
use roadhound_shared::watch::Report;

use super::WatchOptions;
use super::scene::{Happenings, Scene};
use crate::failure::Failure;
use crate::sink::crowd::Crowd;
use crate::sink::mot::MotSink;
use crate::sink::recorded::Recorded;
use crate::sink::times::TimesSink;
use crate::sink::users::UsersSink;
use crate::sink::video::VideoSink;
use crate::sink::{SinkError, coco, cvat};
use crate::source::Pixels;

/// What is known about one frame.
pub(super) struct Moment<'a> {
    /// Counted from 0.
    pub(super) index: u64,
    pub(super) captured_at: Timestamp,
    /// Whether the network looked at it.
    pub(super) looked: bool,
    pub(super) took: Duration,
    /// Everybody.
    pub(super) reports: &'a [Report],
    /// Those who are worth a box.
    pub(super) shown: &'a [Report],
    pub(super) happenings: &'a Happenings,
}

/// A file that is written at the end.
type AtTheEnd = fn(&Recorded, &mut dyn Write) -> std::io::Result<()>;

pub(super) struct Sinks {
    mot: Option<MotSink>,
    times: Option<TimesSink>,
    users: Option<UsersSink>,
    video: Option<(VideoSink, Crowd)>,
    at_the_end: Vec<(PathBuf, AtTheEnd)>,
    recorded: Recorded,
    source: PathBuf,
}

impl Sinks {
    pub(super) fn create(
        options: &WatchOptions,
        (width_px, height_px): (u32, u32),
        fps: f64,
    ) -> Result<Self, Failure> {
        let o = &options.outputs;
        let files = [&o.out, &o.jsonl, &o.coco, &o.cvat, &o.video];
        let nothing = files.iter().all(|file| file.is_none());
        let trail_seconds = options.file.report.trail_seconds;
        let video = |path: &Path| {
            let sink = VideoSink::create(path, fps)?;
            Ok::<_, SinkError>((sink, Crowd::new(trail_seconds)))
        };
        let mut at_the_end: Vec<(PathBuf, AtTheEnd)> = Vec::new();
        at_the_end.extend(o.coco.clone().map(|path| (path, coco::write as AtTheEnd)));
        at_the_end.extend(o.cvat.clone().map(|path| (path, cvat::write as AtTheEnd)));
        // `drive/img` is called after the drive.
        let mut named = options.source.as_path();
        if named.file_name().is_some_and(|name| name == "img") {
            named = named.parent().unwrap_or(named);
        }
        let name = named.file_name().unwrap_or_default();
        let sinks = Self {
            mot: match &o.out {
                Some(path) => Some(MotSink::create(path)?),
                None if nothing => Some(MotSink::stdout()),
                None => None,
            },
            times: o.times.as_deref().map(TimesSink::create).transpose()?,
            users: o.jsonl.as_deref().map(UsersSink::create).transpose()?,
            video: o.video.as_deref().map(video).transpose()?,
            at_the_end,
            recorded: Recorded {
                name: name.to_string_lossy().into_owned(),
                width_px,
                height_px,
                fps,
                ..Recorded::default()
            },
            source: options.source.clone(),
        };
        // Now, so that a folder that cannot be written to is reported before an hour of watching.
        sinks.write_whole()?;
        Ok(sinks)
    }

    pub(super) fn write(
        &mut self,
        pixels: &Pixels<'_>,
        moment: &Moment<'_>,
        scene: &Scene,
    ) -> Result<(), SinkError> {
        let Moment {
            index,
            captured_at,
            shown,
            ..
        } = *moment;
        if let Some(sink) = &mut self.mot {
            sink.write(index, shown)?;
        }
        if let Some(sink) = &mut self.times {
            sink.write(moment.took)?;
        }
        if let Some(sink) = &mut self.users {
            let when = (index, captured_at, moment.looked);
            sink.write(when, moment.reports, shown, scene, moment.happenings)?;
        }
        if let Some((sink, crowd)) = &mut self.video {
            sink.write_drawn(pixels, captured_at, |picture| {
                crowd.draw(picture, captured_at, shown, scene);
            })?;
        }
        Ok(())
    }

    /// Keeps what the files at the end need, where there are any.
    pub(super) fn record(&mut self, at: Timestamp, file: Option<&Path>, shown: &[Report]) {
        if self.at_the_end.is_empty() {
            return;
        }
        let file = file.map(|file| {
            let inside = file.strip_prefix(&self.source).unwrap_or(file);
            inside.to_string_lossy().into_owned()
        });
        self.recorded.push(at.0, file, shown);
    }

    fn write_whole(&self) -> Result<(), SinkError> {
        for (path, write) in &self.at_the_end {
            let written = whole::write_with(path, |file| {
                let mut out = BufWriter::new(file);
                write(&self.recorded, &mut out)?;
                out.flush()
            });
            written.map_err(|reason| SinkError {
                path: path.clone(),
                reason,
            })?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        let whole = self.write_whole();
        let video = self.video.map_or(Ok(()), |(video, _)| video.finish());
        Ok(whole.and(video)?)
    }
}
