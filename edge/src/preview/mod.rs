//! A page served by the board: the live picture with its box, figures, and a way to say what to follow.
//!
//! Enters: what the thread that tracks has just looked at ([`Seen::tracked`], which never waits), requests of browsers.
//! Leaves: JPEGs, JSON, [`Command`]s. A picture is encoded only when somebody asks for it, at most `fps` times a second,
//! and once for all who ask.
//!
//! | request | answer |
//! |---|---|
//! | `GET /`, `/page.js`, `/page.css` | the page; nothing secret is in it |
//! | `GET /live.jpg?after=N` | the newest tracked picture with its [`Line`](crate::run::event::Line) in `X-Track`; 204 where it is N |
//! | `GET /state`, `/metrics` | figures as JSON; everything, as Prometheus reads it |
//! | `POST /hold {"frame": N}` | keeps picture N until something is followed in it: people take a while to draw a box |
//! | `POST /follow {"box": [x, y, w, h], "frame": N}` | follows what is in the box, from picture N on |
//! | `POST /follow {"point": [x, y], "frame": N}` | the same for what is at this point: the network says where it ends |
//! | `POST /choose {}` | follows whom a driver would watch, where the model in use can say who that is |
//! | `POST /stop {}`, `/mark {}` | follows nothing; keeps the moment |
//!
//! **Who may.** On a loopback address everybody on the board; on any other, whoever knows the token, which travels in
//! `Authorization: Bearer` and is compared in constant time. Requests that another site's page could make a browser send
//! are refused: a POST has to be `application/json`, which needs a permission that is never given, and without a token the
//! `Host` has to be the board itself.
//!
//! [`answer`] is pure but for the picture's encoder; sockets and limits are in [`server`].

pub mod server;
pub mod stand_in;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use roadhound_host::line::joined;
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use serde::{Deserialize, Serialize};

use crate::capture::stage::Captured;
use crate::config::read_text;
use crate::record::encode::Jpegs;
use crate::run::event::TrackEvent;
use crate::run::stats::Figures;
use crate::run::tracking::{Command, Target};

/// Pictures that were shown and may be pointed at.
const SHOWN: usize = 3;
/// Buffers of frames that are held here: the newest, those that were shown, and one that is pointed at.
pub const BUFFERS: usize = SHOWN + 2;
/// No token is shorter.
const LEAST_TOKEN: usize = 16;
/// No file with a token is longer.
const MOST_TOKEN_FILE: u64 = 4096;
/// No command is longer.
pub const MOST_BODY: usize = 1024;

/// Who may look, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewConfig {
    /// Address and port. One that others can reach needs a token.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// File whose first line is the token, 16 characters or more.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Most pictures a second.
    #[serde(default = "ten")]
    pub fps: f64,
    /// Quality of JPEGs that the camera does not make itself, 1 to 100.
    #[serde(default = "seventy")]
    pub quality: u8,
    /// Connections at once; more are closed.
    #[serde(default = "sixteen")]
    pub connections: u16,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn ten() -> f64 {
    10.0
}

fn seventy() -> u8 {
    70
}

fn sixteen() -> u16 {
    16
}

/// A secret that is compared and never shown.
pub struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(...)")
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Token {
    /// Reads the first line of a file.
    ///
    /// # Errors
    /// A file that cannot be read, or a token that is too short.
    pub fn read(path: &Path) -> Result<Self, String> {
        let at = |e: String| format!("{}: {e}", path.display());
        let text = read_text(path, MOST_TOKEN_FILE).map_err(|e| at(e.to_string()))?;
        Self::parse(&text).map_err(at)
    }

    /// The first line of a text.
    ///
    /// # Errors
    /// A token that is too short.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() < LEAST_TOKEN {
            return Err(format!(
                "a token of {} characters, at least {LEAST_TOKEN} are needed",
                token.len()
            ));
        }
        Ok(Self(token.as_bytes().to_vec()))
    }

    /// Whether this is it. Takes the same time wherever the first difference is; its length is no secret.
    fn is(&self, offered: &[u8]) -> bool {
        let differences = self
            .0
            .iter()
            .zip(offered)
            .fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
        differences == 0 && self.0.len() == offered.len()
    }
}

/// What may be looked at.
#[derive(Default)]
pub struct Seen(Mutex<Pictures>);

#[derive(Default)]
struct Pictures {
    newest: Option<(Captured, TrackEvent)>,
    shown: VecDeque<Captured>,
    held: Option<Captured>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Pictures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was just looked at.
    pub fn tracked(&self, captured: &Captured, event: &TrackEvent) {
        self.lock().newest = Some((captured.clone(), *event));
    }

