//! `roadhound run`: the program on the board.
//!
//! Enters: a configuration. Leaves: tracks to every sink, until a signal or the end of a recording.
//!
//! ```text
//!  capture thread --Newest--> tracking thread --bounded queues--> a thread per sink
//!        ^                          ^
//!        +------ this thread: signals, watchdog, reload, figures -----+
//! ```
//!
//! The thread that captures never waits for the one that tracks, and that one never for a sink. A stage that is silent
//! for too long or panics ends the program with status 5, for the service manager to start it anew: a thread that hangs
//! in a driver cannot be restarted from within.
//!
//! A reload never costs what works: where a new page, recording or camera cannot be had, the old one is started again.

pub mod event;
pub mod manoeuvre;
pub mod notify;
pub mod stats;
pub mod tracking;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use roadhound_host::apart::{Read, Written, clash};
use roadhound_shared::contract::ContractError;
use roadhound_shared::follow::Follower;
use roadhound_shared::follow::refind::{RefindConfig, Refinder};
use roadhound_shared::frame::Timestamp;
use roadhound_shared::propose::Finder;

use crate::bundle::{Bundle, Model, ModelSource};
use crate::capture::fault::Faulty;
use crate::capture::newest::Newest;
use crate::capture::rendered::Rendered;
use crate::capture::replay::Replay;
use crate::capture::stage::{CaptureStats, Captured, End, capture};
use crate::capture::{
    LiveSource, Opener,
    dump::{Dump, Dumping},
};
use crate::clock;
use crate::config::{CameraConfig, RunConfig, SinksConfig, TargetConfig, WebcamConfig};
use crate::failure::Failure;
use crate::familiarity::Familiarity;
use crate::infer::{TractNetwork, TractProposer};
use crate::preview::{self, PreviewConfig, Seen};
use crate::record::{self, RecordStats, Recorder, RecordingConfig};
use crate::sink::live::csv::CsvLines;
use crate::sink::live::jsonl::JsonLines;
use crate::sink::live::udp::Datagrams;
use crate::sink::live::{Queue, finish_all, folder_of};
use crate::source::PICTURE_ENDINGS;
use manoeuvre::Sensor;
use notify::Notify;
use stats::{Machine, RunStats, SinkFigures};
use tracking::{Command, Eyes, Stage, Target};

/// How often this thread looks around.
const ROUND: Duration = Duration::from_millis(50);
/// How long the thread that tracks waits for a frame before it takes the camera for silent.
const SILENCE: Duration = Duration::from_millis(50);
/// How long a sink may take to write what it still has when the program ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the end of a segment may take.
const LAST_PICTURES: Duration = Duration::from_secs(3);
/// Frames that may be held at once: the one that is tracked, the one that waits, and those that sinks hold.
const BUFFERS: usize = 4;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration.
    pub config: PathBuf,
    /// Normalisation follows the camera, also where the configuration has no table `[adapt]`.
    pub adapt: bool,
    /// Only check the configuration.
    pub check: bool,
}

/// What the thread that tracks is told, besides frames.
enum Told {
    Do(Command),
    Networks(Box<Networks>),
}

/// What a bundle gives the thread that tracks: what follows, what finds road users where that is wanted, and what knows whether the
/// camera shows what was learned.
struct Networks {
    follower: Follower<TractNetwork>,
    eyes: Option<Eyes<TractProposer>>,
    familiarity: Option<Familiarity>,
}

/// What all threads see.
#[derive(Default)]
struct Shared {
    place: Newest<Captured>,
    capture: CaptureStats,
    stats: RunStats,
    sinks: Mutex<Vec<Queue>>,
    recorder: Mutex<Option<Recorder>>,
    /// What the page shows, where there is one.
    seen: Seen,
    shows: AtomicBool,
    /// Whether the thread that tracks can find somebody to follow by itself.
    can_choose: AtomicBool,
    /// When the thread that tracks last came by.
    tracking_alive_at: AtomicU64,
    /// No more frames will come; end when the last one is done.
    over: AtomicBool,
    stop_tracking: AtomicBool,
    /// The camera waits for the tracker: time without a frame means nothing.
    waits: AtomicBool,
}

