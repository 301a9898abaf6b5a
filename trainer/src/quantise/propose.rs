//! The graph that finds road users: how it is fed, and what eight bits do to its proposals.
//!
//! In: the graph with its contract, and whole frames, letterboxed as on the board. Out: [`FrameSamples`] to calibrate on,
//! and a [`Bench`] that measures graphs: average precision and recall on frames whose every road user is known, and on
//! those and others how many proposals are the f32 graph's.

use anyhow::{Context, Result, ensure};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::propose::{
    Proposal, ProposalConfig, Proposals, ProposeContract, ProposeDecoder, ProposeNetwork,
    ProposeOutputs,
};

use super::report::{Figure, Figures};
use super::source::{Role, Source};
use super::{Run, Samples};
use crate::detection::{
    FALSE_ALARMS, FoundFrame, LEAST_IOU, LEAST_SCORE, mean_average_precision,
    recall_at_false_alarms,
};
use crate::evaluate::planar;
use crate::export::array::Array;
use crate::export::propose::OnnxProposer;
use crate::scenes::SceneView;

/// `propose.onnx`.
///
/// # Errors
/// A graph that cannot be run, or is quantised already.
pub fn sources(graph: &[u8], contract: &ProposeContract) -> Result<Vec<Source>> {
    let source = Source::new(graph, &[(&contract.tensors.frame.name, Role::Pixels)]);
    Ok(vec![source.with_context(|| contract.file.clone())?])
}

/// Whole frames as the network reads them.
pub struct FrameSamples<'a> {
    /// Of the contract's size.
    pub frames: &'a [SceneView],
    /// Names, shapes and normalisation.
    pub contract: &'a ProposeContract,
}

impl Samples for FrameSamples<'_> {
    fn count(&self) -> usize {
        self.frames.len()
    }

    fn forward(&self, index: usize, run: &mut Run<'_>) -> Result<()> {
        let tensor = &self.contract.tensors.frame;
        let values = planar(&self.frames[index].rgb, &self.contract.normalisation);
        let frame = Array::new(tensor.shape.clone(), values).context("a frame of another size")?;
        run(0, &[(&tensor.name, frame)])?;
        Ok(())
    }
}

/// What a graph says of a frame.
struct Answer {
    /// From the lowest score on that average precision looks at.
    all: Proposals,
    /// As the board reads them.
    read: Proposals,
    outputs: ProposeOutputs,
}

/// What graphs are measured on.
pub struct Bench<'a> {
    contract: &'a ProposeContract,
    decoder: ProposeDecoder,
    /// Frames whose every road user is known.
    labelled: &'a [SceneView],
    /// Others.
    further: &'a [SceneView],
    /// What the f32 graph says about all of them.
    plain: Vec<Answer>,
}

impl<'a> Bench<'a> {
    /// Runs the f32 graph; returns its figures as well.
    ///
    /// # Errors
    /// Frames of another size, or none; those of the graph.
    pub fn new(
        contract: &'a ProposeContract,
        graph: &[u8],
        labelled: &'a [SceneView],
        further: &'a [SceneView],
    ) -> Result<(Self, Figures)> {
        ensure!(
            !labelled.is_empty() || !further.is_empty(),
            "no frames to measure on"
        );
        let mut bench = Self {
            contract,
            decoder: ProposeDecoder::new(contract),
            labelled,
            further,
            plain: Vec::new(),
        };
        bench.plain = bench.answers(graph)?;
        let figures = bench.told(&bench.plain, None);
        Ok((bench, figures))
    }

    /// What is measured of a quantised graph.
    ///
    /// # Errors
    /// Those of the graph.
    pub fn figures(&self, graph: &[u8]) -> Result<Figures> {
        let answers = self.answers(graph)?;
        let beside = self.beside(&answers);
        Ok(self.told(&answers, Some(&beside)))
    }

    fn answers(&self, graph: &[u8]) -> Result<Vec<Answer>> {
        let mut network = OnnxProposer::new(graph, self.contract)?;
        let read = self.contract.decode;
        let all = ProposalConfig {
            min_score: LEAST_SCORE.min(read.min_score),
            ..read
        };
        let frames = self.labelled.iter().chain(self.further);
        let answer = |frame: &SceneView| {
            let values = planar(&frame.rgb, &self.contract.normalisation);
            let mut answer = Answer {
                all: Proposals::new(),
                read: Proposals::new(),
                outputs: ProposeOutputs::for_contract(self.contract),
            };
            network.propose(&values, &mut answer.outputs)?;
            let Answer {
                all: every,
                read: some,
                outputs,
            } = &mut answer;
            self.decoder.decode(outputs, &all, every);
            self.decoder.decode(outputs, &read, some);
            Ok(answer)
        };
        frames.map(answer).collect()
    }

