//! One HTML page a run, readable while it trains; or one page that compares runs.
//!
//! In: the folders that [`crate::train_loop`] fills. Out: a page that needs nothing else: curves are inline SVG,
//! pictures are data URIs, there are no scripts. What a folder does not hold yet is said to be missing.
//!
//! | file | shown as |
//! |---|---|
//! | `losses.csv`, `validation.csv` | curves, best and last figures |
//! | `calibration.csv` (`lower,upper,count,mean_predicted,share_present`) | reliability diagram of presence |
//! | `config.toml` | every key; those that differ from the defaults are marked |
//! | `facts.json` ([`facts::Facts`]) | program, seed, counts of the data |
//! | `panels.json` ([`panels`]) | figures, lines, maps, tables and pictures of a system's own |
//! | `samples.jpg`, `samples_held_out.jpg`, `bad_batch.png` | pictures |
//!
//! [`read_run`] and [`write()`] touch files; [`page::render`] is a function from [`RunRecord`]s to text.
//!
//! ```no_run
//! use roadhound_trainer::report;
//! let runs = [report::read_run("runs/a".as_ref())?, report::read_run("runs/b".as_ref())?];
//! report::write("comparison.html".as_ref(), &report::page::render(&runs))?;
//! # Ok::<(), report::ReportError>(())
//! ```

use std::path::{Path, PathBuf};

use roadhound_host::whole;

use crate::systems::System;

pub mod facts;
pub mod map;
pub mod page;
pub mod panels;
pub mod plot;
pub mod scatter;
pub mod settings;
pub mod table;

use self::facts::{FACTS_FILE, Facts};
use self::panels::Panel;
use self::plot::ReliabilityBin;
use self::settings::Settings;
use self::table::Table;

/// The page that the train loop keeps in the run's folder.
pub const REPORT_FILE: &str = "report.html";

/// Pictures of a run's folder, with what they show.
const PICTURES: [(&str, &str); 3] = [
    (
        "samples.jpg",
        "Training pairs, as the network sees them, from the run's first to its last",
    ),
    (
        "samples_held_out.jpg",
        "Held-out pairs that validation scores",
    ),
    (
        "bad_batch.png",
        "The batch whose loss or gradient was not a number",
    ),
];

/// A run's folder that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system said no.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
    /// A line of a CSV file is malformed, and it is not the last one.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Another file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder holds no run.
    #[error("{}: holds neither config.toml nor losses.csv: not the folder of a run", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
}

/// A picture of a run's folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// What it shows.
    pub caption: String,
    /// `image/jpeg` or `image/png`.
    pub media_type: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Everything known about a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRecord {
    /// The folder's name.
    pub name: String,
    /// One line per logging interval, by `step` and `pairs`.
    pub losses: Table,
    /// One line per validation, by `step` and `pairs`.
    pub validation: Table,
    /// How often the target was there, by predicted presence.
    pub calibration: Vec<ReliabilityBin>,
    /// The resolved configuration.
    pub settings: Option<Settings>,
    /// The same with nothing set, to see what was.
    pub defaults: Settings,
    /// What does not change while the run goes on.
    pub facts: Option<Facts>,
    /// Samples, and the batch that went wrong.
    pub pictures: Vec<Picture>,
    /// What the system shows beside its curves.
    pub panels: Vec<Panel>,
    /// The pictures that panels name, in their order.
    pub panel_pictures: Vec<Picture>,
}

impl RunRecord {
    /// What was trained.
    pub fn system(&self) -> System {
        self.facts.as_ref().map_or(System::default(), |f| f.system)
    }

    /// What the run counts its progress in: a column of its logs.
    pub fn unit(&self) -> &'static str {
        let counts_samples = |table: &Table| table.column("samples").is_some();
        match counts_samples(&self.losses) || counts_samples(&self.validation) {
            true => "samples",
            false => "pairs",
        }
    }
}