impl Shared {
    fn sinks(&self) -> std::sync::MutexGuard<'_, Vec<Queue>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures_of_sinks(&self) -> Vec<SinkFigures> {
        self.sinks()
            .iter()
            .map(|queue| SinkFigures {
                name: queue.name(),
                written: queue.stats().written(),
                dropped: queue.stats().dropped(),
                errors: queue.stats().errors(),
            })
            .collect()
    }

    fn recorder(&self) -> std::sync::MutexGuard<'_, Option<Recorder>> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, on the clock of the frames: that of the machine, but for frames that are stamped later than they were taken.
    fn frames_now(&self) -> Timestamp {
        let moved_micros = self.capture.moved_micros.load(Relaxed);
        Timestamp(clock::monotonic().0.saturating_add(moved_micros))
    }

    fn prometheus(&self) -> String {
        let sinks = self.figures_of_sinks();
        let recording: Option<Arc<RecordStats>> = self
            .recorder()
            .as_ref()
            .map(|recorder| Arc::clone(recorder.stats()));
        self.stats.prometheus(
            &self.capture,
            &sinks,
            recording.as_deref(),
            &Machine::read(),
        )
    }
}

/// Runs until a signal or the end of a recording.
///
/// # Errors
/// A configuration, model or recording that does not work; a camera that is gone for good; a stage that hangs.
pub fn run(options: &RunOptions) -> Result<(), Failure> {
    let (config, secrets) = read(options)?;
    if options.check {
        return Ok(());
    }
    let signals = Signals::register()?;
    let notify = Notify::from_environment();
    let mut program = Program::start(config, secrets)?;
    log::info!("running");
    notify.ready();
    let outcome = program.watch(options, &signals, &notify);
    notify.stopping();
    let tidied = program.finish();
    outcome.and(tidied)
}

/// What is in the files that a configuration names for a secret. They change without it.
#[derive(Default, PartialEq)]
struct Secrets {
    token: Option<preview::Token>,
    password: Option<String>,
}

/// Reads a configuration and its secrets, and checks what only this machine can tell.
fn read(options: &RunOptions) -> Result<(RunConfig, Secrets), Failure> {
    let path = &options.config;
    let mut config = RunConfig::read(path).map_err(Failure::Usage)?;
    if options.adapt {
        config.adapt.get_or_insert_default();
    }
    let at = |key: &str, what: String| Failure::Usage(format!("{}: {key}: {what}", path.display()));
    check_files(&config, path)
        .map_err(|said| Failure::Usage(format!("{}: {said}", path.display())))?;
    if config.camera.v4l2.is_some() && !cfg!(feature = "camera") {
        return Err(at(
            "camera.v4l2",
            "this program was built without the feature `camera`".into(),
        ));
    }
    if config.camera.webcam.is_some() && !cfg!(feature = "webcam") {
        return Err(at(
            "camera.webcam",
            "this program was built without the feature `webcam`".into(),
        ));
    }
    if let Some(replay) = &config.camera.replay {
        let path = &replay.path;
        std::fs::metadata(path)
            .map_err(|e| at("camera.replay.path", format!("{}: {e}", path.display())))?;
    }
    let mut secrets = Secrets::default();
    if let Some(token) = config
        .preview
        .as_ref()
        .and_then(|p| p.token_file.as_deref())
    {
        let token = preview::Token::read(token).map_err(|e| at("preview.token_file", e))?;
        secrets.token = Some(token);
    }
    #[cfg(feature = "mqtt")]
    if let Some(file) = config
        .sinks
        .mqtt
        .as_ref()
        .and_then(|mqtt| mqtt.password_file.as_deref())
    {
        let password = crate::sink::live::mqtt::password(file)
            .map_err(|e| at("sinks.mqtt.password_file", e.to_string()))?;
        secrets.password = Some(password);
    }
    if config.sinks.mqtt.is_some() && !cfg!(feature = "mqtt") {
        return Err(at(
            "sinks.mqtt",
            "this program was built without the feature `mqtt`".into(),
        ));
    }
    Ok((config, secrets))
}

