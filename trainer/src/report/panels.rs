//! What a system shows beside its curves: figures, lines, clouds of points, tables and pictures.
//!
//! In: a run's `panels.json`, a list of [`Panel`]s that a task writes after each validation. Out: HTML. Pictures lie in the
//! run's folder; the page holds them as data.
//!
//! ```
//! use roadhound_trainer::report::panels::{Figure, Panel, html};
//! let panels = [Panel::figures("Held out", vec![Figure::new("EER", 0.031)])];
//! assert!(html(&panels, &[]).contains("<b>0.031</b><span>EER</span>"));
//! ```

use std::fmt::Write;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::page::{base64, escape};
use super::plot::{LineChart, SERIES_COLOURS, Series, short};
use super::scatter::{Cloud, scatter};
use super::{Picture, ReportError, bytes};
use crate::outputs;

/// The file in a run's folder.
pub const PANELS_FILE: &str = "panels.json";

/// A number with its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its value; not there where it is not a number, which JSON has no word for.
    pub value: Option<f64>,
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value: value.is_finite().then_some(value),
        }
    }
}

/// A line or a cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedPoints {
    /// Its name.
    pub name: String,
    /// `(x, y)`.
    pub points: Vec<(f64, f64)>,
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Panel {
    /// Numbers, large.
    Figures {
        /// Heading.
        title: String,
        /// The numbers.
        figures: Vec<Figure>,
    },
    /// Lines over a common axis.
    Lines {
        /// Heading.
        title: String,
        /// Label of the horizontal axis.
        x_label: String,
        /// The lines.
        lines: Vec<NamedPoints>,
        /// What to see in it.
        note: String,
    },
    /// Points by class.
    Scatter {
        /// Heading.
        title: String,
        /// One cloud a class.
        clouds: Vec<NamedPoints>,
        /// What to see in it.
        note: String,
    },
    /// Words and numbers in rows.
    Table {
        /// Heading.
        title: String,
        /// Names of the columns.
        columns: Vec<String>,
        /// As many fields a row.
        rows: Vec<Vec<String>>,
        /// What to see in it.
        note: String,
    },
    /// A picture of the run's folder.
    Picture {
        /// Heading.
        title: String,
        /// Its name in the folder.
        file: String,
        /// What to see in it.
        note: String,
    },
}

impl Panel {
    /// Numbers, large.
    pub fn figures(title: &str, figures: Vec<Figure>) -> Self {
        Self::Figures {
            title: title.to_owned(),
            figures,
        }
    }
}

/// Writes the panels of a run.
///
/// # Errors
/// The file system's.
pub fn write(folder: &Path, panels: &[Panel]) -> anyhow::Result<()> {
    outputs::file(&folder.join(PANELS_FILE), serde_json::to_vec(panels)?)
}

/// Panels of a run's folder and the pictures they name, in their order; none where there are none yet.
///
/// # Errors
/// A file that is not what it should be; a picture outside the folder.
pub(super) fn read(folder: &Path) -> Result<(Vec<Panel>, Vec<Picture>), ReportError> {
    let path = folder.join(PANELS_FILE);
    let wrong = |reason: String| ReportError::File {
        path: path.clone(),
        reason,
    };
    let Some(json) = bytes(&path)? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let panels: Vec<Panel> = serde_json::from_slice(&json).map_err(|e| wrong(e.to_string()))?;
    let mut pictures = Vec::new();
    for panel in &panels {
        let Panel::Picture { title, file, .. } = panel else {
            continue;
        };
        let mut parts = Path::new(file).components();
        if !matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        ) {
            return Err(wrong(format!(
                "picture {file:?} is not a file of the folder"
            )));
        }
        // One that has not been written yet is shown as missing.
        pictures.push(Picture {
            caption: title.clone(),
            media_type: match file.ends_with(".png") {
                true => "image/png",
                false => "image/jpeg",
            },
            bytes: bytes(&folder.join(file))?.unwrap_or_default(),
        });
    }
    Ok((panels, pictures))
}

/// The panels as HTML, figures first; `pictures` are those of the picture panels, in their order.
pub fn html(panels: &[Panel], pictures: &[Picture]) -> String {
    let mut html = String::new();
    for panel in panels {
        if let Panel::Figures { title, figures } = panel {
            let _ = write!(html, "<h3>{}</h3><div class=\"cards\">", escape(title));
            for figure in figures {
                let value = figure
                    .value
                    .map_or_else(|| "not a number".to_owned(), figure_text);
                let _ = write!(
                    html,
                    "<div class=\"card\"><b>{value}</b><span>{}</span></div>",
                    escape(&figure.name)
                );
            }
            html.push_str("</div>\n");
        }
    }
    let mut charts = String::new();
    for panel in panels {
        match panel {
            Panel::Lines {
                title,
                x_label,
                lines,
                note,
            } => {
                let chart = LineChart {
                    title: title.clone(),
                    x_label: x_label.clone(),
                    series: lines.iter().map(series).collect(),
                    ..LineChart::default()
                };
                figure(&mut charts, title, &chart.svg(), lines, note);
            }
            Panel::Scatter {
                title,
                clouds,
                note,
            } => {
                let drawn: Vec<Cloud> = clouds
                    .iter()
                    .map(|cloud| Cloud {
                        name: &cloud.name,
                        points: &cloud.points,
                    })
                    .collect();
                figure(&mut charts, title, &scatter(title, &drawn), clouds, note);
            }
            _ => {}
        }
    }
    if !charts.is_empty() {
        let _ = writeln!(html, "<div class=\"charts\">{charts}</div>");
    }
    let mut pictures = pictures.iter();
    for panel in panels {
        match panel {
            Panel::Table {
                title,
                columns,
                rows,
                note,
            } => table(&mut html, title, columns, rows, note),
            Panel::Picture { title, note, .. } => {
                let shown = pictures.next().filter(|p| !p.bytes.is_empty());
                let body = match shown {
                    Some(picture) => format!(
                        "<div><img alt=\"{}\" src=\"data:{};base64,{}\"></div>",
                        escape(title),
                        picture.media_type,
                        base64(&picture.bytes)
                    ),
                    None => "<p class=\"soft\">not drawn yet</p>".to_owned(),
                };
                let _ = writeln!(
                    html,
                    "<figure class=\"picture\"><figcaption><h3>{}</h3></figcaption>{body}{}</figure>",
                    escape(title),
                    small(note)
                );
            }
            _ => {}
        }
    }
    html
}

