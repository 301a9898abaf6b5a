//! One JSON object a datagram and event.
//!
//! Nobody may be listening: what the network says about that is counted as an error by the queue and is no reason to
//! stop sending.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::LiveSink;
use super::jsonl::json;
use crate::run::event::TrackEvent;

/// Sends datagrams.
pub struct Datagrams {
    socket: UdpSocket,
    line: Vec<u8>,
}

impl Datagrams {
    /// Binds a socket of the address's family.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let from: SocketAddr = if to.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0u16; 8], 0).into()
        };
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        Ok(Self {
            socket,
            line: Vec::new(),
        })
    }
}

impl LiveSink for Datagrams {
    fn write(&mut self, event: &TrackEvent) -> io::Result<()> {
        json(event, &mut self.line)?;
        match self.socket.send(&self.line) {
            Ok(_) => Ok(()),
            // A port where nobody listens; somebody may in a moment.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::run::event::testing::event;

    #[test]
    fn a_listener_gets_one_object_an_event_also_when_it_comes_late() {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        drop(listener);
        let mut sink = Datagrams::open(to).unwrap();
        (0..5).for_each(|n| sink.write(&event(n)).unwrap());
        let listener = UdpSocket::bind(to).unwrap();
        let mut buffer = [0; 2048];
        // The refusals of the first five may still be on their way.
        let n = (0..20)
            .find_map(|n| {
                sink.write(&event(n)).unwrap();
                listener
                    .set_read_timeout(Some(std::time::Duration::from_millis(50)))
                    .unwrap();
                listener.recv(&mut buffer).ok()
            })
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&buffer[..n]).unwrap();
        assert_eq!(value["phase"], "tracking");
        assert_eq!(value["box"].as_array().unwrap().len(), 4);
    }
}