/// Whether what is written can be there, and is neither read nor written by another part of the configuration.
fn check_files(config: &RunConfig, itself: &Path) -> Result<(), String> {
    let sinks = &config.sinks;
    let written = [
        ("sinks.jsonl.path", sinks.jsonl.as_ref().map(|s| &s.path)),
        ("sinks.csv.path", sinks.csv.as_ref().map(|s| &s.path)),
        (
            "metrics.textfile",
            config.metrics.as_ref().map(|m| &m.textfile),
        ),
        ("camera.dump", config.camera.dump.as_ref()),
    ];
    let read = [
        (
            "camera.replay.path",
            config.camera.replay.as_ref().map(|r| &r.path),
        ),
        (
            "preview.token_file",
            config.preview.as_ref().and_then(|p| p.token_file.as_ref()),
        ),
        (
            "sinks.mqtt.password_file",
            sinks.mqtt.as_ref().and_then(|m| m.password_file.as_ref()),
        ),
    ];
    // `-` is standard output, which two sinks may share.
    let written = written.into_iter().filter_map(|(name, path)| {
        let path = path.filter(|path| *path != Path::new("-"))?;
        Some(Written { name, path })
    });
    let written: Vec<Written<'_>> = written.collect();
    for file in &written {
        let (key, file) = (file.name, file.path);
        if !folder_of(file).is_dir() {
            return Err(format!("{key}: no folder {}", folder_of(file).display()));
        }
        if file.is_dir() {
            return Err(format!("{key}: {} is a folder", file.display()));
        }
    }
    let read = read.into_iter().filter_map(|(name, path)| {
        let (path, holds) = (path?.as_path(), PICTURE_ENDINGS);
        Some(Read { name, path, holds })
    });
    let itself = Read {
        name: "this configuration",
        path: itself,
        holds: &[],
    };
    let read: Vec<Read<'_>> = read.chain([itself]).collect();
    clash(&written, &read).map_or(Ok(()), |found| {
        let Written { name, path } = found.written;
        Err(format!("{name}: {} is {} too", path.display(), found.other))
    })
}

/// Flags that signals set.
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn register() -> Result<Self, Failure> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let stop = Arc::new(AtomicBool::new(false));
        let reload = Arc::new(AtomicBool::new(false));
        let registered = [SIGTERM, SIGINT]
            .into_iter()
            .try_for_each(|signal| {
                // The second one ends the program at once: the first may hang in a driver.
                signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())?;
                signal_hook::flag::register(signal, stop.clone())?;
                Ok(())
            })
            .and_then(|()| signal_hook::flag::register(SIGHUP, reload.clone()).map(drop));
        registered.map_err(|e: std::io::Error| Failure::Usage(format!("signals: {e}")))?;
        Ok(Self { stop, reload })
    }
}

/// The running stages.
struct Program {
    config: RunConfig,
    secrets: Secrets,
    /// Where frames are written down, for as long as the configuration says so.
    dump: Option<Dump>,
    /// The camera to go back to while the one of the last reload has not delivered a frame.
    before: Option<Before>,
    /// Frames that were captured before the capture that runs.
    captured_before: u64,
    shared: Arc<Shared>,
    capture: Option<CaptureThread>,
    tracking: Option<JoinHandle<()>>,
    tell: SyncSender<Told>,
    metrics_due: Instant,
    preview: Option<preview::server::Server>,
    accelerometer: Option<Sensor>,
}

/// A camera that worked.
struct Before {
    camera: CameraConfig,
    dump: Option<Dump>,
}

/// Commands that may wait for the thread that tracks, which looks for them between two frames.
const COMMANDS: usize = 16;

/// What the page sees of the program.
struct Desk {
    shared: Arc<Shared>,
    tell: SyncSender<Told>,
}

impl preview::Board for Desk {
    fn seen(&self) -> &Seen {
        &self.shared.seen
    }

    fn figures(&self) -> stats::Figures {
        self.shared.stats.figures()
    }

    fn camera_is_open(&self) -> bool {
        self.shared.capture.is_open.load(Relaxed)
    }

    fn prometheus(&self) -> String {
        self.shared.prometheus()
    }

    fn can_choose(&self) -> bool {
        self.shared.can_choose.load(Relaxed)
    }

    fn command(&self, command: Command) -> bool {
        self.tell.try_send(Told::Do(command)).is_ok()
    }
}

struct CaptureThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<End>,
}