    /// Lets every picture go.
    pub fn forget(&self) {
        *self.lock() = Pictures::default();
    }

    fn find(&self, number: u64) -> Option<Captured> {
        let pictures = self.lock();
        let all = pictures.held.iter().chain(&pictures.shown);
        all.into_iter()
            .find(|captured| captured.number == number)
            .cloned()
    }
}

/// A request, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// `GET`, `POST`.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Behind the question mark.
    pub query: &'a str,
    /// `Host`.
    pub host: &'a str,
    /// `Authorization`.
    pub authorization: &'a [u8],
    /// `Content-Type`.
    pub content_type: &'a str,
    /// At most [`MOST_BODY`] bytes.
    pub body: &'a [u8],
}

/// What is sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `X-Track`.
    pub track: Option<String>,
    /// The rest.
    pub body: Vec<u8>,
}

impl Answer {
    fn of(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            content_type,
            track: None,
            body: body.into(),
        }
    }

    fn refused(status: u16, why: &str) -> Self {
        Self {
            status,
            ..Self::of("text/plain; charset=utf-8", format!("{why}\n"))
        }
    }
}

/// What the page asks for and the rest of the program knows.
pub trait Board: Send + Sync {
    /// What may be looked at.
    fn seen(&self) -> &Seen;
    /// Figures for people.
    fn figures(&self) -> Figures;
    /// Whether the camera is open.
    fn camera_is_open(&self) -> bool;
    /// Everything, as Prometheus reads it.
    fn prometheus(&self) -> String;
    /// Whether it can find somebody to follow by itself.
    fn can_choose(&self) -> bool;
    /// Hands a command over; `false` where too many wait.
    fn command(&self, command: Command) -> bool;
}

/// The newest picture as a JPEG, for all who ask.
pub struct Live {
    jpegs: Jpegs,
    least_micros: u64,
    encoded_at: Timestamp,
    number: Option<u64>,
    jpeg: Vec<u8>,
    track: String,
}

impl Live {
    /// No picture yet.
    pub fn new(config: &PreviewConfig) -> Self {
        Self {
            jpegs: Jpegs::new(config.quality),
            least_micros: (1e6 / config.fps) as u64,
            encoded_at: Timestamp(0),
            number: None,
            jpeg: Vec::new(),
            track: String::new(),
        }
    }

