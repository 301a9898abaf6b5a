//! Graphs that stand for themselves: samples in, every output beside that of the f32 graph out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use roadhound_trainer::labelled::plain::{self, PlainConfig};
use roadhound_trainer::outputs;
use roadhound_trainer::quantise::chain::{Bench, Chain, ChainSamples, pixel_params};
use roadhound_trainer::quantise::report::Report;
use roadhound_trainer::quantise::search::Search;

use super::{CORRECTION_SAMPLES, NOISE_SAMPLES, QuantiseArguments, print};

pub(super) fn quantise(arguments: &QuantiseArguments, path: &Path) -> Result<()> {
    let targets = targets(&arguments.graphs, arguments.out.as_deref())?;
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        Ok((format!("{}", path.display()), bytes))
    };
    let read: Vec<(String, Vec<u8>)> = arguments.graphs.iter().map(read).collect::<Result<_>>()?;
    let sizes: Vec<usize> = read.iter().map(|(_, bytes)| bytes.len()).collect();
    let chain = Chain::new(read)?;
    let mut config = PlainConfig {
        pictures: chain.pictures(),
        ..PlainConfig::default()
    };
    if let Some(array) = &arguments.array {
        config.array.clone_from(array);
    }
    let samples = plain::open(path, &config)?;
    let (calibration, held_out) = split(samples.len(), arguments.calibration, arguments.pairs);
    ensure!(
        !calibration.is_empty() && !held_out.is_empty(),
        "{}: {} samples, of which --calibration {} and --pairs {} leave none to calibrate on, or none to measure on",
        path.display(),
        samples.len(),
        arguments.calibration,
        arguments.pairs
    );
    let some = |chosen| ChainSamples {
        chain: &chain,
        samples: &samples,
        chosen,
    };
    // Graphs and samples are held against each other before anything is run.
    chain.sources(&samples)?;
    let (bench, f32) = Bench::new(some(&held_out))?;
    let found = Search {
        samples: &some(&calibration),
        few: &some(&calibration[..calibration.len().min(CORRECTION_SAMPLES)]),
        observers: &arguments.observers,
        pixels: pixel_params()?,
        alike: 0.0,
        bar: &|steps, message| arguments.bar(steps, message),
    }
    .run(&|| chain.sources(&samples), &|graphs| bench.figures(graphs))?;
    let noise = found.noise(&some(&held_out[..held_out.len().min(NOISE_SAMPLES)]))?;
    let names: Vec<&str> = chain.names().collect();
    let conditions = format!(
        "Calibrated on {} samples of {}, measured on {} others; {} pairs of layers can be equalised.",
        calibration.len(),
        path.display(),
        held_out.len(),
        found.equalisable
    );
    let sizes = sizes.into_iter().zip(found.graphs.iter().map(Vec::len));
    let report = Report {
        name: &names.join(", "),
        conditions: &conditions,
        rule: "The least noise as a share of the signal, over all outputs, is taken.",
        f32: &f32,
        chosen: &found,
        graphs: &names,
        noise: &noise,
        sizes: &sizes.collect::<Vec<_>>(),
    }
    .markdown();
    print(&report);
    for (target, bytes) in targets.graphs.iter().zip(&found.graphs) {
        outputs::file(target, bytes)?;
        log::info!("{}: by {}", target.display(), found.trial().name);
    }
    outputs::file(&targets.report, report)
}

/// Where things go.
struct Targets {
    graphs: Vec<PathBuf>,
    report: PathBuf,
}

fn targets(graphs: &[PathBuf], out: Option<&Path>) -> Result<Targets> {
    let quantised = |graph: &PathBuf| graph.with_extension("int8.onnx");
    let beside: Vec<PathBuf> = match (out, graphs) {
        (Some(out), [_]) => vec![out.to_owned()],
        (Some(out), _) => {
            std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
            let names = graphs.iter().map(quantised);
            names
                .filter_map(|path| Some(out.join(path.file_name()?)))
                .collect()
        }
        (None, _) => graphs.iter().map(quantised).collect(),
    };
    let mut apart = beside.clone();
    apart.sort();
    apart.dedup();
    ensure!(
        apart.len() == graphs.len(),
        "two graphs would be written to one file"
    );
    if let Some(same) = beside.iter().find(|path| graphs.contains(path)) {
        anyhow::bail!("{}: the graph would be written over itself", same.display());
    }
    let report = beside.last().map(|path| path.with_extension("md"));
    Ok(Targets {
        report: report.context("no graph")?,
        graphs: beside,
    })
}

/// Samples to calibrate on and others to measure on, both spread over all of them: half of them at most are calibrated on.
fn split(count: usize, calibration: usize, held_out: u64) -> (Vec<usize>, Vec<usize>) {
    let spread = |of: usize, wanted: usize| {
        let wanted = wanted.min(of);
        (0..wanted).map(move |k| k * of / wanted)
    };
    let half = count / 2;
    let held_out = usize::try_from(held_out).unwrap_or(usize::MAX);
    let even = spread(half, calibration).map(|k| 2 * k);
    let odd = spread(half, held_out).map(|k| 2 * k + 1);
    (even.collect(), odd.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_measured_on_what_was_calibrated_on() {
        let (a, b) = split(10, 3, 100);
        assert_eq!((a, b), (vec![0, 2, 6], vec![1, 3, 5, 7, 9]));
        assert_eq!(split(1, 5, 5), (vec![], vec![]));
        assert_eq!(split(10, 0, 1), (vec![], vec![1]));
    }

    #[test]
    fn a_graph_is_not_written_over_itself_and_two_not_over_each_other() {
        let one = |name: &str| vec![PathBuf::from(name)];
        let beside = targets(&one("m/a.onnx"), None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(beside.graphs, one("m/a.int8.onnx"));
        assert_eq!(beside.report, PathBuf::from("m/a.int8.md"));
        assert!(targets(&one("a.onnx"), Some("a.onnx".as_ref())).is_err());
        assert!(targets(&["a.onnx".into(), "a.onnx".into()], None).is_err());
    }
}
