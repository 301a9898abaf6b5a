//! Sockets for the page, with limits that keep a flood outside: the thread that tracks notices nothing of it.
//!
//! One thread accepts, and one a connection serves one request and closes. At most `connections` of them are there, the
//! rest is closed as it comes. A request has [`MOST_TIME`] to arrive, [`MOST_HEAD`] bytes for its head, [`MOST_BODY`] for
//! its body; the answer has [`MOST_TIME`] to be taken. Memory is therefore bounded, and so is the time for which anybody
//! can hold a place.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use roadhound_shared::frame::Timestamp;

use super::{Answer, Board, Live, MOST_BODY, PreviewConfig, Request, Token, answer};
use crate::clock;

/// For a request to arrive, and again for its answer to be taken.
pub const MOST_TIME: Duration = Duration::from_secs(5);
/// Bytes of the request line and all headers.
pub const MOST_HEAD: usize = 8192;
const MOST_HEADERS: usize = 64;
const TOO_LONG: &str = "the head is too long";
/// After an error of `accept`: no file descriptors left, as a rule.
const PAUSE: Duration = Duration::from_millis(100);
/// A JPEG encoder and a JSON parser need little.
const STACK_BYTES: usize = 256 << 10;
/// What an answer is sent in, between looks at the clock.
const PIECE: usize = 16 << 10;

