//! What the page shows of made samples.

use std::path::Path;

use candle_core::Result;

use super::{APART, GanTask, SCORING};
use crate::gan::CodeConfig;
use crate::gan::coverage::RingConfig;
use crate::labelled::sheet::sheet;
use crate::model::Pass;
use crate::outputs;
use crate::report::panels::{NamedPoints, Panel};

/// Columns of the pictures, and points of a ring that are drawn.
const SHOWN: usize = 12;
const POINTS_SHOWN: usize = 1000;

impl GanTask {
    pub(super) fn ring_panels(&self, ring: &RingConfig) -> Result<Vec<Panel>> {
        let (rows, _) = self.scored(self.run.evaluate.samples.min(POINTS_SHOWN))?;
        let points = |values: &[f32]| {
            let pair = |p: &[f32]| (f64::from(p[0]), f64::from(p[1]));
            values.chunks_exact(2).map(pair).collect()
        };
        let real = self.held_out.rows(0..self.held_out.len().min(POINTS_SHOWN));
        let named = |name: &str, values: &[f32]| NamedPoints {
            name: name.into(),
            points: points(values),
        };
        let mut panels = vec![Panel::Scatter {
            title: "Points".into(),
            clouds: vec![named("real", &real), named("made", &rows)],
            note: "One scale on both axes.".into(),
        }];
        if let Some(coverage) = &self.coverage {
            let share = |mode: usize| {
                let share = coverage.counts[mode] / coverage.samples.max(1) as f64;
                vec![format!("mode {mode}"), format!("{:.2}", 100.0 * share)]
            };
            panels.push(Panel::Table {
                title: "Share of the made points by mode".into(),
                columns: vec!["mode".into(), "% within three deviations".into()],
                rows: (0..ring.modes).map(share).collect(),
                note: format!(
                    "The fair share is {:.2} %.",
                    100.0 / ring.modes.max(1) as f64
                ),
            });
        }
        Ok(panels)
    }

    pub(super) fn pictures(&self, folder: &Path) -> anyhow::Result<Vec<Panel>> {
        let (net, shape) = (&self.average, self.held_out.shape());
        let made = |codes: Vec<f32>| -> anyhow::Result<Vec<Vec<f32>>> {
            let count = codes.len() / net.code().len();
            Ok(net
                .made(&net.tensor(codes, count)?, Pass::Eval)?
                .to_vec2::<f32>()?)
        };
        let picture = |title: &str, file: &str, lines: Vec<Vec<Vec<f32>>>, note: &str| {
            outputs::picture(&folder.join(file), &sheet(&lines, shape))?;
            anyhow::Ok(Panel::Picture {
                title: title.into(),
                file: file.into(),
                note: note.into(),
            })
        };
        let lines = |rows: Vec<Vec<f32>>| -> Vec<Vec<Vec<f32>>> {
            rows.chunks(SHOWN).map(<[Vec<f32>]>::to_vec).collect()
        };
        let drawn = net.draw(6 * SHOWN, self.run.seed ^ SCORING, APART + 1);
        let mut panels = vec![picture(
            "Made samples",
            "samples.png",
            lines(made(drawn.rows.clone())?),
            "Codes are drawn once for all.",
        )?];
        let CodeConfig {
            categories,
            continuous,
            ..
        } = *net.code();
        let length = net.code().len();
        let base = |column: usize| drawn.rows[column * length..(column + 1) * length].to_vec();
        if categories > 0 {
            let mut rows = Vec::new();
            for category in 0..categories.min(2 * SHOWN) {
                for column in 0..SHOWN {
                    let mut code = base(column);
                    for (k, value) in code[..categories].iter_mut().enumerate() {
                        *value = f32::from(k == category);
                    }
                    rows.append(&mut code);
                }
            }
            panels.push(picture(
                "One category a row",
                "categories.png",
                lines(made(rows)?),
                "Samples of one column have the rest of their code in common. A code that means something shows one class a row.",
            )?);
        }
        if continuous > 0 {
            let mut rows = Vec::new();
            for value in 0..continuous.min(4) {
                for start in 0..2 {
                    for column in 0..SHOWN {
                        let mut code = base(start);
                        let along = column as f32 / (SHOWN - 1) as f32;
                        code[categories + value] = 2.0 * along - 1.0;
                        rows.append(&mut code);
                    }
                }
            }
            panels.push(picture(
                "A continuous value from -1 to 1 along each row",
                "continuous.png",
                lines(made(rows)?),
                "Two rows a value.",
            )?);
        }
        Ok(panels)
    }
}

/// What a figure is called on the page.
pub(super) fn name_of(figure: &str) -> &str {
    match figure {
        "frechet" => "Frechet distance to held-out samples",
        "modes" => "modes made",
        "high_quality" => "share within three deviations of a mode",
        "divergence" => "divergence of the modes' shares, nats",
        "code_error" => "error of the category as the class of held-out samples",
        "made_error" => "the same of made samples, by the judge",
        "code_nats" => "what the category says of the class, nats",
        "shared_nats" => "what the category of a sample says of that of the same one moved, nats",
        other => other,
    }
}
