//! A board of which nothing is real: for tests and fuzzers of the page.

use std::sync::{Mutex, PoisonError};

use super::{Board, Seen};
use crate::run::stats::Figures;
use crate::run::tracking::Command;

/// Shows what it is given, and remembers what it was told.
///
/// ```
/// use roadhound_edge::preview::{Board, stand_in::StandIn};
/// use roadhound_edge::run::tracking::Command;
///
/// let board = StandIn::default();
/// assert!(board.command(Command::Stop));
/// assert!(matches!(board.take_told()[..], [Command::Stop]));
/// assert!(!StandIn::deaf().command(Command::Stop));
/// ```
#[derive(Default)]
pub struct StandIn {
    /// What may be looked at.
    pub seen: Seen,
    told: Mutex<Vec<Command>>,
    deaf: bool,
    blind: bool,
}

impl StandIn {
    /// One for which too many commands wait.
    pub fn deaf() -> Self {
        Self {
            deaf: true,
            ..Self::default()
        }
    }

    /// One that can find nobody to follow by itself.
    pub fn blind() -> Self {
        Self {
            blind: true,
            ..Self::default()
        }
    }

    /// What it was told since it was last asked.
    pub fn take_told(&self) -> Vec<Command> {
        std::mem::take(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Board for StandIn {
    fn seen(&self) -> &Seen {
        &self.seen
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn camera_is_open(&self) -> bool {
        true
    }

    fn prometheus(&self) -> String {
        "roadhound_fps 30\n".into()
    }

    fn can_choose(&self) -> bool {
        !self.blind
    }

    fn command(&self, command: Command) -> bool {
        if !self.deaf {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(command);
        }
        !self.deaf
    }
}