    fn update(&mut self, seen: &Seen, now: Timestamp) -> Result<(), String> {
        if self.number.is_some() && now.micros_since(self.encoded_at) < self.least_micros {
            return Ok(());
        }
        let Some((captured, event)) = seen.lock().newest.clone() else {
            return Err("no picture yet".into());
        };
        if self.number == Some(captured.number) {
            return Ok(());
        }
        self.encoded_at = now;
        let jpeg = self.jpegs.of(&captured.frame)?;
        self.jpeg.clear();
        self.jpeg.extend_from_slice(jpeg);
        self.track = serde_json::to_string(&event.line()).map_err(|e| e.to_string())?;
        self.number = Some(captured.number);
        let mut pictures = seen.lock();
        pictures.shown.push_back(captured);
        while pictures.shown.len() > SHOWN {
            pictures.shown.pop_front();
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    frame: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    #[serde(default)]
    r#box: Option<[f32; 4]>,
    #[serde(default)]
    point: Option<[f32; 2]>,
    frame: u64,
}

impl Follow {
    fn target(&self) -> Result<Target, &'static str> {
        match (self.r#box, self.point) {
            (Some([x, y, w, h]), None) => {
                let box_in_image = BoxXywh::new(x, y, w, h);
                if box_in_image.is_proper() {
                    Ok(Target::Box(box_in_image))
                } else {
                    Err("expected [x, y, w, h] with an area")
                }
            }
            (None, Some([x_px, y_px])) if x_px.is_finite() && y_px.is_finite() => {
                Ok(Target::Point { x_px, y_px })
            }
            _ => Err("expected either a box or a point"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize)]
struct State {
    camera_open: bool,
    can_choose: bool,
    #[serde(flatten)]
    figures: Figures,
}

/// Whether a `Host` is this machine, whatever the port.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(six) => six.parse().map(IpAddr::V6),
        None => name.parse().map(IpAddr::V4),
    };
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Answers a request at a time.
pub fn answer(
    request: &Request<'_>,
    token: Option<&Token>,
    board: &dyn Board,
    live: &mut Live,
    now: Timestamp,
) -> Answer {
    match (request.method, request.path) {
        ("GET", "/") => return Answer::of("text/html; charset=utf-8", include_str!("page.html")),
        ("GET", "/page.js") => {
            return Answer::of("text/javascript; charset=utf-8", include_str!("page.js"));
        }
        ("GET", "/page.css") => {
            return Answer::of("text/css; charset=utf-8", include_str!("page.css"));
        }
        _ => {}
    }
    match token {
        Some(token) => {
            let offered = request
                .authorization
                .strip_prefix(b"Bearer ")
                .unwrap_or_default();
            if !token.is(offered) {
                return Answer::refused(401, "a token is needed");
            }
        }
        None if !is_loopback(request.host) => {
            return Answer::refused(403, "asked for as another machine");
        }
        None => {}
    }
    match (request.method, request.path) {
        ("GET", "/live.jpg") => live_picture(request, board, live, now),
        ("GET", "/state") => {
            let state = State {
                camera_open: board.camera_is_open(),
                can_choose: board.can_choose(),
                figures: board.figures(),
            };
            Answer::of(
                "application/json",
                serde_json::to_vec(&state).unwrap_or_default(),
            )
        }
        ("GET", "/metrics") => Answer::of(
            "text/plain; version=0.0.4; charset=utf-8",
            board.prometheus(),
        ),
        ("POST", "/hold" | "/follow" | "/choose" | "/stop" | "/mark") => {
            if request.content_type.split(';').next().map(str::trim) != Some("application/json") {
                return Answer::refused(415, "commands are application/json");
            }
            match command(request, board) {
                Ok(()) => Answer {
                    status: 204,
                    ..Answer::of("text/plain; charset=utf-8", "")
                },
                Err((status, why)) => Answer::refused(status, &why),
            }
        }
        (
            _,
            "/" | "/page.js" | "/page.css" | "/live.jpg" | "/state" | "/metrics" | "/hold"
            | "/follow" | "/choose" | "/stop" | "/mark",
        ) => Answer::refused(405, "not that way"),
        _ => Answer::refused(404, "nothing here"),
    }
}

fn live_picture(
    request: &Request<'_>,
    board: &dyn Board,
    live: &mut Live,
    now: Timestamp,
) -> Answer {
    if let Err(why) = live.update(board.seen(), now) {
        return Answer::refused(503, &why);
    }
    let after = request
        .query
        .split('&')
        .find_map(|pair| pair.strip_prefix("after=")?.parse().ok());
    if after.is_some() && after == live.number {
        return Answer {
            status: 204,
            ..Answer::of("image/jpeg", "")
        };
    }
    Answer {
        track: Some(live.track.clone()),
        ..Answer::of("image/jpeg", live.jpeg.clone())
    }
}

fn command(request: &Request<'_>, board: &dyn Board) -> Result<(), (u16, String)> {
    fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, (u16, String)> {
        // A key that is quoted may have a line break.
        serde_json::from_slice(body).map_err(|e| (400, joined(&e.to_string())))
    }
    let gone = || (410, "that picture is gone: take a newer one".to_owned());
    let seen = board.seen();
    let command = match request.path {
        "/hold" => {
            let hold: Hold = read(request.body)?;
            let held = seen.find(hold.frame).ok_or_else(gone)?;
            seen.lock().held = Some(held);
            return Ok(());
        }
        "/follow" => {
            let follow: Follow = read(request.body)?;
            let target = follow.target().map_err(|why| (400, why.to_owned()))?;
            let captured = seen.find(follow.frame).ok_or_else(gone)?;
            seen.lock().held = None;
            Command::Follow {
                target,
                frame: Some(captured.frame),
            }
        }
        "/choose" => {
            let Nothing {} = read(request.body)?;
            if !board.can_choose() {
                let why = "nobody here can choose: target.refind or target.auto is needed, and a model that proposes";
                return Err((409, why.into()));
            }
            Command::Follow {
                target: Target::Auto,
                frame: None,
            }
        }
        "/stop" => {
            let Nothing {} = read(request.body)?;
            Command::Stop
        }
        _ => {
            let Nothing {} = read(request.body)?;
            Command::Mark
        }
    };
    if board.command(command) {
        Ok(())
    } else {
        Err((503, "too many commands wait".into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::stand_in::StandIn;
    use super::*;
    use crate::capture::Frame;
    use crate::run::event::testing::event;
    use proptest::prelude::*;
    use roadhound_shared::frame::PixelFormat;

    impl StandIn {
        fn sees(&self, number: u64) {
            let mut frame = Frame::default();
            frame.set_tight(PixelFormat::Grey8, 64, 48, &[&[100; 64 * 48]]);
            let captured = Captured {
                frame: Arc::new(frame),
                number,
            };
            self.seen.tracked(&captured, &event(number));
        }
    }

    struct Client {
        desk: StandIn,
        live: Live,
        token: Option<Token>,
        now: u64,
    }

    impl Client {
        fn new() -> Self {
            let config: PreviewConfig = toml::from_str("").unwrap();
            Self {
                desk: StandIn::default(),
                live: Live::new(&config),
                token: None,
                now: 0,
            }
        }

        fn ask(&mut self, request: Request<'_>) -> Answer {
            self.now += 1_000_000;
            answer(
                &request,
                self.token.as_ref(),
                &self.desk,
                &mut self.live,
                Timestamp(self.now),
            )
        }

        fn get(&mut self, path: &str, query: &str) -> Answer {
            self.ask(Request {
                method: "GET",
                path,
                query,
                host: "localhost:8080",
                ..Request::default()
            })
        }

        fn post(&mut self, path: &str, body: &str) -> Answer {
            self.ask(Request {
                method: "POST",
                path,
                body: body.as_bytes(),
                host: "127.0.0.1:8080",
                content_type: "application/json",
                ..Request::default()
            })
        }
    }

    #[test]
    fn a_picture_comes_with_its_box_and_only_where_it_is_new() {
        let mut client = Client::new();
        assert_eq!(client.get("/live.jpg", "").status, 503);
        client.desk.sees(7);
        let first = client.get("/live.jpg", "");
        assert_eq!((first.status, first.content_type), (200, "image/jpeg"));
        assert!(first.body.starts_with(&[0xff, 0xd8]));
        let track: serde_json::Value = serde_json::from_str(&first.track.unwrap()).unwrap();
        assert_eq!(
            (track["frame"].as_u64(), track["phase"].as_str()),
            (Some(7), Some("tracking"))
        );
        assert_eq!(client.get("/live.jpg", "after=7").status, 204);
        client.desk.sees(8);
        assert_eq!(client.get("/live.jpg", "after=7").status, 200);
    }

    #[test]
    fn pictures_are_encoded_no_more_often_than_configured() {
        let mut client = Client::new();
        client.desk.sees(1);
        client.get("/live.jpg", "");
        client.desk.sees(2);
        client.now -= 950_000;
        assert_eq!(client.get("/live.jpg", "after=1").status, 204);
        assert_eq!(client.get("/live.jpg", "after=1").status, 200);
    }

    #[test]
    fn what_is_drawn_on_a_picture_is_followed_from_that_picture_also_when_drawing_takes_long() {
        let mut client = Client::new();
        for number in 1..=9 {
            client.desk.sees(number);
            client.get("/live.jpg", "");
            if number == 2 {
                assert_eq!(client.post("/hold", "{\"frame\": 2}").status, 204);
            }
        }
        let follow = |frame: u64| format!("{{\"box\": [10, 12, 20, 16.5], \"frame\": {frame}}}");
        assert_eq!(client.post("/follow", &follow(1)).status, 410);
        assert_eq!(client.post("/follow", &follow(2)).status, 204);
        assert_eq!(client.post("/follow", &follow(8)).status, 204);
        // What was held is let go with the command.
        assert_eq!(client.post("/follow", &follow(2)).status, 410);
        let told = client.desk.take_told();
        assert!(
            matches!(&told[0], Command::Follow { target: Target::Box(b), frame: Some(_) } if b.h_px == 16.5)
        );
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn a_point_is_told_as_a_point_of_its_picture() {
        let mut client = Client::new();
        client.desk.sees(4);
        client.get("/live.jpg", "");
        assert_eq!(
            client
                .post("/follow", "{\"point\": [33.5, 7], \"frame\": 4}")
                .status,
            204
        );
        let told = client.desk.take_told();
        let expected = Target::Point {
            x_px: 33.5,
            y_px: 7.0,
        };
        assert!(
            matches!(&told[0], Command::Follow { target, frame: Some(_) } if *target == expected)
        );
    }

    #[test]
    fn the_board_chooses_by_itself_where_its_model_can() {
        let mut client = Client::new();
        assert_eq!(client.post("/choose", "{}").status, 204);
        let told = client.desk.take_told();
        let chooses = |told: &Command| {
            let target = Target::Auto;
            matches!(told, Command::Follow { target: t, frame: None } if *t == target)
        };
        assert!(told.len() == 1 && chooses(&told[0]), "{told:?}");
        client.desk = StandIn::blind();
        let refused = client.post("/choose", "{}");
        assert_eq!(refused.status, 409);
        assert!(client.desk.take_told().is_empty());
        let state: serde_json::Value =
            serde_json::from_slice(&client.get("/state", "").body).unwrap();
        assert_eq!(state["can_choose"], false);
    }

    #[test]
    fn commands_that_make_no_sense_are_refused() {
        let mut client = Client::new();
        client.desk.sees(1);
        client.get("/live.jpg", "");
        for (path, body, status) in [
            ("/follow", "", 400),
            ("/follow", "{\"box\": [1, 2, 3], \"frame\": 1}", 400),
            ("/follow", "{\"box\": [1, 2, -3, 4], \"frame\": 1}", 400),
            ("/follow", "{\"box\": [1, 2, 1e39, 4], \"frame\": 1}", 400),
            (
                "/follow",
                "{\"box\": [1, 2, 3, 4], \"frame\": 1, \"more\": 1}",
                400,
            ),
            ("/follow", "{\"frame\": 1}", 400),
            ("/stop", "{\"a\\nb\": 1}", 400),
            ("/follow", "{\"point\": [1e39, 2], \"frame\": 1}", 400),
            (
                "/follow",
                "{\"point\": [1, 2], \"box\": [1, 2, 3, 4], \"frame\": 1}",
                400,
            ),
            ("/stop", "{\"frame\": 1}", 400),
            ("/choose", "{\"frame\": 1}", 400),
            ("/hold", "{\"frame\": -1}", 400),
            ("/nothing", "{}", 404),
            ("/live.jpg", "{}", 405),
            ("/../etc/passwd", "{}", 404),
        ] {
            let answer = client.post(path, body);
            assert_eq!(answer.status, status, "{path} {body}");
            let lines = answer.body.iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(lines, 1, "{path} {body}");
        }
        assert!(client.desk.take_told().is_empty());
        assert_eq!(
            (
                client.post("/stop", "{}").status,
                client.post("/mark", "{}").status
            ),
            (204, 204)
        );
    }

    #[test]
    fn pages_of_other_sites_get_nothing() {
        let mut client = Client::new();
        client.desk.sees(1);
        // What a form of another site can send.
        let form = Request {
            method: "POST",
            path: "/stop",
            body: b"{}",
            host: "127.0.0.1:8080",
            content_type: "text/plain",
            ..Request::default()
        };
        assert_eq!(client.ask(form).status, 415);
        // A name of another site that has come to mean this machine.
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example:80",
        ] {
            let rebound = Request {
                method: "GET",
                path: "/state",
                host,
                ..Request::default()
            };
            assert_eq!(client.ask(rebound).status, 403, "{host}");
        }
    }

    /// A page may listen on any of them without a token.
    #[test]
    fn every_loopback_address_is_this_machine_and_no_other_is() {
        for (host, expected) in [
            ("localhost", true),
            ("127.0.0.1:8080", true),
            ("127.0.0.2:8080", true),
            ("127.255.255.254", true),
            ("[::1]:8080", true),
            ("[0:0::1]", true),
            ("128.0.0.1", false),
            ("[::2]:80", false),
            ("[127.0.0.1]", false),
            ("::1", false),
            ("127.1", false),
            ("[::1", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    #[test]
    fn without_the_token_there_is_only_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "short\n").unwrap();
        assert!(Token::read(&path).unwrap_err().contains("5 characters"));
        std::fs::write(&path, "0123456789abcdef\nmore").unwrap();
        let mut client = Client::new();
        client.token = Some(Token::read(&path).unwrap());
        assert_eq!(format!("{:?}", client.token), "Some(Token(...))");
        client.desk.sees(1);
        let mut with = |authorization: &[u8]| {
            client
                .ask(Request {
                    method: "GET",
                    path: "/state",
                    host: "board.local",
                    authorization,
                    ..Request::default()
                })
                .status
        };
        for wrong in [
            &b""[..],
            b"Bearer ",
            b"Bearer 0123456789abcde",
            b"Bearer 0123456789abcdeg",
            b"Bearer 0123456789abcdef0",
            b"0123456789abcdef",
        ] {
            assert_eq!(with(wrong), 401);
        }
        assert_eq!(with(b"Bearer 0123456789abcdef"), 200);
        assert_eq!(client.get("/", "").status, 200);
    }

    proptest! {
        #[test]
        fn any_request_has_an_answer(method in "GET|POST|PUT", path in "/(live.jpg|follow|hold|stop|\\PC{0,20})", query in "\\PC{0,30}", host in "\\PC{0,30}", body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut client = Client::new();
            client.desk.sees(1);
            let answer = client.ask(Request { method: &method, path: &path, query: &query, host: &host, content_type: "application/json", body: &body, ..Request::default() });
            prop_assert!((200..600).contains(&answer.status));
        }
    }
}
