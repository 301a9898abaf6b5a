//! One JSON object a message and event, at a broker.
//!
//! Messages are sent at most once (QoS 0): a position that is late is worth nothing. `TOPIC/status` is retained and
//! holds `online`, or `offline` once the program has ended or the broker has not heard of it for its keep-alive time.
//! A broker that is away costs events, which are counted, and nothing else; it is tried again every second.
//!
//! The connection lives on a thread of its own, with the client's own small runtime; nothing else in the program waits
//! on it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use roadhound_shared::tracker::Phase;
use rumqttc::{Client, ConnectionError, Event, LastWill, MqttOptions, Packet, QoS};

use super::LiveSink;
use super::jsonl::json;
use crate::config::{MqttConfig, read_text};
use crate::run::event::TrackEvent;

/// Between two attempts to reach a broker.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the broker hears of us at least.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// No file with a password is longer.
const MOST_PASSWORD_FILE: u64 = 4096;
/// How long the last words may take.
const GOODBYE: Duration = Duration::from_millis(300);
/// How often it is looked whether they got through.
const LOOK: Duration = Duration::from_millis(5);
/// Room for what is said besides lines: the status and the farewell.
const WORDS: usize = 2;

/// Publishes messages.
pub struct Messages {
    client: Client,
    topic: String,
    status: String,
    changes_only: bool,
    last_phase: Option<Phase>,
    line: Vec<u8>,
    connected: Arc<AtomicBool>,
    /// The connection is to end.
    stop: Arc<AtomicBool>,
    /// Nobody waits for its end any more.
    gone: Arc<AtomicBool>,
}

impl Messages {
    /// Starts to connect; returns at once.
    ///
    /// # Errors
    /// A password that cannot be read, or no thread.
    pub fn open(config: &MqttConfig) -> io::Result<Self> {
        let status = format!("{}/status", config.topic);
        let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_last_will(LastWill::new(&status, "offline", QoS::AtLeastOnce, true));
        if let Some(user) = &config.user {
            let password = config
                .password_file
                .as_deref()
                .map_or(Ok(String::new()), password)?;
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, usize::from(config.queue) + WORDS);
        let [connected, stop, gone] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let thread = {
            let (client, status) = (client.clone(), status.clone());
            let (connected, stop, gone) = (connected.clone(), stop.clone(), gone.clone());
            let broker = format!("{}:{}", config.host, config.port);
            move || {
                // Said once until the broker is there again.
                let mut complained = false;
                for event in connection.iter() {
                    match event {
                        // The broker was reached when nobody wanted it any more. Whoever stayed would be in the way of the next
                        // one of this name.
                        Ok(Event::Incoming(Packet::ConnAck(_))) if stop.load(SeqCst) => {
                            if client.try_disconnect().is_err() {
                                break;
                            }
                        }
                        Ok(Event::Incoming(Packet::ConnAck(_))) => {
                            log::info!("mqtt: connected to {broker}");
                            let _ = client.try_publish(&status, QoS::AtLeastOnce, true, "online");
                            connected.store(true, SeqCst);
                            complained = false;
                            // The sink ended in between and saw no connection to take leave of.
                            if stop.load(SeqCst) && !say_goodbye(&client, &status, Instant::now()) {
                                break;
                            }
                        }
                        Ok(_) if gone.load(SeqCst) => break,
                        Ok(_) => {}
                        Err(ConnectionError::RequestsDone) => break,
                        // The client calls it an error that the broker closes after our goodbye.
                        Err(e) if stop.load(SeqCst) => {
                            log::debug!("mqtt: {broker}: {e}");
                            break;
                        }
                        Err(e) => {
                            connected.store(false, SeqCst);
                            if !complained {
                                log::warn!("mqtt: {broker}: {}; trying again", one_line(&e));
                            }
                            complained = true;
                            std::thread::sleep(PAUSE);
                            if stop.load(SeqCst) {
                                break;
                            }
                        }
                    }
                }
                connected.store(false, SeqCst);
            }
        };
        std::thread::Builder::new()
            .name("mqtt-connection".into())
            .spawn(thread)?;
        Ok(Self {
            client,
            topic: config.topic.clone(),
            status,
            changes_only: config.changes_only,
            last_phase: None,
            line: Vec::new(),
            connected,
            stop,
            gone,
        })
    }
}

