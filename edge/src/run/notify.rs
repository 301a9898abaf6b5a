//! Tells systemd that the program is ready and alive: the `sd_notify` protocol, datagrams to `$NOTIFY_SOCKET`.
//!
//! Enters: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` as systemd sets them. Leaves: `READY=1`, `STATUS=...`,
//! `WATCHDOG=1`, `RELOADING=1`, `STOPPING=1`. Without the variables everything here does nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, where there is one.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Reads the variables of this process.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name);
        Self::new(
            variable("NOTIFY_SOCKET").as_deref(),
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
        )
    }

    fn new(socket: Option<&OsStr>, usec: Option<&OsStr>, pid: Option<&OsStr>) -> Self {
        let to = socket.and_then(|path| {
            let address = address(path)?;
            let from = UnixDatagram::unbound().ok()?;
            from.set_nonblocking(true).ok()?;
            Some((from, address))
        });
        let number = |value: &OsStr| value.to_str()?.parse::<u64>().ok();
        let is_for_us = pid
            .and_then(number)
            .is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = usec
            .and_then(number)
            .filter(|&usec| usec > 0 && is_for_us && to.is_some())
            .map(Duration::from_micros);
        Self { to, watchdog }
    }

    /// How often to call [`Notify::alive`]: half of what systemd allows.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Everything is set up.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The program works.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The configuration is read again; [`Notify::ready`] ends that.
    pub fn reloading(&self) {
        let now = crate::clock::monotonic().0;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// The program ends because it was told to.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    fn send(&self, message: &str) {
        if let Some((from, to)) = &self.to {
            // A manager that does not listen is no reason to stop tracking.
            let _ = from.send_to_addr(message.as_bytes(), to);
        }
    }
}

/// A path, or a name in Linux' abstract namespace where it starts with `@`.
fn address(path: &OsStr) -> Option<SocketAddr> {
    match path.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(path).ok(),
        [b'@', name @ ..] => abstract_address(name),
        _ => None,
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_address(name: &[u8]) -> Option<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name).ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_address(_: &[u8]) -> Option<SocketAddr> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }

    #[test]
    fn the_manager_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::new(Some(path.as_os_str()), Some("4000000".as_ref()), None);
        assert_eq!(notify.watchdog_every(), Some(Duration::from_secs(2)));
        notify.ready();
        notify.status("two\nlines");
        assert_eq!(received(&manager), "READY=1");
        assert_eq!(received(&manager), "STATUS=two lines");
    }

    #[test]
    fn a_name_in_the_abstract_namespace_works_too() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("roadhound-test-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notify::new(Some(format!("@{name}").as_ref()), None, None).alive();
        assert_eq!(received(&manager), "WATCHDOG=1");
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let notify = Notify::new(
            Some("/nowhere".as_ref()),
            Some("1000".as_ref()),
            Some("1".as_ref()),
        );
        assert_eq!(notify.watchdog_every(), None);
        notify.ready();
    }
}