    fn told(&self, answers: &[Answer], beside: Option<&Beside>) -> Figures {
        let frames: Vec<FoundFrame> = self
            .labelled
            .iter()
            .zip(answers)
            .map(|(view, answer)| FoundFrame::of(view, &answer.all))
            .collect();
        let (precision, recall) = (
            mean_average_precision(&frames, LEAST_IOU),
            recall_at_false_alarms(&frames, FALSE_ALARMS, LEAST_IOU),
        );
        let against =
            |name: &str, of: fn(&Beside) -> f64| Figure::against_f32(name, beside.map(of));
        Figures {
            merit: (precision + recall) / 2.0,
            nearness: beside.map_or(1.0, |b| b.agreement() * b.overlap()),
            all: vec![
                Figure::new("AP50, rendered scenes", precision),
                Figure::new("recall at one false alarm a frame", recall),
                against("proposals that both have", Beside::agreement),
                against("overlap of those", Beside::overlap),
                against("their scores moved by", Beside::score_moved),
                against("cosine of embeddings", Beside::cosine),
            ],
        }
    }

    /// Proposals beside those of the f32 graph.
    fn beside(&self, answers: &[Answer]) -> Beside {
        let mut beside = Beside::default();
        let values = self.contract.embedding_size;
        let (mut a, mut b) = (vec![0.0; values], vec![0.0; values]);
        for (plain, answer) in self.plain.iter().zip(answers) {
            beside.plain += plain.read.len();
            beside.quantised += answer.read.len();
            for (one, other) in matched(&plain.read, &answer.read) {
                let iou = BoxXywh::from(one.box_in_input).iou(&other.box_in_input.into());
                beside.both += 1;
                beside.overlap += f64::from(iou);
                beside.score_moved += f64::from((one.score - other.score).abs());
            }
            // Embeddings at one place, so that a peak that has moved a cell is no other look.
            for proposal in &plain.read {
                let known = self
                    .decoder
                    .embedding_at(&plain.outputs, proposal.cell, &mut a)
                    && self
                        .decoder
                        .embedding_at(&answer.outputs, proposal.cell, &mut b);
                if known {
                    let product: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
                    beside.cosine += f64::from(product);
                    beside.embeddings += 1;
                }
            }
        }
        beside
    }
}

/// Pairs of proposals of one kind that overlap by half or more, the surest first, each in one pair.
fn matched<'a>(
    plain: &'a [Proposal],
    quantised: &'a [Proposal],
) -> impl Iterator<Item = (&'a Proposal, &'a Proposal)> {
    let mut free = vec![true; quantised.len()];
    plain.iter().filter_map(move |one| {
        let here = BoxXywh::from(one.box_in_input);
        let overlap = |at: &usize| here.iou(&quantised[*at].box_in_input.into());
        let candidates =
            (0..quantised.len()).filter(|at| free[*at] && quantised[*at].class == one.class);
        let nearest = candidates.max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
        let nearest = nearest.filter(|at| overlap(at) >= LEAST_IOU)?;
        free[nearest] = false;
        Some((one, &quantised[nearest]))
    })
}

/// Sums over all frames.
#[derive(Default)]
struct Beside {
    plain: usize,
    quantised: usize,
    both: usize,
    overlap: f64,
    score_moved: f64,
    cosine: f64,
    embeddings: usize,
}

impl Beside {
    /// Twice the proposals that both have, as a share of all that either has; 1 where neither has one.
    fn agreement(&self) -> f64 {
        match self.plain + self.quantised {
            0 => 1.0,
            all => 2.0 * self.both as f64 / all as f64,
        }
    }

    fn overlap(&self) -> f64 {
        self.overlap / self.both.max(1) as f64
    }

    fn score_moved(&self) -> f64 {
        self.score_moved / self.both.max(1) as f64
    }

    fn cosine(&self) -> f64 {
        self.cosine / self.embeddings.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadhound_shared::geometry::BoxLtrb;
    use roadhound_shared::propose::RoadUser;

    fn proposal(class: RoadUser, x: f32, score: f32) -> Proposal {
        Proposal {
            class,
            score,
            box_in_input: BoxLtrb::new(x, 10.0, x + 20.0, 30.0),
            cell: 0,
        }
    }

    #[test]
    fn each_proposal_is_matched_once_with_one_of_its_kind() {
        let plain = [
            proposal(RoadUser::Car, 10.0, 0.9),
            proposal(RoadUser::Car, 12.0, 0.5),
            proposal(RoadUser::Bus, 60.0, 0.4),
        ];
        let quantised = [
            proposal(RoadUser::Car, 11.0, 0.8),
            proposal(RoadUser::Truck, 60.0, 0.4),
        ];
        let pairs: Vec<_> = matched(&plain, &quantised).collect();
        assert_eq!(pairs, [(&plain[0], &quantised[0])]);
        let mut beside = Beside {
            plain: 3,
            quantised: 2,
            both: 1,
            ..Beside::default()
        };
        assert!((beside.agreement() - 0.4).abs() < 1e-9);
        beside = Beside::default();
        assert_eq!(beside.agreement(), 1.0);
    }
}