/// A page that is served.
pub struct Server {
    address: SocketAddr,
    page: Arc<Page>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Page {
    token: Option<Token>,
    board: Arc<dyn Board>,
    live: Mutex<Live>,
    stop: AtomicBool,
    connections: AtomicUsize,
    most_connections: usize,
}

impl Server {
    /// Reads the token, binds the address and starts the thread.
    ///
    /// # Errors
    /// A token that cannot be read, an address that is taken, no thread: one line.
    pub fn start(config: &PreviewConfig, board: Arc<dyn Board>) -> Result<Self, String> {
        let token = config.token_file.as_deref().map(Token::read).transpose()?;
        let failed = |e: io::Error| format!("{}: {e}", config.listen);
        let listener = TcpListener::bind(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let page = Arc::new(Page {
            token,
            board,
            live: Mutex::new(Live::new(config)),
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            most_connections: config.connections.into(),
        });
        let served = Arc::clone(&page);
        let thread = std::thread::Builder::new()
            .name("preview".into())
            .stack_size(STACK_BYTES)
            .spawn(move || accept(&listener, &served))
            .map_err(failed)?;
        log::info!("preview: http://{address}/");
        Ok(Self {
            address,
            page,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.page.stop.store(true, SeqCst);
        // Wakes the thread, which waits for somebody to come.
        let woken = TcpStream::connect_timeout(&self.address, PAUSE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

/// A place among the connections, given back when it is dropped.
struct Place(Arc<Page>);

impl Place {
    fn take(page: &Arc<Page>) -> Option<Self> {
        let before = page.connections.fetch_add(1, SeqCst);
        let place = Self(Arc::clone(page));
        (before < page.most_connections).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, SeqCst);
    }
}

fn accept(listener: &TcpListener, page: &Arc<Page>) {
    while !page.stop.load(SeqCst) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) => {
                log::debug!("preview: {e}");
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let Some(place) = Place::take(page) else {
            // Dropped, and so closed.
            continue;
        };
        let spawned = std::thread::Builder::new()
            .name("preview-request".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Whoever is slow, rude or gone: nothing to say about it.
                let _ = serve(stream, &place.0);
            });
        if let Err(e) = spawned {
            log::debug!("preview: {e}");
            std::thread::sleep(PAUSE);
        }
    }
}

fn serve(mut stream: TcpStream, page: &Page) -> io::Result<()> {
    let answer = match read(&mut stream)? {
        Ok(arrived) => page.answer(&arrived.head, &arrived.body),
        Err((status, why)) => Answer::refused(status, why),
    };
    send(&mut stream, &answer)
}

/// A request that is there as a whole.
struct Arrived {
    head: Vec<u8>,
    body: Vec<u8>,
}

/// Status and reason of a request that is not answered.
type Refusal = (u16, &'static str);

/// Reads until a head and its body are there.
fn read(stream: &mut TcpStream) -> io::Result<Result<Arrived, Refusal>> {
    let end = Instant::now() + MOST_TIME;
    let mut bytes = Vec::with_capacity(1024);
    let mut body: Option<(usize, usize)> = None;
    loop {
        if body.is_none() {
            match body_of(&bytes) {
                Ok(found) => body = found,
                Err(refused) => return Ok(Err(refused)),
            }
            if body.is_none() && bytes.len() >= MOST_HEAD {
                return Ok(Err((431, TOO_LONG)));
            }
        }
        if let Some((from, length)) = body
            && bytes.len() >= from + length
        {
            let body = bytes[from..from + length].to_vec();
            bytes.truncate(from);
            return Ok(Ok(Arrived { head: bytes, body }));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err((408, "too slow")));
        }
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 1024];
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Where the body begins and how long it is; `None` while the head is not there as a whole.
fn body_of(bytes: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let from = match head.parse(bytes) {
        Ok(httparse::Status::Complete(from)) => from,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err((431, "too many headers")),
        Err(_) => return Err((400, "not HTTP")),
    };
    if find(head.headers, "transfer-encoding").is_some() {
        return Err((411, "a body needs its length"));
    }
    let mut lengths = head
        .headers
        .iter()
        .filter(|h| h.name.eq_ignore_ascii_case("content-length"));
    let length = match lengths.next() {
        None => 0,
        Some(header) => {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            text.parse()
                .map_err(|_| (400, "a length that is no number"))?
        }
    };
    // Two lengths, of which a proxy before us may believe the other.
    if lengths.next().is_some() {
        return Err((400, "two lengths"));
    }
    if length > MOST_BODY {
        return Err((413, "the body is too long"));
    }
    Ok(Some((from, length)))
}

fn find<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

impl Page {
    fn answer(&self, head: &[u8], body: &[u8]) -> Answer {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::monotonic();
        answer_whole(
            head,
            body,
            self.token.as_ref(),
            &*self.board,
            &mut live,
            now,
        )
    }
}

/// What becomes of the bytes that a client has sent so far: an answer, or `None` while the request is not whole. The sockets
/// above say the same; this is for tests and fuzzers.
pub fn respond(
    bytes: &[u8],
    token: Option<&Token>,
    board: &dyn Board,
    live: &mut Live,
    now: Timestamp,
) -> Option<Answer> {
    match body_of(bytes) {
        Ok(None) if bytes.len() >= MOST_HEAD => Some(Answer::refused(431, TOO_LONG)),
        Ok(None) => None,
        Ok(Some((from, length))) => {
            let body = bytes.get(from..from + length)?;
            Some(answer_whole(&bytes[..from], body, token, board, live, now))
        }
        Err((status, why)) => Some(Answer::refused(status, why)),
    }
}

fn answer_whole(
    head: &[u8],
    body: &[u8],
    token: Option<&Token>,
    board: &dyn Board,
    live: &mut Live,
    now: Timestamp,
) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    // Parsed before; the parser borrows, so it is cheaper to do it again than to copy.
    if parsed.parse(head).is_err() {
        return Answer::refused(400, "not HTTP");
    }
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = |name| {
        find(parsed.headers, name)
            .and_then(|value| std::str::from_utf8(value).ok())
            .unwrap_or_default()
    };
    let request = Request {
        method: parsed.method.unwrap_or_default(),
        path,
        query,
        host: text("host"),
        authorization: find(parsed.headers, "authorization").unwrap_or_default(),
        content_type: text("content-type"),
        body,
    };
    answer(&request, token, board, live, now)
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

fn send(stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(512 + answer.body.len());
    write!(
        bytes,
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'; \
         script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'\r\n",
        answer.status,
        reason(answer.status),
        answer.content_type,
        answer.body.len()
    )?;
    if let Some(track) = &answer.track {
        write!(bytes, "X-Track: {track}\r\n")?;
    }
    if answer.status == 401 {
        bytes.extend(b"WWW-Authenticate: Bearer\r\n");
    }
    bytes.extend(b"\r\n");
    bytes.extend(&answer.body);
    let end = Instant::now() + MOST_TIME;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(&rest[..rest.len().min(PIECE)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => rest = &rest[sent..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    // What the other side still sends would make the system forget the answer: read it, for a moment.
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(PAUSE))?;
    let mut rest = [0; 4096];
    for _ in 0..32 {
        if !stream.read(&mut rest).is_ok_and(|n| n > 0) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_is_as_long_as_it_says_once_and_no_longer_than_allowed() {
        let of = |head: &str| body_of(head.as_bytes());
        assert_eq!(of("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Some((27, 0))));
        assert_eq!(of("GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
        let refused = |headers: &str| {
            of(&format!("POST /stop HTTP/1.1\r\n{headers}\r\n\r\n")).map_err(|(status, _)| status)
        };
        assert_eq!(refused("Content-Length: 1025"), Err(413));
        assert_eq!(refused("Content-Length: -1"), Err(400));
        assert_eq!(refused("Content-Length: 99999999999999999999999"), Err(400));
        assert_eq!(refused("Content-Length: 2\r\nContent-Length: 3"), Err(400));
        assert_eq!(refused("Transfer-Encoding: chunked"), Err(411));
        assert_eq!(refused(&"X: y\r\n".repeat(100)), Err(431));
    }

    #[test]
    fn a_status_goes_out_with_its_own_words() {
        let said = [
            200, 204, 400, 401, 403, 404, 405, 408, 409, 410, 411, 413, 415, 431, 503,
        ]
        .map(reason);
        let mut different = said.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), said.len(), "{said:?}");
        assert_eq!((said[8], said[14]), ("Conflict", "Service Unavailable"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_a_part_of_one_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), head in "(GET|POST) /\\PC{0,40} HTTP/1.1\r\n(\\PC{0,20}: \\PC{0,20}\r\n){0,4}\r\n") {
            for bytes in [bytes.as_slice(), head.as_bytes(), &[head.as_bytes(), &bytes].concat()] {
                if let Ok(Some((from, length))) = body_of(bytes) {
                    prop_assert!(from <= bytes.len() && length <= MOST_BODY);
                }
            }
        }
    }
}