/// Reads whatever of a run is there.
///
/// # Errors
/// A folder that holds no run; a file that cannot be read or is malformed, with its line.
pub fn read_run(folder: &Path) -> Result<RunRecord, ReportError> {
    let config = text(&folder.join("config.toml"))?;
    let losses = log(&folder.join("losses.csv"))?;
    if config.is_none() && losses.is_none() {
        return Err(ReportError::NoRun {
            path: folder.to_owned(),
        });
    }
    let validation = log(&folder.join("validation.csv"))?;
    let by_step = |table: Option<Table>| table.unwrap_or_default().without_repeats("step");
    let facts_path = folder.join(FACTS_FILE);
    let facts = text(&facts_path)?
        .map(|json| {
            serde_json::from_str(&json).map_err(|e| ReportError::File {
                path: facts_path.clone(),
                reason: e.to_string(),
            })
        })
        .transpose()?;
    let system = facts
        .as_ref()
        .map_or(System::default(), |f: &Facts| f.system);
    let defaults = system.default_toml().map_err(|e| ReportError::File {
        path: "the default configuration".into(),
        reason: e.to_string(),
    })?;
    let (panels, panel_pictures) = panels::read(folder)?;
    let settings_path = folder.join("config.toml");
    Ok(RunRecord {
        name: name_of(folder),
        losses: by_step(losses),
        validation: by_step(validation),
        calibration: calibration(&folder.join("calibration.csv"))?,
        settings: config
            .map(|toml| Settings::parse(&settings_path, &toml))
            .transpose()?,
        defaults: Settings::parse("the default configuration".as_ref(), &defaults)?,
        facts,
        pictures: pictures(folder)?,
        panels,
        panel_pictures,
    })
}

/// The page of these folders: of the run, or a comparison.
///
/// # Errors
/// Those of [`read_run`].
pub fn page_of(folders: &[PathBuf]) -> Result<String, ReportError> {
    let mut runs = folders
        .iter()
        .map(|folder| read_run(folder))
        .collect::<Result<Vec<_>, _>>()?;
    // Two folders of one name are told apart by their paths.
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, folder) in runs.iter_mut().zip(folders) {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = folder.display().to_string();
        }
    }
    Ok(page::render(&runs))
}

/// Writes a page beside its place and renames it, so that whoever reloads sees the old one or the new one.
///
/// # Errors
/// The file system's.
pub fn write(path: &Path, html: &str) -> Result<(), ReportError> {
    let io = |reason| ReportError::Io {
        path: path.to_owned(),
        reason,
    };
    whole::write(path, html).map_err(io)
}

/// Rewrites the page in a run's own folder.
///
/// # Errors
/// Those of [`read_run`] and [`write()`].
pub fn refresh(folder: &Path) -> Result<(), ReportError> {
    write(
        &folder.join(REPORT_FILE),
        &page_of(std::slice::from_ref(&folder.to_owned()))?,
    )
}

/// The middle value; the mean of two; not a number where there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => f64::NAN,
        _ => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
    }
}

fn name_of(folder: &Path) -> String {
    let named = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
    // `.` and `..` have no name of their own.
    named(folder)
        .or_else(|| named(&folder.canonicalize().ok()?))
        .unwrap_or_else(|| folder.display().to_string())
}

/// The bytes of a file; `None` where there is none.
fn bytes(path: &Path) -> Result<Option<Vec<u8>>, ReportError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(ReportError::Io {
            path: path.to_owned(),
            reason,
        }),
    }
}

/// The text of a file. What is not UTF-8 is replaced, and then refused by whoever expects a number there.
fn text(path: &Path) -> Result<Option<String>, ReportError> {
    Ok(bytes(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn table(path: &Path, needed: &[&str]) -> Result<Option<Table>, ReportError> {
    let Some(text) = text(path)? else {
        return Ok(None);
    };
    let table = Table::parse(path, &text)?;
    table.require(path, needed)?;
    Ok(Some(table))
}

/// A log by step, counted in pairs or samples.
fn log(path: &Path) -> Result<Option<Table>, ReportError> {
    let Some(text) = text(path)? else {
        return Ok(None);
    };
    let table = Table::parse(path, &text)?;
    let unit = match table.column("samples") {
        Some(_) => "samples",
        None => "pairs",
    };
    table.require(path, &["step", unit])?;
    Ok(Some(table))
}

fn calibration(path: &Path) -> Result<Vec<ReliabilityBin>, ReportError> {
    let needed = ["count", "mean_predicted", "share_present"];
    let Some(table) = table(path, &needed)? else {
        return Ok(Vec::new());
    };
    let columns = needed.map(|name| table.column(name).unwrap_or_default());
    Ok((0..table.len())
        .map(|row| ReliabilityBin {
            count: columns[0][row],
            mean_predicted: columns[1][row],
            share_present: columns[2][row],
        })
        .collect())
}

fn pictures(folder: &Path) -> Result<Vec<Picture>, ReportError> {
    let mut pictures = Vec::new();
    for (name, caption) in PICTURES {
        if let Some(bytes) = bytes(&folder.join(name))? {
            let media_type = match name.ends_with(".png") {
                true => "image/png",
                false => "image/jpeg",
            };
            pictures.push(Picture {
                caption: caption.to_owned(),
                media_type,
                bytes,
            });
        }
    }
    Ok(pictures)
}

#[cfg(test)]
mod tests;