/// Opens the model. What finds road users is loaded only where a target is to be chosen or found again by it.
fn networks(config: &RunConfig) -> Result<Networks, Failure> {
    let RunConfig {
        model: config,
        target,
        adapt,
        ..
    } = config;
    let source = config
        .bundle
        .clone()
        .map_or(ModelSource::BuiltIn, ModelSource::Folder);
    let threads = config.threads.into();
    let bundle = Bundle::read(&source, config.precision)?;
    let (model, adapter) = bundle.adaptive_follower(threads, adapt.as_ref())?;
    let Model {
        manifest, network, ..
    } = model;
    let proposer = match (target.auto, target.refinds()) {
        (true, _) => Some(bundle.proposer_or_refuse(threads)?),
        (false, true) => bundle.proposer(threads)?,
        (false, false) => None,
    };
    let name = format!("{} {}", manifest.name, manifest.version);
    if target.refinds() && proposer.is_none() {
        log::warn!("model {name} proposes nobody: a lost target is not looked for by that");
    }
    log::info!("model {name} verified");
    let refused = |e: ContractError| Failure::Usage(format!("model {name}: {e}"));
    let finder = proposer.map(|p| Finder::new(p.network, p.contract));
    let finder = finder.transpose().map_err(refused)?;
    let again_after_seconds = target.auto_again_seconds as f32;
    let eyes = finder.map(|finder| Eyes {
        refinder: Refinder::new(finder, RefindConfig::default()),
        refinds: target.refinds(),
        again_after_seconds: (again_after_seconds > 0.0).then_some(again_after_seconds),
    });
    let follower = Follower::new(network, manifest.follow, manifest.tracker).map_err(refused)?;
    let follower = follower.with_adapter(adapter);
    Ok(Networks {
        follower,
        eyes,
        familiarity: bundle.familiarity()?,
    })
}

/// Whom a configuration wants followed.
fn wanted(target: &TargetConfig) -> Option<Target> {
    match target.auto {
        true => Some(Target::Auto),
        false => target.initial().map(Target::Box),
    }
}

fn opener(config: &CameraConfig, dump: Option<Dump>) -> Result<Box<dyn Opener>, Failure> {
    let plain: Box<dyn Opener> = if let Some(replay) = &config.replay {
        Box::new(Replay::new(replay.clone()))
    } else if let Some(rendered) = &config.rendered {
        Box::new(Rendered::new(*rendered))
    } else if let Some(config) = config.webcam {
        webcam(config)?
    } else {
        v4l2(config)?
    };
    let failing: Box<dyn Opener> = if config.faults.every_frames > 0 {
        Box::new(Faulty::new(plain, config.faults.clone()))
    } else {
        plain
    };
    Ok(match dump {
        Some(dump) => Box::new(Dumping::new(failing, dump)),
        None => failing,
    })
}

#[cfg(feature = "camera")]
fn v4l2(config: &CameraConfig) -> Result<Box<dyn Opener>, Failure> {
    let config = config.v4l2.clone().unwrap_or_default();
    Ok(Box::new(crate::capture::v4l2::V4l2::new(config)))
}

#[cfg(not(feature = "camera"))]
fn v4l2(_: &CameraConfig) -> Result<Box<dyn Opener>, Failure> {
    Err(Failure::Usage(
        "camera.v4l2: this program was built without the feature `camera`".into(),
    ))
}

#[cfg(feature = "webcam")]
fn webcam(config: WebcamConfig) -> Result<Box<dyn Opener>, Failure> {
    Ok(Box::new(crate::capture::webcam::Webcam::new(config)))
}

#[cfg(not(feature = "webcam"))]
fn webcam(_: WebcamConfig) -> Result<Box<dyn Opener>, Failure> {
    Err(Failure::Usage(
        "camera.webcam: this program was built without the feature `webcam`".into(),
    ))
}

impl Opener for Box<dyn Opener> {
    fn open(&mut self) -> Result<Box<dyn LiveSource>, crate::capture::CaptureError> {
        (**self).open()
    }

    fn name(&self) -> String {
        (**self).name()
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|e| Failure::Usage(format!("no thread for {name}: {e}")))
}

