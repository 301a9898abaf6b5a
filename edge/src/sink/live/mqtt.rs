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
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

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

/// Publishes messages.
pub struct Messages {
    client: Client,
    topic: String,
    status: String,
    changes_only: bool,
    last_phase: Option<Phase>,
    line: Vec<u8>,
    connected: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
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
        let (client, mut connection) = Client::new(options, usize::from(config.queue));
        let (connected, stop) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let thread = {
            let (client, status) = (client.clone(), status.clone());
            let (connected, stop) = (connected.clone(), stop.clone());
            let broker = format!("{}:{}", config.host, config.port);
            move || {
                // Said once until the broker is there again.
                let mut complained = false;
                for event in connection.iter() {
                    match event {
                        Ok(Event::Incoming(Packet::ConnAck(_))) => {
                            log::info!("mqtt: connected to {broker}");
                            let _ = client.try_publish(&status, QoS::AtLeastOnce, true, "online");
                            connected.store(true, Relaxed);
                            complained = false;
                        }
                        Ok(_) => {}
                        Err(ConnectionError::RequestsDone) => break,
                        // The client calls it an error that the broker closes after our goodbye.
                        Err(e) if stop.load(Relaxed) => {
                            log::debug!("mqtt: {broker}: {e}");
                            break;
                        }
                        Err(e) => {
                            connected.store(false, Relaxed);
                            if !complained {
                                log::warn!("mqtt: {broker}: {}; trying again", one_line(&e));
                            }
                            complained = true;
                            std::thread::sleep(PAUSE);
                        }
                    }
                }
                connected.store(false, Relaxed);
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
        let changed = self.last_phase.replace(event.report.phase) != Some(event.report.phase);
        if self.changes_only && !changed {
            return Ok(());
        }
        json(event, &mut self.line)?;
        // Where nobody is connected the client would keep the messages for later, when they are worth nothing.
        if !self.connected.load(Relaxed) {
            self.last_phase = None;
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.client
            .try_publish(&self.topic, QoS::AtMostOnce, false, self.line.clone())
            .map_err(|e| io::Error::new(io::ErrorKind::WouldBlock, e.to_string()))
    }

    fn stays_open(&self) -> bool {
        true
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if self.connected.load(Relaxed) {
            let _ = self
                .client
                .try_publish(&self.status, QoS::AtLeastOnce, true, "offline");
            let _ = self.client.try_disconnect();
            let end = std::time::Instant::now() + GOODBYE;
            while self.connected.load(Relaxed) && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
