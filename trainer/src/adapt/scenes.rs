//! Scenes of the target before and after: held-out clips, followed from what was proposed on their first frame.
//!
//! In: a [`Setting`] and the network that is kept. Out: pictures in the run's folder and panels that show them. No label of
//! the target is needed, and none is drawn.

use std::path::Path;

use anyhow::Result;

use super::setting::Setting;
use crate::data::sequence::Run;
use crate::evaluate::{self, Followed};
use crate::export::bundle;
use crate::export::interpret::OnnxNetwork;
use crate::model::TrackerNet;
use crate::outputs;
use crate::report::panels::Panel;

/// Proposals that are followed.
const FOLLOWED: usize = 12;
/// Those of them that are shown: where the two differ most.
const SHOWN: usize = 3;

impl Setting {
    /// Follows proposals of held-out clips with both networks, writes pictures of those where they differ most into `out`.
    ///
    /// # Errors
    /// Pictures that cannot be read or written.
    pub fn pictures(&self, kept: &TrackerNet, out: &Path) -> Result<Vec<Panel>> {
        let bench = self.bench();
        let runs: Vec<Run> = bench
            .seeds
            .iter()
            .take(FOLLOWED)
            .map(|seed| {
                let clip = &self.clips[seed.clip];
                let last = clip.frames.last().map_or(0.0, |(_, at)| at.0 as f64 / 1e6);
                let mut truth = vec![None; clip.frames.len()];
                truth[0] = Some(seed.box_in_image);
                Run {
                    name: clip.name.clone(),
                    frames: clip.frames.iter().map(|(path, _)| path.clone()).collect(),
                    truth,
                    fps: (clip.frames.len() - 1) as f64 / last.max(1e-3),
                    assisted: false,
                    class: Some(seed.kind.name().into()),
                }
            })
            .collect();
        let (graphs, contract) = (&self.files.f32, &self.files.manifest.follow);
        let tracker = &self.files.manifest.tracker;
        let before = OnnxNetwork::new(&graphs.template, &graphs.search, contract)?;
        let before = evaluate::follow_runs(before, contract, tracker, runs.clone(), None, |_| ())?;
        let (after, contract) = bundle::graphs_of(kept)?;
        let after = evaluate::follow_runs(after, &contract, tracker, runs, None, |_| ())?;
        let mut pairs: Vec<(&Followed, &Followed)> = before.iter().zip(&after).collect();
        pairs.sort_by(|a, b| alike(a.0, a.1).total_cmp(&alike(b.0, b.1)));
        let mut panels = Vec::new();
        for (number, (before, after)) in pairs.into_iter().take(SHOWN).enumerate() {
            let file = format!("scene_{number}.png");
            outputs::picture(&out.join(&file), &evaluate::sheet_of_both(before, after)?)?;
            panels.push(Panel::Picture {
                title: format!("Target scene {}", before.run.name),
                file,
                note: format!(
                    "A proposed {} of a held-out clip, followed by the source (blue) and by what is kept (green, yellow where it is uncertain, a red frame where it is lost). The first box was given; mean overlap of both {:.2}.",
                    before.run.class.as_deref().unwrap_or("road user"),
                    alike(before, after)
                ),
            });
        }
        Ok(panels)
    }
}

/// Mean overlap of what both say behind the first frame; 1 where both say that nothing is there.
fn alike(a: &Followed, b: &Followed) -> f64 {
    let both = a.reports.iter().zip(&b.reports).skip(1);
    let overlaps: Vec<f64> = both
        .map(|(a, b)| match (a.box_in_image, b.box_in_image) {
            (Some(a), Some(b)) => f64::from(a.iou(&b)),
            (None, None) => 1.0,
            _ => 0.0,
        })
        .collect();
    overlaps.iter().sum::<f64>() / overlaps.len().max(1) as f64
}