impl Program {
    fn start(config: RunConfig, secrets: Secrets) -> Result<Self, Failure> {
        let shared = Arc::new(Shared::default());
        let now = clock::monotonic().0;
        shared.tracking_alive_at.store(now, Relaxed);
        let Networks {
            follower,
            eyes,
            familiarity,
        } = networks(&config)?;
        let stage =
            Stage::new(follower, eyes, wanted(&config.target)).with_familiarity(familiarity);
        *shared.sinks() = sinks(&config.sinks);
        *shared.recorder() = recorder(config.recording.as_ref())?;
        let (tell, told) = sync_channel(COMMANDS);
        let tracking = spawn("tracking", {
            let shared = Arc::clone(&shared);
            move || track(stage, &shared, &told)
        })?;
        let mut program = Self {
            capture: None,
            tracking: Some(tracking),
            metrics_due: Instant::now(),
            tell,
            shared,
            config,
            secrets,
            dump: None,
            before: None,
            captured_before: 0,
            preview: None,
            accelerometer: None,
        };
        program.start_accelerometer()?;
        program.start_preview().map_err(Failure::Usage)?;
        program.start_capture()?;
        Ok(program)
    }

    fn start_accelerometer(&mut self) -> Result<(), Failure> {
        self.accelerometer = None;
        let Some(config) = self.config.manoeuvre.clone() else {
            return Ok(());
        };
        let tell = self.tell.clone();
        // Where sixteen commands wait the tracker hangs, which the watchdog sees to.
        let hard = move || drop(tell.try_send(Told::Do(Command::Manoeuvre)));
        let sensor = Sensor::start(config, hard)
            .map_err(|e| Failure::Usage(format!("no thread for the accelerometer: {e}")))?;
        self.accelerometer = Some(sensor);
        Ok(())
    }

    fn start_preview(&mut self) -> Result<(), String> {
        // Its port is free only once the old one is gone.
        self.preview = None;
        self.shared
            .shows
            .store(self.config.preview.is_some(), Relaxed);
        let Some(config) = &self.config.preview else {
            self.shared.seen.forget();
            return Ok(());
        };
        let desk = Desk {
            shared: Arc::clone(&self.shared),
            tell: self.tell.clone(),
        };
        let started = preview::server::Server::start(config, Arc::new(desk));
        self.preview = Some(started.map_err(|e| format!("preview: {e}"))?);
        Ok(())
    }

    fn start_capture(&mut self) -> Result<(), Failure> {
        let dump = self.config.camera.dump.as_deref();
        // Another one would write over what is there.
        if self.dump.as_ref().map(Dump::path) != dump {
            self.dump = dump.map(|path| Dump::new(path.into()));
        }
        let mut opener = opener(&self.config.camera, self.dump.clone())?;
        let retry = self.config.camera.retry;
        let stop = Arc::new(AtomicBool::new(false));
        let waits = |c: &CameraConfig| {
            c.replay.as_ref().is_some_and(|replay| replay.lockstep)
                || c.rendered.is_some_and(|rendered| rendered.lockstep)
        };
        let shared = Arc::clone(&self.shared);
        shared.waits.store(waits(&self.config.camera), Relaxed);
        shared.over.store(false, Relaxed);
        shared.capture.alive_at.store(clock::monotonic().0, Relaxed);
        self.captured_before = shared.capture.captured.load(Relaxed);
        let stopped = Arc::clone(&stop);
        let recorder = shared.recorder().clone();
        let buffers = BUFFERS
            + recorder.as_ref().map_or(0, |_| record::QUEUE + 1)
            + self
                .config
                .preview
                .as_ref()
                .map_or(0, |_: &PreviewConfig| preview::BUFFERS);
        let thread = spawn("capture", move || {
            let end = capture(
                &mut *opener,
                retry,
                buffers,
                &shared.place,
                &shared.capture,
                &stopped,
                &|captured| {
                    if let Some(recorder) = &recorder {
                        recorder.frame(captured);
                    }
                },
            );
            shared.capture.is_open.store(false, Relaxed);
            end
        })?;
        self.capture = Some(CaptureThread { stop, thread });
        Ok(())
    }