/// The client's errors name their cause only in words of their own; some of those have line breaks.
fn one_line(e: &ConnectionError) -> String {
    e.to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The first line of a file.
///
/// # Errors
/// The file and what the system said.
pub fn password(path: &Path) -> io::Result<String> {
    let text = read_text(path, MOST_PASSWORD_FILE)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

impl LiveSink for Messages {
    fn write(&mut self, event: &TrackEvent) -> io::Result<()> {
        // A phase that is not sent, or was sent to a broker that went away since, has to be told again.
        let told = self.last_phase.take();
        // Where nobody is connected the client would keep the messages for later, when they are worth nothing.
        if !self.connected.load(SeqCst) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !self.changes_only || told != Some(event.report.phase) {
            json(event, &mut self.line)?;
            self.client
                .try_publish(&self.topic, QoS::AtMostOnce, false, self.line.clone())
                .map_err(|e| io::Error::new(io::ErrorKind::WouldBlock, e.to_string()))?;
        }
        self.last_phase = Some(event.report.phase);
        Ok(())
    }

    fn stays_open(&self) -> bool {
        true
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if self.connected.load(SeqCst) {
            let end = Instant::now() + GOODBYE;
            say_goodbye(&self.client, &self.status, end);
            while self.connected.load(SeqCst) && Instant::now() < end {
                std::thread::sleep(LOOK);
            }
        }
        self.gone.store(true, SeqCst);
    }
}

/// Says that nobody is there any more and has the connection closed; whether there was room for both before `end`.
fn say_goodbye(client: &Client, status: &str, end: Instant) -> bool {
    let offline = || client.try_publish(status, QoS::AtLeastOnce, true, "offline");
    said_before(end, offline) && said_before(end, || client.try_disconnect())
}

fn said_before<E>(end: Instant, mut say: impl FnMut() -> Result<(), E>) -> bool {
    loop {
        match say() {
            Ok(()) => return true,
            Err(_) if Instant::now() >= end => return false,
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::run::event::testing::event;

    #[test]
    fn a_change_of_phase_that_found_no_room_is_told_again() {
        let (client, _connection) = Client::new(MqttOptions::new("a", "localhost", 1883), 1);
        let mut sink = Messages {
            client,
            topic: "a".into(),
            status: "a/status".into(),
            changes_only: true,
            last_phase: None,
            line: Vec::new(),
            connected: Arc::new(AtomicBool::new(true)),
            stop: Arc::default(),
            gone: Arc::default(),
        };
        let mut lost = event(1);
        lost.report.phase = Phase::Lost;
        sink.write(&event(0)).unwrap();
        // The same again is no change, and needs no room.
        sink.write(&event(0)).unwrap();
        for _ in 0..2 {
            let refused = sink.write(&lost).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        }
        // What was told to a broker that went away may not have reached it.
        sink.last_phase = Some(Phase::Lost);
        sink.connected.store(false, SeqCst);
        assert!(sink.write(&lost).is_err());
        assert_eq!(sink.last_phase, None);
    }

    #[test]
    fn a_broker_that_answers_when_the_sink_is_gone_is_left_at_once() {
        let broker = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = broker.local_addr().unwrap().port();
        let text = format!("host = \"127.0.0.1\"\nport = {port}\n");
        let sink = Messages::open(&toml::from_str(&text).unwrap()).unwrap();
        let (mut stream, _) = broker.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut greeting = [0; 256];
        assert!(stream.read(&mut greeting).unwrap() > 0);
        drop(sink);
        let connected = [0x20, 2, 0, 0];
        stream.write_all(&connected).unwrap();
        // A message "online" would come first where somebody means to stay.
        let mut farewell = [0; 2];
        stream.read_exact(&mut farewell).unwrap();
        assert_eq!(farewell, [0xe0, 0]);
    }
}