fn figure_text(value: f64) -> String {
    match value.abs() {
        size if (0.001..10.0).contains(&size) => format!("{value:.3}"),
        _ => short(value),
    }
}

fn series(line: &NamedPoints) -> Series {
    Series {
        name: line.name.clone(),
        points: line.points.clone(),
    }
}

fn small(note: &str) -> String {
    match note.is_empty() {
        true => String::new(),
        false => format!("<p><small>{}</small></p>", escape(note)),
    }
}

fn figure(html: &mut String, title: &str, svg: &str, of: &[NamedPoints], note: &str) {
    let _ = write!(
        html,
        "<figure><figcaption><h3>{}</h3></figcaption>{svg}",
        escape(title)
    );
    if of.len() > 1 {
        html.push_str("<div class=\"legend\">");
        for (k, named) in of.iter().enumerate() {
            let _ = write!(
                html,
                "<span><i class=\"b{}\"></i>{}</span>",
                k % SERIES_COLOURS,
                escape(&named.name)
            );
        }
        html.push_str("</div>");
    }
    let _ = writeln!(html, "{}</figure>", small(note));
}

fn table(html: &mut String, title: &str, columns: &[String], rows: &[Vec<String>], note: &str) {
    let _ = write!(
        html,
        "<h3>{}</h3>\n<div class=\"scroll\"><table><tr>",
        escape(title)
    );
    for column in columns {
        let _ = write!(html, "<th>{}</th>", escape(column));
    }
    html.push_str("</tr>");
    for row in rows {
        html.push_str("<tr>");
        for field in row {
            let _ = write!(html, "<td>{}</td>", escape(field));
        }
        html.push_str("</tr>");
    }
    let _ = writeln!(html, "</table></div>{}", small(note));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn all() -> Vec<Panel> {
        let line = |name: &str| NamedPoints {
            name: name.into(),
            points: vec![(0.0, 0.5), (1.0, 0.25)],
        };
        vec![
            Panel::figures(
                "Scores",
                vec![Figure::new("EER", f64::NAN), Figure::new("AUC", 0.99)],
            ),
            Panel::Lines {
                title: "ROC".into(),
                x_label: "false accepts".into(),
                lines: vec![line("<a>"), line("b")],
                note: "up is good".into(),
            },
            Panel::Scatter {
                title: "Map".into(),
                clouds: vec![line("0"), line("1")],
                note: String::new(),
            },
            Panel::Table {
                title: "Learners".into(),
                columns: vec!["learner".into(), "%".into()],
                rows: vec![vec!["nca".into(), "97.2".into()]],
                note: String::new(),
            },
            Panel::Picture {
                title: "Samples".into(),
                file: "samples.png".into(),
                note: String::new(),
            },
        ]
    }

    #[test]
    fn what_is_written_is_read_back_and_shown_with_its_pictures() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &all()).unwrap();
        let (panels, pictures) = read(folder.path()).unwrap();
        assert_eq!(panels, all());
        assert!(html(&panels, &pictures).contains("not drawn yet"));
        std::fs::write(folder.path().join("samples.png"), [1, 2, 3]).unwrap();
        let (panels, pictures) = read(folder.path()).unwrap();
        let page = html(&panels, &pictures);
        for part in [
            "<b>not a number</b><span>EER</span>",
            "<b>0.990</b><span>AUC</span>",
            "&lt;a&gt;",
            "up is good",
            "<td>nca</td><td>97.2</td>",
            "data:image/png;base64,AQID",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("<a>") && page.matches("<circle").count() >= 4);
    }

    #[test]
    fn a_picture_outside_the_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["../a.png", "/etc/passwd", "a/b.png", ""] {
            let panel = Panel::Picture {
                title: "x".into(),
                file: file.into(),
                note: String::new(),
            };
            write(folder.path(), &[panel]).unwrap();
            let error = read(folder.path()).unwrap_err().to_string();
            assert!(error.contains("is not a file of the folder"), "{error}");
        }
        std::fs::write(folder.path().join(PANELS_FILE), "[{\"kind\":").unwrap();
        assert!(read(folder.path()).is_err());
    }
}