    /// Looks after the stages until there is a reason to end.
    fn watch(
        &mut self,
        options: &RunOptions,
        signals: &Signals,
        notify: &Notify,
    ) -> Result<(), Failure> {
        let mut alive_due = Instant::now();
        let mut status_due = Instant::now();
        loop {
            if signals.stop.load(Relaxed) {
                log::info!("stopping");
                return Ok(());
            }
            if signals.reload.swap(false, Relaxed) {
                notify.reloading();
                self.reload(options)?;
                notify.ready();
            }
            if let Some(end) = self.capture_ended() {
                match end? {
                    End::Over => self.shared.over.store(true, Relaxed),
                    End::Stopped => {}
                    End::Gone { device, cause } => {
                        let cause = cause.name();
                        self.go_back_after(Failure::CameraGone { device, cause })?;
                    }
                    End::Failed(error) => self.go_back_after(error.into())?,
                }
            }
            if let Some(tracking) = self.tracking.take_if(|thread| thread.is_finished()) {
                // The last frame of a recording is done, or should have been.
                return of_thread("tracking", tracking.join());
            }
            self.forget_before();
            self.check_stages()?;
            let now = Instant::now();
            if let Some(every) = notify.watchdog_every()
                && now >= alive_due
            {
                notify.alive();
                alive_due = now + every;
            }
            if now >= status_due {
                let figures = self.shared.stats.figures();
                notify.status(&format!(
                    "{} frames tracked, {:.1} fps, latency {:.0} ms",
                    figures.tracked, figures.fps, figures.latency_p50_ms
                ));
                status_due = now + Duration::from_secs(5);
            }
            self.write_metrics();
            std::thread::sleep(ROUND);
        }
    }

    fn capture_ended(&mut self) -> Option<Result<End, Failure>> {
        if !self.capture.as_ref()?.thread.is_finished() {
            return None;
        }
        let end = self.capture.take()?.thread.join();
        Some(of_thread("capture", end))
    }

    /// Forgets the camera of before once the one that runs has delivered a frame.
    fn forget_before(&mut self) {
        if self.shared.capture.captured.load(Relaxed) > self.captured_before {
            self.before = None;
        }
    }

    /// Starts the camera of before the last reload again, where the one of that reload fails without a single frame.
    ///
    /// # Errors
    /// The failure, where there is nothing to go back to.
    fn go_back_after(&mut self, failure: Failure) -> Result<(), Failure> {
        self.forget_before();
        let Some(Before { camera, dump }) = self.before.take() else {
            return Err(failure);
        };
        log::error!("{}; going on with the camera of before", failure.line());
        (self.config.camera, self.dump) = (camera, dump);
        self.start_capture()
    }

    fn check_stages(&self) -> Result<(), Failure> {
        let now = clock::monotonic();
        let limit = self.config.watchdog.stage_silent_seconds;
        let mut stages = vec![("tracking", &self.shared.tracking_alive_at)];
        if self.capture.is_some() {
            stages.push(("capture", &self.shared.capture.alive_at));
        }
        for (stage, alive_at) in stages {
            let silent = now.0.saturating_sub(alive_at.load(Relaxed)) / 1_000_000;
            if silent >= u64::from(limit) {
                return Err(Failure::Stalled {
                    stage,
                    seconds: silent,
                });
            }
        }
        Ok(())
    }

    /// Reads the configuration again and restarts what changed. A file with a mistake changes nothing.
    fn reload(&mut self, options: &RunOptions) -> Result<(), Failure> {
        let (new, secrets) = match read(options) {
            Ok(read) => read,
            Err(e) => {
                log::error!("{}; going on as before", e.line());
                return Ok(());
            }
        };
        // What finds road users is part of the model, and comes and goes with what is wanted of it.
        let finds =
            |target: &TargetConfig| (target.auto, target.refinds(), target.auto_again_seconds);
        let as_before = finds(&new.target) == finds(&self.config.target);
        let adapts = new.adapt != self.config.adapt;
        if new.model != self.config.model || adapts || !as_before {
            match networks(&new) {
                Ok(networks) => {
                    let _ = self.tell.try_send(Told::Networks(Box::new(networks)));
                }
                Err(e) => {
                    log::error!("{}; going on as before", e.line());
                    return Ok(());
                }
            }
        }
        let old = std::mem::replace(&mut self.config, new);
        let old_secrets = std::mem::replace(&mut self.secrets, secrets);
        if old.sinks != self.config.sinks || old_secrets.password != self.secrets.password {
            let mut leaving = std::mem::take(&mut *self.shared.sinks());
            finish_all(&mut leaving, LAST_WORDS);
            *self.shared.sinks() = sinks(&self.config.sinks);
        }
        if old.manoeuvre != self.config.manoeuvre {
            self.start_accelerometer()?;
        }
        if old.preview != self.config.preview || old_secrets.token != self.secrets.token {
            self.change_preview(&old);
        }
        let shows = |config: &RunConfig| config.preview.is_some();
        let (camera, recording) = (
            old.camera != self.config.camera,
            old.recording != self.config.recording,
        );
        // Frames are held by whoever records or shows, so the number of buffers goes with them.
        if camera || recording || shows(&old) != shows(&self.config) {
            self.stop_capture()?;
            if recording {
                self.change_recording(&old);
            }
            self.forget_before();
            if camera && self.before.is_none() {
                self.before = Some(Before {
                    camera: old.camera,
                    dump: self.dump.clone(),
                });
            }
            if let Err(e) = self.start_capture() {
                self.go_back_after(e)?;
            }
        }
        if old.target != self.config.target {
            let command = match wanted(&self.config.target) {
                Some(target) => Command::Follow {
                    target,
                    frame: None,
                },
                None => Command::Stop,
            };
            let _ = self.tell.try_send(Told::Do(command));
        }
        log::info!("{}: read again", options.config.display());
        Ok(())
    }

