//! What a search leaves on disk, and goes on from.
//!
//! | file | what |
//! |---|---|
//! | `settings.toml` | model, runs, seed, weights and space: a folder holds one search |
//! | `runs.csv` | every followed run of every trial, appended as it is done: a stopped search loses at most one a thread |
//! | `trials.csv` | every trial with its constants and its objective, rewritten after each generation |
//!
//! Numbers are written so that reading gives the same bits: a search that goes on decides as if it had never stopped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::search::{Origin, Trial};
use super::space::Space;
use super::{RunFigures, TuneError, Weights};
use roadhound_host::whole;

use crate::report::table::Table;
use crate::run_log::drop_torn_line;

const RUNS_HEADER: &str = "trial,run,frames,auc,absent,false_alarms,false_lost";

fn io(path: &Path) -> impl Fn(std::io::Error) -> TuneError + '_ {
    |reason| TuneError::Io {
        path: path.display().to_string(),
        reason,
    }
}

/// Writes the settings of a new search, or checks that those of the one that goes on are the same.
///
/// # Errors
/// Other settings, with the first line that differs; a file that cannot be read or written.
pub fn claim(folder: &Path, settings: &str) -> Result<(), TuneError> {
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let path = folder.join("settings.toml");
    if !path.exists() {
        return whole::write(&path, settings).map_err(io(&path));
    }
    let found = std::fs::read_to_string(&path).map_err(io(&path))?;
    if found == settings {
        return Ok(());
    }
    let mut lines = settings.lines().zip(found.lines());
    let differing = lines.find(|(a, b)| a != b).map_or("its length", |(a, _)| a);
    let key = differing
        .split(['=', '{'])
        .next()
        .unwrap_or_default()
        .trim();
    Err(TuneError::OtherSettings {
        path: path.display().to_string(),
        key: key.to_owned(),
    })
}

/// What was measured so far.
#[derive(Debug)]
pub struct RunLog {
    path: PathBuf,
    file: File,
    known: BTreeMap<(u32, usize), RunFigures>,
}

impl RunLog {
    /// Opens `runs.csv` of a folder; a line that a killed search left half written is dropped.
    ///
    /// # Errors
    /// A file that cannot be read or written; a malformed line.
    pub fn open(folder: &Path) -> Result<Self, TuneError> {
        let path = folder.join("runs.csv");
        drop_torn_line(&path).map_err(io(&path))?;
        let mut known = BTreeMap::new();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io(&path)(e)),
        };
        let table = Table::parse(&path, &text)?;
        let names: Vec<&str> = RUNS_HEADER.split(',').collect();
        table.require(&path, &names)?;
        for row in 0..table.len() {
            let value = |k: usize| table.column(names[k]).map_or(0.0, |c| c[row]);
            let figures = RunFigures {
                frames: value(2) as usize,
                auc: value(3),
                absent: value(4) as usize,
                false_alarms: value(5) as usize,
                false_lost: value(6) as usize,
            };
            known.insert((value(0) as u32, value(1) as usize), figures);
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(io(&path))?;
        if text.is_empty() {
            writeln!(file, "{RUNS_HEADER}").map_err(io(&path))?;
        }
        Ok(Self { path, file, known })
    }

    /// The figures of a run of a trial, if they were measured before.
    pub fn get(&self, trial: u32, run: usize) -> Option<RunFigures> {
        self.known.get(&(trial, run)).copied()
    }

    /// Measurements there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Nothing was measured yet.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Adds a measurement.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, trial: u32, run: usize, figures: RunFigures) -> Result<(), TuneError> {
        let RunFigures {
            frames,
            auc,
            absent,
            false_alarms,
            false_lost,
        } = figures;
        // `{:?}` writes the shortest text that reads as the same bits.
        let line = format!("{trial},{run},{frames},{auc:?},{absent},{false_alarms},{false_lost}\n");
        self.file
            .write_all(line.as_bytes())
            .map_err(io(&self.path))?;
        self.known.insert((trial, run), figures);
        Ok(())
    }
}

/// The table of trials as CSV.
pub fn trials_csv(trials: &[Trial], space: &Space, weights: &Weights) -> String {
    let mut text = String::from(
        "trial,generation,origin,runs,objective,gain,auc,false_alarm_rate,false_lost_rate",
    );
    for constant in space.searched() {
        let _ = write!(text, ",{}", constant.key);
    }
    text.push('\n');
    for trial in trials {
        let origin = match trial.origin {
            Origin::Current => "current".to_owned(),
            Origin::Random => "random".to_owned(),
            Origin::Near(parent) => format!("near {parent}"),
        };
        let runs: Vec<usize> = trial.figures.keys().copied().collect();
        let objective = trial.objective(weights, &runs);
        // Against the current constants on the same runs: those of a trial that fell out early may be easy ones.
        let gain = objective - trials[0].objective(weights, &runs);
        let figures = || trial.figures.values();
        let auc = figures().map(|f| f.auc).sum::<f64>() / runs.len().max(1) as f64;
        let rate = |count: usize, of: usize| match of {
            0 => "NaN".to_owned(),
            of => format!("{:.5}", count as f64 / of as f64),
        };
        let _ = write!(
            text,
            "{},{},{origin},{},{objective:.5},{gain:.5},{auc:.5},{},{}",
            trial.number,
            trial.generation,
            runs.len(),
            rate(
                figures().map(|f| f.false_alarms).sum(),
                figures().map(|f| f.absent).sum()
            ),
            rate(
                figures().map(|f| f.false_lost).sum(),
                figures().map(|f| f.frames).sum()
            )
        );
        for value in &trial.values {
            let _ = write!(text, ",{value}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn measurements_come_back_bit_by_bit_and_a_torn_one_is_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let figures = |auc| RunFigures {
            frames: 90,
            auc,
            absent: 10,
            false_alarms: 1,
            false_lost: 2,
        };
        let third = 1.0 / 3.0 + f64::EPSILON;
        {
            let mut log = RunLog::open(folder.path()).unwrap();
            assert!(log.is_empty());
            log.add(0, 3, figures(third)).unwrap();
            log.add(1, 3, figures(0.5)).unwrap();
        }
        let path = folder.path().join("runs.csv");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 4]).unwrap();
        let mut log = RunLog::open(folder.path()).unwrap();
        assert_eq!((log.len(), log.get(0, 3)), (1, Some(figures(third))));
        assert_eq!(log.get(1, 3), None);
        log.add(1, 3, figures(0.5)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_folder_holds_one_search() {
        let folder = tempfile::tempdir().unwrap();
        claim(folder.path(), "seed = 1\nmodel = \"a\"\n").unwrap();
        claim(folder.path(), "seed = 1\nmodel = \"a\"\n").unwrap();
        let error = claim(folder.path(), "seed = 1\nmodel = \"b\"\n").unwrap_err();
        assert!(
            error.to_string().contains("other settings (model)"),
            "{error}"
        );
    }
}
