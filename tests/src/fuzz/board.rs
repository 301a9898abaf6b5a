//! What a camera, a browser and a disk that lost its power can do to `roadhound run`.

use std::sync::Arc;

use roadhound_edge::capture::stage::Captured;
use roadhound_edge::capture::{Encoding, Frame};
use roadhound_edge::preview::server::respond;
use roadhound_edge::preview::stand_in::StandIn;
use roadhound_edge::preview::{Answer, Live, PreviewConfig, Request, Token, answer};
use roadhound_edge::record::avi::recover;
use roadhound_edge::record::encode::Jpegs;
use roadhound_edge::record::segments::Name;
use roadhound_edge::run::tracking::{Command, Stage, Target};
use roadhound_edge::source::{Options, open};
use roadhound_shared::follow::Follower;
use roadhound_shared::frame::{PixelFormat, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::tracker::{Phase, TrackerConfig};

use super::{Zeros, clip, contract, with_files};

/// The stage that tracks, around a network that sees nothing.
fn stage(initial: Option<BoxXywh>) -> Option<Stage<Zeros>> {
    let follower = Follower::new(Zeros, contract()?, TrackerConfig::default()).ok()?;
    Some(Stage::new(follower, None, initial.map(Target::Box)))
}

fn picture(number: u64) -> Captured {
    let mut frame = Frame::default();
    frame.set_tight(PixelFormat::Grey8, 24, 16, &[&[100; 24 * 16]]);
    frame.captured_at = Timestamp(number * 33_333);
    Captured {
        frame: Arc::new(frame),
        number,
    }
}

/// What the stage says about a box is a box, and lies where somebody can look.
fn look(stage: &mut Stage<Zeros>, captured: &Captured) {
    let event = stage.on_frame(captured);
    if let Some(b) = event.report.box_in_image {
        assert!(b.is_proper(), "{b:?}");
    }
    if let Some(complaint) = stage.take_complaint() {
        assert!(!complaint.contains('\n'), "{complaint}");
    }
    let line = serde_json::to_string(&event.line());
    assert!(line.is_ok_and(|line| !line.contains('\n')));
}

// ---- frames

/// Layout, size, row length and number of bytes as a driver may get them wrong: tracked and recorded, or refused.
pub(super) fn live_frame(data: &[u8]) {
    let Some((head, bytes)) = data.split_at_checked(8) else {
        return;
    };
    let number = |at: usize| u32::from(head[at]) | u32::from(head[at + 1]) << 8;
    let encoding = match head[0] % 6 {
        0 => Encoding::Raw(PixelFormat::Rgb8),
        1 => Encoding::Raw(PixelFormat::Bgr8),
        2 => Encoding::Raw(PixelFormat::Grey8),
        3 => Encoding::Raw(PixelFormat::Nv12),
        4 => Encoding::Mjpeg,
        _ => Encoding::Raw(PixelFormat::Yuyv),
    };
    let stride = number(6);
    let frame = Frame {
        encoding,
        width_px: number(2),
        height_px: number(4),
        // The last values stand for rows as long as memory.
        stride_bytes: if stride > 0xfff0 {
            usize::MAX - stride as usize
        } else {
            stride as usize
        },
        bytes: bytes.to_vec(),
        sequence: 1,
        captured_at: Timestamp(33_333),
    };
    let whole = frame.view();
    let jpeg = Jpegs::new(1 + head[1] % 100).of(&frame).map(<[u8]>::len);
    if let (Err(_), Encoding::Raw(_)) = (&whole, encoding) {
        assert!(jpeg.is_err(), "a picture of rows that are not there");
    }
    let Some(mut stage) = stage(Some(BoxXywh::new(2.0, 2.0, 8.0, 8.0))) else {
        return;
    };
    let (first, next) = (picture(0), picture(2));
    let bad = Captured {
        frame: Arc::new(frame),
        number: 1,
    };
    look(&mut stage, &first);
    look(&mut stage, &bad);
    look(&mut stage, &next);
}

pub(super) fn live_frame_seeds() -> Vec<Vec<u8>> {
    let seed = |kind: u8, width: u16, height: u16, stride: u16, bytes: &[u8]| {
        let mut seed = vec![kind, 79];
        for value in [width, height, stride] {
            seed.extend(value.to_le_bytes());
        }
        seed.extend_from_slice(bytes);
        seed
    };
    let pixels: Vec<u8> = (0..24 * 16 * 3).map(|n| (n * 7) as u8).collect();
    let (luma, yuyv) = (24 * 16, 24 * 16 * 2);
    vec![
        seed(0, 24, 16, 72, &pixels),
        seed(1, 16, 16, 64, &pixels),
        seed(2, 24, 16, 24, &pixels[..luma]),
        seed(3, 24, 16, 24, &pixels[..luma * 3 / 2]),
        seed(3, 22, 16, 24, &pixels[..luma * 3 / 2]),
        seed(5, 24, 16, 48, &pixels[..yuyv]),
        seed(5, 20, 16, 48, &pixels[..yuyv]),
        seed(5, 24, 16, 0xffff, &pixels[..yuyv]),
        seed(4, 64, 48, 0, &clip("one.jpg")),
    ]
}

// ---- the page

/// Somebody at the page of a board with pictures 1 and 2, of which the page has shown the second.
struct Client {
    desk: StandIn,
    live: Live,
    stage: Stage<Zeros>,
}

impl Client {
    fn new(accepts: bool) -> Option<Self> {
        let config: PreviewConfig = toml::from_str("").ok()?;
        let mut client = Self {
            desk: match accepts {
                true => StandIn::default(),
                false => StandIn::deaf(),
            },
            live: Live::new(&config),
            stage: stage(None)?,
        };
        for number in [1, 2] {
            let captured = picture(number);
            let event = client.stage.on_frame(&captured);
            client.desk.seen.tracked(&captured, &event);
        }
        client.send("GET", "/live.jpg", b"");
        Some(client)
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        let request = Request {
            method,
            path,
            host: "localhost",
            content_type: "application/json",
            body,
            ..Request::default()
        };
        answer(&request, None, &self.desk, &mut self.live, Timestamp(1))
    }

    /// What was understood is done as the thread that tracks would do it.
    fn obey(&mut self, told: Vec<Command>) {
        for command in told {
            self.stage.command(command);
        }
        look(&mut self.stage, &picture(3));
        look(&mut self.stage, &picture(4));
    }
}

/// The body of a command, to each that takes one: a box that was understood is followed or complained about.
pub(super) fn control(data: &[u8]) {
    let (kind, body) = data
        .split_first()
        .map_or((0, data), |(kind, body)| (*kind, body));
    let Some(mut client) = Client::new(kind & 0x80 == 0) else {
        return;
    };
    let path = ["/follow", "/hold", "/stop", "/mark", "/choose"][usize::from(kind) % 5];
    let answered = client.send("POST", path, body);
    assert!(
        matches!(answered.status, 204 | 400 | 410 | 503),
        "{path}: {}",
        answered.status
    );
    assert!(answered.body.iter().filter(|&&byte| byte == b'\n').count() <= 1);
    let told = client.desk.take_told();
    assert_eq!(told.len() == 1, answered.status == 204 && path != "/hold");
    client.obey(told);
    assert!(path == "/follow" || client.stage.last().report.phase == Phase::Idle);
}

pub(super) fn control_seeds() -> Vec<Vec<u8>> {
    [
        "\0{\"box\": [3, 2.5, 10, 8], \"frame\": 2}",
        "\0{\"box\": [1e30, -1e30, 1e38, 1e-38], \"frame\": 2}",
        "\0{\"frame\": 2, \"point\": [7.5, 3]}",
        "\u{1}{\"frame\": 2}",
        "\u{2}{}",
        "\u{3}{}",
        "\u{4}{}",
        "\u{5}{\"frame\": 18446744073709551615, \"box\": [0, 0, 1, 1]}",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// Whatever a client sends is not whole yet, or is answered; without the token nothing is done and nothing shown.
pub(super) fn http(data: &[u8]) {
    let Some(mut client) = Client::new(true) else {
        return;
    };
    let now = Timestamp(1);
    let open = respond(data, None, &client.desk, &mut client.live, now);
    if let Some(answered) = &open {
        assert!((200..600).contains(&answered.status));
        let track = answered.track.as_deref().unwrap_or_default();
        assert!(!track.contains(['\r', '\n']), "a header of two lines");
    }
    let told = client.desk.take_told();
    client.obey(told);
    let Ok(token) = Token::parse("a secret of some length") else {
        return;
    };
    let guarded = respond(data, Some(&token), &client.desk, &mut client.live, now);
    assert_eq!(open.is_some(), guarded.is_some());
    let told = client.desk.take_told().len();
    let knows = data.windows(6).any(|word| word == b"secret");
    assert!(knows || told == 0, "a command without the token");
    if let Some(answered) = guarded.filter(|_| !knows) {
        assert!(answered.track.is_none(), "a picture without the token");
    }
}

pub(super) fn http_seeds() -> Vec<Vec<u8>> {
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json; charset=utf-8\r\n\
             Authorization: Bearer a secret of some length\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /live.jpg?after=2&x=%20 HTTP/1.0\r\nHost: [::1]:8080\r\nAccept: */*\r\n\r\n".to_owned(),
        "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: a, b\r\n\r\n".to_owned(),
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        post("/follow", "{\"box\": [3, 2.5, 10, 8], \"frame\": 2}"),
        post("/hold", "{\"frame\": 2}"),
        post("/stop", "{}"),
        post("/mark", "{}"),
        post("/choose", "{}"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

// ---- what a power cut leaves

/// Any bytes as a segment: recovered to a file that opens and that recovering again leaves alone, or refused and untouched.
pub(super) fn recording(data: &[u8]) {
    if let Ok(stem) = std::str::from_utf8(&data[..data.len().min(64)])
        && let Some(name) = Name::parse(stem)
    {
        assert_eq!(name.stem(), stem);
    }
    with_files(&[("a.avi", data)], |folder| {
        let path = folder.join("a.avi");
        let read = || std::fs::read(&path).unwrap_or_default();
        let Ok(found) = recover(&path) else {
            assert_eq!(read(), data, "refused and changed");
            return;
        };
        let ended = read();
        let again = recover(&path);
        assert!(
            again.is_ok_and(|again| !again.was_cut && again.pictures == found.pictures),
            "{found:?}"
        );
        assert_eq!(read(), ended, "recovered twice");
        let _ = open(&path, &Options::default());
    });
}

pub(super) fn recording_seeds() -> Vec<Vec<u8>> {
    use roadhound_edge::record::avi::Writer;
    let jpeg = clip("one.jpg");
    let mut seeds = Vec::new();
    for finished in [false, true] {
        with_files(&[], |folder| {
            let path = folder.join("a.avi");
            let written = Writer::create(&path, 64, 48, 30.0).and_then(|mut avi| {
                for _ in 0..3 {
                    avi.push(&jpeg)?;
                }
                avi.so_far().write()?;
                if finished { avi.finish() } else { Ok(()) }
            });
            // A folder without room gives fewer seeds.
            if written.is_ok() {
                seeds.extend(std::fs::read(&path));
            }
        });
    }
    seeds.push(b"00000042-20231114-221320-event".to_vec());
    seeds
}