    /// Starts the page anew; the one of before where that fails.
    fn change_preview(&mut self, old: &RunConfig) {
        let Err(e) = self.start_preview() else {
            return;
        };
        log::error!("{e}; going on as before");
        // Asked for again by the next reload.
        self.config.preview.clone_from(&old.preview);
        if let Err(e) = self.start_preview() {
            log::error!("{e}; no preview");
            self.config.preview = None;
        }
    }

    /// Ends the recording and begins another; the one of before where that fails. Both at once could be in one folder.
    fn change_recording(&mut self, old: &RunConfig) {
        self.finish_recording();
        let begun = recorder(self.config.recording.as_ref()).or_else(|e| {
            log::error!("{}; going on as before", e.line());
            // Asked for again by the next reload.
            self.config.recording.clone_from(&old.recording);
            recorder(self.config.recording.as_ref())
        });
        *self.shared.recorder() = begun.unwrap_or_else(|e| {
            log::error!("{}; not recording", e.line());
            self.config.recording = None;
            None
        });
    }

    fn stop_capture(&mut self) -> Result<(), Failure> {
        let Some(CaptureThread { stop, thread }) = self.capture.take() else {
            return Ok(());
        };
        stop.store(true, Relaxed);
        let seconds = u64::from(self.config.watchdog.stage_silent_seconds);
        let end = Instant::now() + Duration::from_secs(seconds);
        while !thread.is_finished() {
            if Instant::now() >= end {
                return Err(Failure::Stalled {
                    stage: "capture",
                    seconds,
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = thread.join();
        Ok(())
    }

    fn write_metrics(&mut self) {
        let Some(metrics) = &self.config.metrics else {
            return;
        };
        if Instant::now() < self.metrics_due {
            return;
        }
        self.metrics_due = Instant::now() + Duration::from_secs(metrics.every_seconds.into());
        if let Err(e) = roadhound_host::whole::write(&metrics.textfile, self.shared.prometheus()) {
            log::warn!("{}: {e}", metrics.textfile.display());
        }
    }

    /// Ends everything in the order of the pictures. What hangs is left behind.
    fn finish(&mut self) -> Result<(), Failure> {
        drop(self.preview.take());
        drop(self.accelerometer.take());
        let captured = self.stop_capture();
        self.shared.stop_tracking.store(true, Relaxed);
        self.shared.place.wake();
        let end = Instant::now() + LAST_WORDS;
        while self.tracking.as_ref().is_some_and(|t| !t.is_finished()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        // They stay where they are: the last figures are theirs too.
        finish_all(&mut self.shared.sinks(), LAST_WORDS);
        self.metrics_due = Instant::now();
        self.write_metrics();
        self.finish_recording();
        captured
    }

    fn finish_recording(&self) {
        let recorder = self.shared.recorder().take();
        if let Some(recorder) = recorder {
            recorder.finish(LAST_PICTURES);
        }
    }
}

/// What a thread came to.
///
/// # Errors
/// It panicked, in a driver's binding for instance, and nobody can go on from there.
fn of_thread<T>(stage: &'static str, ended: std::thread::Result<T>) -> Result<T, Failure> {
    ended.map_err(|_| Failure::Panicked { stage })
}

fn recorder(config: Option<&RecordingConfig>) -> Result<Option<Recorder>, Failure> {
    let Some(config) = config else {
        return Ok(None);
    };
    Recorder::start(config.clone())
        .map(Some)
        .map_err(|e| Failure::Usage(format!("recording: {e}")))
}

fn sinks(config: &SinksConfig) -> Vec<Queue> {
    let mut queues = Vec::new();
    if let Some(lines) = config.jsonl.clone() {
        queues.push(Queue::start("jsonl", lines.queue.into(), move || {
            Ok(Box::new(JsonLines::open(&lines.path)?))
        }));
    }
    if let Some(lines) = config.csv.clone() {
        queues.push(Queue::start("csv", lines.queue.into(), move || {
            Ok(Box::new(CsvLines::open(&lines.path)?))
        }));
    }
    if let Some(udp) = config.udp.clone() {
        queues.push(Queue::start("udp", udp.queue.into(), move || {
            Ok(Box::new(Datagrams::open(udp.to)?))
        }));
    }
    #[cfg(feature = "mqtt")]
    if let Some(mqtt) = config.mqtt.clone() {
        queues.push(Queue::start("mqtt", mqtt.queue.into(), move || {
            Ok(Box::new(crate::sink::live::mqtt::Messages::open(&mqtt)?))
        }));
    }
    queues
}

/// The thread that tracks.
fn track(mut stage: Stage<TractNetwork>, shared: &Shared, told: &Receiver<Told>) {
    shared.can_choose.store(stage.can_choose(), Relaxed);
    while !shared.stop_tracking.load(Relaxed) {
        let alive_at = clock::monotonic();
        shared.tracking_alive_at.store(alive_at.0, Relaxed);
        while let Ok(told) = told.try_recv() {
            match told {
                Told::Do(command) => stage.command(command),
                Told::Networks(networks) => {
                    let Networks {
                        follower,
                        eyes,
                        familiarity,
                    } = *networks;
                    stage.replace(follower, eyes, familiarity);
                    shared.can_choose.store(stage.can_choose(), Relaxed);
                }
            }
        }
        let taken = shared.place.take(SILENCE);
        let event = match &taken {
            Some(captured) => {
                let taken_at = clock::monotonic();
                let mut event = stage.on_frame(captured);
                event.track_micros = clock::monotonic().micros_since(taken_at);
                event.latency_micros = shared.frames_now().micros_since(captured.frame.captured_at);
                Some(event)
            }
            None if shared.over.load(Relaxed) && shared.place.is_empty() => return,
            None if shared.waits.load(Relaxed) => None,
            None => stage.on_silence(shared.frames_now()),
        };
        if let Some(complaint) = stage.take_complaint() {
            log::warn!("{complaint}");
        }
        if event.is_some_and(|e| e.familiarity.is_some_and(|looked| looked.is_new)) {
            log::warn!(
                "the camera shows nothing like what was learned: is the lens covered, dirty or blinded?"
            );
        }
        if let Some(event) = event {
            shared.stats.record(&event, stage.undecodable());
            shared.sinks().iter().for_each(|queue| queue.offer(&event));
            if let Some(captured) = taken.as_ref().filter(|_| shared.shows.load(Relaxed)) {
                shared.seen.tracked(captured, &event);
            }
            if let Some(recorder) = &*shared.recorder() {
                recorder.event(&event);
            }
        }
        if let Some(captured) = &taken {
            stage.look_around(captured);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::*;

    #[test]
    fn a_thread_that_panics_ends_the_program_with_status_5_and_one_that_ends_does_not() {
        let ended = std::thread::spawn(|| End::Over).join();
        assert!(matches!(of_thread("capture", ended), Ok(End::Over)));
        let ended = std::thread::spawn(|| -> End { panic!("in a driver, on purpose") }).join();
        let Err(failure) = of_thread("capture", ended) else {
            panic!("a panic is no end");
        };
        assert_eq!(failure.status(), ExitCode::from(5));
        assert!(failure.line().starts_with("capture: ended by a panic"));
    }
}
