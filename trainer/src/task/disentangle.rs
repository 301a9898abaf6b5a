//! The task of a code in two parts: `s` says the class, `z` says the rest.
//!
//! In: batches of pairs of one class. Out: the losses of encoder and decoder, and of who keeps the class out of `z`: a
//! discriminator of pairs (Mathieu et al. 2016) or the encoder's reverse cycle (Jha et al. 2018). Sums over a sample are divided by
//! its number of values, so that weights mean the same on samples of any size.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;

use super::{BestBy, Player, StepLoss, Task, Turn};
use crate::autoencoder::Covariance;
use crate::autoencoder::posterior::Gaussian;
use crate::disentangle::pairs::PairBatch;
use crate::disentangle::scores::{Factor, Scores};
use crate::disentangle::{DisentangleRun, JhaConfig, MathieuConfig, Method};
use crate::epochs::rng_at;
use crate::labelled::sheet::sheet;
use crate::labelled::{Samples, Shape};
use crate::loss::adversarial::{self, GeneratorLoss};
use crate::model::Pass;
use crate::model::net::sigmoid;
use crate::model::stack::{Stack, StackError};
use crate::ops::Precision;
use crate::outputs;
use crate::params::{ParamBuilder, Params, Snapshot, normal};
use crate::probe::Probe;
use crate::report::map::map_of_points;
use crate::report::panels::{Figure, Panel};

const EVALUATION_BATCH: usize = 500;
/// Rows and columns of the swap grid.
const SWAPPED: usize = 10;
/// Samples on the maps.
const MAPPED: usize = 2000;

const DRAWS: u64 = 61;
const CYCLE: u64 = 62;
const SCORING: u64 = 63;
/// Steps of a run are below this, what is drawn for scores is above.
const APART: u64 = 1 << 60;

/// Accuracies on MNIST, 16 and 16 values, as an implementation of both published them (test samples, `z` and `s`).
const PUBLISHED: [(&str, &str, &str); 2] =
    [("mathieu", "66.83", "98.52"), ("jha", "17.56", "98.35")];

/// Convolutions have no normalisation here: training and evaluation compute the same.
const TRAIN: Pass = Pass::TrainFrozen {
    precision: Precision::F32,
};

/// Encoder, decoder, and of Mathieu's method the discriminator of pairs.
pub struct DisentangleNet {
    params: Params,
    encoder: Stack,
    decoder: Stack,
    discriminator: Option<Stack>,
    class_code: usize,
    rest_code: usize,
    shape: Shape,
    device: Device,
}

/// What the encoder says of samples.
pub struct Encoded {
    /// `s`, `[N, class_code]`.
    pub class: Tensor,
    /// The distribution of `z`.
    pub rest: Gaussian,
}

impl DisentangleNet {
    /// Born of the run's seed.
    ///
    /// # Errors
    /// Samples that the configured networks cannot take.
    pub fn new(
        run: &DisentangleRun,
        shape: Shape,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let mut builder = ParamBuilder::new(run.seed, device);
        let width = run.class_code + Gaussian::width(Covariance::Diagonal, run.rest_code);
        let network = &run.network;
        let encoder = Stack::encoder(&mut builder, "encoder", shape, network, width, false)?;
        let length = run.class_code + run.rest_code;
        let decoder = Stack::decoder(&mut builder, "decoder", length, network, shape)?;
        let discriminator = match &run.method {
            Method::Mathieu(config) => {
                let both = Shape {
                    channels: 2 * shape.channels,
                    ..shape
                };
                let (name, widths) = ("discriminator", &config.discriminator);
                Some(Stack::encoder(&mut builder, name, both, widths, 1, false)?)
            }
            Method::Jha(_) => None,
        };
        Ok(Self {
            params: builder.finish(),
            encoder,
            decoder,
            discriminator,
            class_code: run.class_code,
            rest_code: run.rest_code,
            shape,
            device: device.clone(),
        })
    }

    /// Its variables.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// From samples.
    pub fn encoder(&self) -> &Stack {
        &self.encoder
    }

    /// To samples.
    pub fn decoder(&self) -> &Stack {
        &self.decoder
    }

    /// Values of `s`.
    pub fn class_code(&self) -> usize {
        self.class_code
    }

    /// Values of `s` and `z` together.
    pub fn code_length(&self) -> usize {
        self.class_code + self.rest_code
    }

    /// Whether samples are pictures, whose values are between 0 and 1.
    pub fn makes_pictures(&self) -> bool {
        self.shape.is_picture()
    }

    /// Where it is computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn tensor(&self, values: Vec<f32>, count: usize) -> Result<Tensor> {
        let length = values.len() / count.max(1);
        Tensor::from_vec(values, (count, length), &self.device)
    }

    /// Both parts of the code of samples.
    ///
    /// # Shapes
    /// `rows` `[N, length of a sample]`.
    ///
    /// # Errors
    /// Samples of another length.
    pub fn encode(&self, rows: &Tensor, pass: Pass) -> Result<Encoded> {
        let row = self.encoder.forward(rows, pass)?;
        let width = Gaussian::width(Covariance::Diagonal, self.rest_code);
        let rest = row.narrow(1, self.class_code, width)?.contiguous()?;
        Ok(Encoded {
            class: row.narrow(1, 0, self.class_code)?.contiguous()?,
            rest: Gaussian::of_rows(&rest, Covariance::Diagonal, self.rest_code)?,
        })
    }

    /// Samples of both parts of codes.
    ///
    /// # Errors
    /// Parts of other lengths.
    pub fn decoded(&self, class: &Tensor, rest: &Tensor) -> Result<Tensor> {
        self.decode(&Tensor::cat(&[class, rest], 1)?)
    }

    /// Samples of codes, `s` and then `z`.
    ///
    /// # Errors
    /// Codes of another length.
    pub fn decode(&self, codes: &Tensor) -> Result<Tensor> {
        let values = self.decoder.forward(codes, TRAIN)?;
        match self.makes_pictures() {
            true => sigmoid(&values),
            false => Ok(values),
        }
    }

    /// The logarithm of the odds that two samples are real and of one class.
    fn judged(&self, first: &Tensor, second: &Tensor) -> Result<Tensor> {
        let Some(discriminator) = &self.discriminator else {
            candle_core::bail!("only mathieu has a discriminator")
        };
        let (n, length) = first.dims2()?;
        let channels = self.shape.channels;
        let pixels = |rows: &Tensor| rows.reshape((n, length / channels, channels));
        let both = Tensor::cat(&[pixels(first)?, pixels(second)?], 2)?;
        discriminator.forward(&both.reshape((n, 2 * length))?, TRAIN)
    }

    /// Noise for so many `z`.
    fn noise(&self, count: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let values = (0..count * self.rest_code).map(|_| normal(rng));
        self.tensor(values.collect(), count)
    }

    /// Squared error of each sample over its number of values, mean of all.
    fn lost(&self, decoded: &Tensor, rows: &Tensor) -> Result<Tensor> {
        (decoded - rows)?.sqr()?.mean_all()
    }

    /// What `z` costs, over the number of a sample's values, mean of all.
    fn cost(&self, rest: &Gaussian) -> Result<Tensor> {
        rest.divergence_from_standard()?.mean_all()? / self.shape.len() as f64
    }

    /// Codes of samples: `s`, then the mean of `z`.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn codes(&self, samples: &Samples) -> Result<Vec<Vec<f32>>> {
        let mut codes = Vec::with_capacity(samples.len());
        self.each(samples, |encoded| {
            let both = Tensor::cat(&[&encoded.class, &encoded.rest.mean], 1)?;
            codes.extend(both.to_vec2::<f32>()?);
            Ok(())
        })?;
        Ok(codes)
    }

    fn each(&self, samples: &Samples, mut of: impl FnMut(&Encoded) -> Result<()>) -> Result<()> {
        for start in (0..samples.len()).step_by(EVALUATION_BATCH) {
            let end = samples.len().min(start + EVALUATION_BATCH);
            let rows = self.tensor(samples.rows(start..end), end - start)?;
            of(&self.encode(&rows, Pass::Eval)?)?;
        }
        Ok(())
    }

    /// The parts of the codes of samples, one after the other.
    fn parts(&self, samples: &Samples, draws: usize, seed: u64, step: u64) -> Result<Parts> {
        let mut parts = Parts {
            drawn: vec![Vec::new(); draws],
            ..Parts::default()
        };
        let mut rng = rng_at(seed, SCORING, step);
        let put = |values: &mut Vec<f32>, tensor: &Tensor| -> Result<()> {
            values.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
            Ok(())
        };
        self.each(samples, |encoded| {
            put(&mut parts.class, &encoded.class)?;
            put(&mut parts.mean, &encoded.rest.mean)?;
            for drawn in &mut parts.drawn {
                let noise = self.noise(encoded.class.dim(0)?, &mut rng)?;
                put(drawn, &encoded.rest.draw(&noise)?)?;
            }
            Ok(())
        })?;
        Ok(parts)
    }
}

/// The parts of the codes of samples.
#[derive(Default)]
struct Parts {
    /// `s`.
    class: Vec<f32>,
    /// `z`, once a draw.
    drawn: Vec<Vec<f32>>,
    /// The mean of `z`.
    mean: Vec<f32>,
}

/// The task; see the module head.
pub struct DisentangleTask {
    run: DisentangleRun,
    net: DisentangleNet,
    average: DisentangleNet,
    probed: Samples,
    held_out: Arc<Samples>,
    factors: Vec<Factor>,
    figures: Vec<(&'static str, f64)>,
    information: Vec<Vec<f64>>,
}

impl DisentangleTask {
    /// New networks, and second ones that are given averaged weights to be scored. Probes are taught on the codes of `train`;
    /// `factors` are those of the held-out samples, where they are known.
    ///
    /// # Errors
    /// Samples that the configured networks cannot take.
    pub fn new(
        run: &DisentangleRun,
        train: &Samples,
        held_out: Arc<Samples>,
        factors: Vec<Factor>,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let shape = held_out.shape();
        let most = match run.probe.samples {
            0 => usize::MAX,
            samples => samples,
        };
        let probed: Vec<usize> = (0..train.len().min(most)).collect();
        Ok(Self {
            run: run.clone(),
            net: DisentangleNet::new(run, shape, device)?,
            average: DisentangleNet::new(run, shape, device)?,
            probed: train.chosen(&probed),
            held_out,
            factors,
            figures: Vec::new(),
            information: Vec::new(),
        })
    }

    /// The networks with the weights of the last validation.
    pub fn averaged(&self) -> &DisentangleNet {
        &self.average
    }

    /// Jha's forward cycle: each sample back from its own `z` and its mate's `s`, and the mate the other way round.
    fn forward_cycle(&self, batch: &PairBatch, step: u64) -> Result<StepLoss> {
        let net = &self.net;
        let n = batch.count;
        let rows = [batch.first.as_slice(), &batch.mate].concat();
        let rows = net.tensor(rows, 2 * n)?;
        let encoded = net.encode(&rows, TRAIN)?;
        let mut rng = rng_at(self.run.seed, DRAWS, step);
        let rest = encoded.rest.draw(&net.noise(2 * n, &mut rng)?)?;
        let half = |from: usize| encoded.class.narrow(0, from, n);
        let swapped = Tensor::cat(&[half(n)?, half(0)?], 0)?;
        let lost = net.lost(&net.decoded(&swapped, &rest)?, &rows)?;
        let cost = net.cost(&encoded.rest)?;
        self.bound(lost, cost)
    }

    fn bound(&self, lost: Tensor, cost: Tensor) -> Result<StepLoss> {
        let length = self.net.shape.len() as f32;
        let parts = vec![
            ("squared_error", lost.to_scalar::<f32>()?),
            ("divergence", length * cost.to_scalar::<f32>()?),
        ];
        let total = ((lost * self.run.reconstruction)? + (cost * self.run.divergence)?)?;
        Ok(StepLoss { total, parts })
    }

    /// Jha's reverse cycle: one drawn `z` with the `s` of two samples, there and back.
    fn reverse_cycle(&self, batch: &PairBatch, config: &JhaConfig, step: u64) -> Result<StepLoss> {
        let net = &self.net;
        let n = batch.count;
        let rows = [batch.first.as_slice(), &batch.other].concat();
        let class = net.encode(&net.tensor(rows, 2 * n)?, TRAIN)?.class.detach();
        let mut rng = rng_at(self.run.seed, CYCLE, step);
        let drawn = net.noise(n, &mut rng)?;
        let made = net.decoded(&class, &Tensor::cat(&[&drawn, &drawn], 0)?)?;
        let back = net.encode(&made, TRAIN)?.rest.mean;
        let apart = (back.narrow(0, 0, n)? - back.narrow(0, n, n)?)?;
        let apart = apart.abs()?.mean_all()?;
        let parts = vec![("cycle", apart.to_scalar()?)];
        Ok(StepLoss {
            total: (apart * config.reverse)?,
            parts,
        })
    }

    /// Samples of the first ones' `z`, and of drawn ones, in the class of the others; and what the first ones lose on the way
    /// with their own `s` and with their mates'.
    fn mixed(&self, batch: &PairBatch, step: u64) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
        let net = &self.net;
        let n = batch.count;
        let rows = [batch.first.as_slice(), &batch.mate, &batch.other].concat();
        let rows = net.tensor(rows, 3 * n)?;
        let first = rows.narrow(0, 0, n)?;
        let encoded = net.encode(&rows, TRAIN)?;
        let of_first = encoded.rest.narrow(0, n)?;
        let mut rng = rng_at(self.run.seed, DRAWS, step);
        let rest = of_first.draw(&net.noise(n, &mut rng)?)?;
        let drawn = net.noise(n, &mut rng)?;
        // s of the first, the mate, the other, the other; z of the first, the first, the first, nobody.
        let other = encoded.class.narrow(0, 2 * n, n)?;
        let class = Tensor::cat(&[&encoded.class, &other], 0)?;
        let rest = Tensor::cat(&[&rest, &rest, &rest, &drawn], 0)?;
        let made = net.decoded(&class, &rest)?;
        let back = made.narrow(0, 0, 2 * n)?;
        let lost = net.lost(&back, &Tensor::cat(&[&first, &first], 0)?)?;
        let cost = net.cost(&of_first)?;
        let mixed = made.narrow(0, 2 * n, 2 * n)?.contiguous()?;
        let other = rows.narrow(0, 2 * n, n)?;
        let beside = Tensor::cat(&[&other, &other], 0)?;
        Ok((mixed, beside, lost, cost))
    }

    fn adversarial_turn(
        &self,
        batch: &PairBatch,
        config: &MathieuConfig,
        step: u64,
    ) -> Result<StepLoss> {
        let (mixed, beside, lost, cost) = self.mixed(batch, step)?;
        let StepLoss { total, mut parts } = self.bound(lost, cost)?;
        let logits = self.net.judged(&mixed, &beside)?;
        let fooled = adversarial::generator(&logits, GeneratorLoss::NonSaturating)?;
        parts.push(("fooled", fooled.to_scalar()?));
        Ok(StepLoss {
            total: (total + (fooled * config.adversarial)?)?,
            parts,
        })
    }

    fn discriminators_turn(
        &self,
        batch: &PairBatch,
        config: &MathieuConfig,
        step: u64,
    ) -> Result<Turn> {
        let net = &self.net;
        let n = batch.count;
        let (mixed, beside, _, _) = self.mixed(batch, step)?;
        let pair = [batch.other_mate.as_slice(), &batch.other].concat();
        let pair = net.tensor(pair, 2 * n)?;
        let real = net.judged(&pair.narrow(0, 0, n)?, &pair.narrow(0, n, n)?)?;
        let made = net.judged(&mixed.detach(), &beside)?;
        let total = adversarial::discriminator(&real, &made, 1.0)?;
        let share = |right: Tensor| -> Result<f64> {
            let right = right.to_dtype(candle_core::DType::F32)?;
            Ok(f64::from(right.mean_all()?.to_scalar::<f32>()?))
        };
        let accuracy = 0.5 * (share(real.gt(0.0)?)? + share(made.le(0.0)?)?);
        let parts = vec![
            ("discriminator", total.to_scalar()?),
            ("accuracy", accuracy as f32),
        ];
        let due = step.is_multiple_of(config.discriminator_every);
        let sits_out = !due || accuracy >= config.below_accuracy;
        Ok(Turn::unless(sits_out, StepLoss { total, parts }))
    }

    /// What probes find of the class in each part of the code: `s`, `z` as drawn, the mean of `z`.
    fn probed(&self) -> std::result::Result<[f64; 3], StackError> {
        let (net, config) = (&self.average, &self.run.probe);
        let train = net.parts(&self.probed, config.draws, self.run.seed, APART)?;
        let test = net.parts(&self.held_out, 1, self.run.seed, APART + 1)?;
        let found = |channels: usize, train: &[f32], draws: usize, test: &[f32]| {
            // As many steps, however many draws they are of.
            let mut classifier = config.classifier.clone();
            classifier.epochs /= draws as f64;
            let shape = Shape {
                height: 1,
                width: 1,
                channels,
            };
            let probe = Probe::taught(
                &classifier,
                shape,
                train,
                &self.probed.labels().repeat(draws),
                self.probed.class_count(),
                self.run.seed,
                &net.device,
            )?;
            let accuracy = probe.accuracy(test, self.held_out.labels())?;
            Ok::<_, StackError>(accuracy)
        };
        Ok([
            found(net.class_code, &train.class, 1, &test.class)?,
            found(
                net.rest_code,
                &train.drawn.concat(),
                config.draws,
                &test.drawn.concat(),
            )?,
            found(net.rest_code, &train.mean, 1, &test.mean)?,
        ])
    }

    /// The first held-out samples, of as many classes as there are.
    fn shown(&self) -> Vec<usize> {
        let classes = self.held_out.by_class();
        let longest = classes.iter().map(Vec::len).max().unwrap_or(0);
        let of_round = |round: usize| classes.iter().filter_map(move |of| of.get(round).copied());
        (0..longest).flat_map(of_round).take(SWAPPED).collect()
    }

    /// Every shown sample's class in every shown sample's manner.
    fn swap_grid(&self) -> Result<Vec<Vec<Vec<f32>>>> {
        let net = &self.average;
        let shown = self.held_out.chosen(&self.shown());
        let codes = net.codes(&shown)?;
        let length = self.held_out.shape().len();
        let mut header = vec![vec![1.0; length]];
        header.extend((0..shown.len()).map(|i| shown.row(i)));
        let mut grid = vec![header];
        for (i, rest) in codes.iter().enumerate() {
            let mixed: Vec<f32> = codes
                .iter()
                .flat_map(|class| {
                    let (class, rest) = (&class[..net.class_code], &rest[net.class_code..]);
                    [class, rest].concat()
                })
                .collect();
            let decoded = net.decode(&net.tensor(mixed, codes.len())?)?;
            let mut line = vec![shown.row(i)];
            line.extend(decoded.to_vec2::<f32>()?);
            grid.push(line);
        }
        Ok(grid)
    }

    fn table(&self) -> Panel {
        let percent = |name: &str| {
            let found = self.figures.iter().find(|(n, _)| *n == name);
            found.map_or_else(String::new, |(_, value)| format!("{:.2}", 100.0 * value))
        };
        let mut rows = vec![vec![
            format!("{}, this run", self.run.method.name()),
            percent("z_accuracy"),
            percent("z_mean_accuracy"),
            percent("s_accuracy"),
        ]];
        rows.extend(published_beside(
            self.held_out.shape(),
            self.held_out.class_count(),
        ));
        let columns = ["method", "z as drawn, %", "mean of z, %", "s, %"];
        Panel::Table {
            title: "What a probe finds of the class in the code".into(),
            columns: columns.map(str::to_owned).to_vec(),
            rows,
            note: "Accuracy on held-out samples. z should be at chance, s near the best that there is.".into(),
        }
    }

    fn information_table(&self) -> Option<Panel> {
        if self.information.is_empty() {
            return None;
        }
        let net = &self.average;
        let best = |row: &[f64]| -> Vec<String> {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            let name = |k: usize| match k < net.class_code {
                true => format!("s{k}"),
                false => format!("z{}", k - net.class_code),
            };
            let cell = |k: &usize| format!("{} {:.1} %", name(*k), 100.0 * row[*k]);
            order.iter().take(3).map(cell).collect()
        };
        let rows = self
            .factors
            .iter()
            .zip(&self.information)
            .map(|(factor, row)| {
                let mut cells = vec![factor.name.to_owned()];
                cells.extend(best(row));
                cells
            });
        Some(Panel::Table {
            title: "Which values of the code know a factor".into(),
            columns: ["factor", "most", "next", "third"]
                .map(str::to_owned)
                .to_vec(),
            rows: rows.collect(),
            note: "Mutual information in shares of the factor's entropy.".into(),
        })
    }
}

/// The rows of [`PUBLISHED`], where samples look like those of MNIST; beside others they say nothing.
fn published_beside(shape: Shape, classes: usize) -> Vec<Vec<String>> {
    let mnist = Shape {
        height: 28,
        width: 28,
        channels: 1,
    };
    let row = |(name, z, s): (&str, &str, &str)| {
        let name = format!("{name}, published for MNIST, 16 and 16 values");
        vec![name, z.to_owned(), String::new(), s.to_owned()]
    };
    match shape == mnist && classes == 10 {
        true => PUBLISHED.map(row).to_vec(),
        false => Vec::new(),
    }
}

impl Task for DisentangleTask {
    type Batch = PairBatch;

    fn params(&self) -> &Params {
        self.net.params()
    }

    fn loss(&self, batch: &PairBatch, step: u64) -> Result<StepLoss> {
        match &self.run.method {
            Method::Jha(_) => self.forward_cycle(batch, step),
            Method::Mathieu(config) => self.adversarial_turn(batch, config, step),
        }
    }

    fn players(&self) -> Vec<Player> {
        let params = self.net.params();
        let mut players = vec![Player {
            params: params.of(&["encoder.", "decoder."]),
            rate: 1.0,
        }];
        match &self.run.method {
            Method::Jha(config) if config.reverse > 0.0 => players.push(Player {
                params: params.of(&["encoder."]),
                rate: config.reverse_rate,
            }),
            Method::Jha(_) => {}
            Method::Mathieu(config) => players.push(Player {
                params: params.of(&["discriminator."]),
                rate: config.discriminator_rate,
            }),
        }
        players
    }

    fn turn(&self, player: usize, batch: &PairBatch, step: u64) -> Result<Turn> {
        let loss = match (player, &self.run.method) {
            (0, _) => self.loss(batch, step)?,
            (_, Method::Jha(config)) => self.reverse_cycle(batch, config, step)?,
            (_, Method::Mathieu(config)) => return self.discriminators_turn(batch, config, step),
        };
        Ok(Turn::whole(loss))
    }

    fn unit(&self) -> &'static str {
        "samples"
    }

    fn best_by(&self) -> BestBy {
        BestBy::Lowest("z_accuracy")
    }

    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.average.params().restore(snapshot)?;
        let net = &self.average;
        let (mut lost, mut cost) = (0.0, 0.0);
        for start in (0..self.held_out.len()).step_by(EVALUATION_BATCH) {
            let end = self.held_out.len().min(start + EVALUATION_BATCH);
            let rows = net.tensor(self.held_out.rows(start..end), end - start)?;
            let encoded = net.encode(&rows, Pass::Eval)?;
            let back = net.decoded(&encoded.class, &encoded.rest.mean)?;
            let errors = (back - &rows)?.sqr()?.mean(D::Minus1)?;
            lost += f64::from(errors.sum_all()?.to_scalar::<f32>()?);
            let nats = encoded.rest.divergence_from_standard()?;
            cost += f64::from(nats.sum_all()?.to_scalar::<f32>()?);
        }
        let count = self.held_out.len() as f64;
        let [class, drawn, mean] = self.probed()?;
        let mut figures = vec![
            ("z_accuracy", drawn),
            ("z_mean_accuracy", mean),
            ("s_accuracy", class),
            ("held_out_error", lost / count),
            ("z_nats", cost / count),
        ];
        if !self.factors.is_empty() {
            let codes = net.codes(&self.held_out)?;
            let codes: Vec<Vec<f64>> = codes
                .iter()
                .map(|code| code.iter().map(|v| f64::from(*v)).collect())
                .collect();
            let scores = Scores::of(&codes, &self.factors);
            figures.extend([
                ("mig", scores.mig),
                ("sap", scores.sap),
                ("dci_disentanglement", scores.disentanglement),
                ("dci_completeness", scores.completeness),
                ("dci_informativeness", scores.informativeness),
            ]);
            self.information = scores.information;
        }
        self.figures = figures;
        Ok(self.figures.clone())
    }

    fn panels(&mut self, folder: &Path) -> anyhow::Result<Vec<Panel>> {
        let figures = self
            .figures
            .iter()
            .map(|(name, value)| Figure::new(name_of(name), *value));
        let mut panels = vec![
            Panel::figures("Held-out samples", figures.collect()),
            self.table(),
        ];
        panels.extend(self.information_table());
        let mapped: Vec<usize> = (0..self.held_out.len().min(MAPPED)).collect();
        let mapped = self.held_out.chosen(&mapped);
        let codes = self.average.codes(&mapped)?;
        let part = |of: fn(&[f32], usize) -> &[f32]| -> Vec<Vec<f32>> {
            codes
                .iter()
                .map(|code| of(code, self.average.class_code).to_vec())
                .collect()
        };
        let (class, rest) = (part(|code, at| &code[..at]), part(|code, at| &code[at..]));
        panels.push(map_of_points("Map of s", &class, &mapped));
        panels.push(map_of_points("Map of the mean of z", &rest, &mapped));
        let file = "swaps.png";
        let shape = self.held_out.shape();
        outputs::picture(&folder.join(file), &sheet(&self.swap_grid()?, shape))?;
        panels.push(Panel::Picture {
            title: "Each sample's class in each sample's manner".into(),
            file: file.into(),
            note: "First row: whose s it is, the class. First column: whose z it is, the manner."
                .into(),
        });
        Ok(panels)
    }

    fn save_batch(&self, batch: &PairBatch, path: &Path) -> anyhow::Result<()> {
        let shape = self.held_out.shape();
        let line = |rows: &[f32]| rows.chunks(shape.len()).map(<[f32]>::to_vec).collect();
        let lines: Vec<Vec<Vec<f32>>> =
            [&batch.first, &batch.mate, &batch.other, &batch.other_mate]
                .iter()
                .map(|rows| line(rows))
                .collect();
        outputs::picture(path, &sheet(&lines, shape))
    }
}

/// What a figure is called on the page.
fn name_of(figure: &str) -> &str {
    match figure {
        "z_accuracy" => "class found in z as drawn",
        "z_mean_accuracy" => "class found in the mean of z",
        "s_accuracy" => "class found in s",
        "held_out_error" => "squared error of what comes back",
        "z_nats" => "what z says, nats",
        "mig" => "mutual information gap",
        "sap" => "separated attribute predictability",
        "dci_disentanglement" => "DCI: disentanglement",
        "dci_completeness" => "DCI: completeness",
        "dci_informativeness" => "DCI: informativeness",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::SystemConfig;
    use crate::disentangle::pairs::batches;
    use crate::optim::AdamW;
    use crate::task::siamese::tests::bars;

    #[test]
    fn probes_are_shown_as_many_draws_of_z_as_they_are_told_and_each_is_another() {
        let train = bars(40, 1);
        let task = task("kind = \"jha\"\n", &train);
        let net = &task.average;
        let parts = net.parts(&train, 3, 1, APART).unwrap();
        assert_eq!(parts.drawn.len(), 3);
        let length = train.len() * net.rest_code;
        assert!(parts.drawn.iter().all(|z| z.len() == length));
        assert!(parts.drawn[0] != parts.drawn[1] && parts.drawn[1] != parts.drawn[2]);
        // Fewer draws are of the same means.
        assert_eq!(net.parts(&train, 1, 1, APART).unwrap().mean, parts.mean);
        assert_eq!(parts.class.len(), train.len() * net.class_code);
    }

    fn task(method: &str, train: &Samples) -> DisentangleTask {
        let text = format!(
            "class_code = 3\nrest_code = 2\ndivergence = 0.3\n[network]\nchannels = [8]\nwidths = [32]\n[method]\n{method}[optim]\nlearning_rate = 3e-3\nweight_decay = 0.0\n[probe.classifier]\nepochs = 30.0\nbatch = 32\n[probe.classifier.network]\nwidths = [32]\n"
        );
        let run = DisentangleRun::parse(&text).unwrap();
        DisentangleTask::new(
            &run,
            train,
            Arc::new(bars(100, 2)),
            Vec::new(),
            &Device::Cpu,
        )
        .unwrap()
    }

    const JHA: &str = "kind = \"jha\"\n";
    const MATHIEU: &str =
        "kind = \"mathieu\"\n[method.discriminator]\nchannels = [8]\nwidths = [16]\n";

    fn batch(task: &DisentangleTask, step: u64) -> PairBatch {
        let samples = task.held_out.clone();
        batches(samples, 16, 5, step).next().unwrap().unwrap()
    }

    fn moved(task: &DisentangleTask, player: usize) -> Vec<String> {
        let turn = task.turn(player, &batch(task, 0), 0).unwrap();
        let gradients = turn.loss.total.backward().unwrap();
        let vars = task.players().swap_remove(player).params.vars;
        vars.iter()
            .filter(|(_, var)| gradients.get(var).is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    #[test]
    fn figures_published_for_mnist_stand_beside_small_grey_pictures_of_ten_classes_alone() {
        let shape = |side, channels| Shape {
            height: side,
            width: side,
            channels,
        };
        let rows = published_beside(shape(28, 1), 10);
        assert_eq!(
            (rows[0][1].as_str(), rows[1][1].as_str()),
            ("66.83", "17.56")
        );
        for (shape, classes) in [(shape(28, 1), 8), (shape(28, 3), 10), (shape(12, 1), 10)] {
            assert!(published_beside(shape, classes).is_empty());
        }
    }

    #[test]
    fn in_the_forward_cycle_all_learn_and_in_the_reverse_one_the_encoder_alone() {
        let task = task(JHA, &bars(100, 1));
        assert_eq!(task.players().len(), 2);
        assert_eq!(moved(&task, 0).len(), task.params().vars.len());
        let encoder = task.params().of(&["encoder."]).vars.len();
        assert_eq!(moved(&task, 1).len(), encoder);
        assert!(
            task.players()[1]
                .params
                .vars
                .keys()
                .all(|name| name.starts_with("encoder."))
        );
    }

    #[test]
    fn the_discriminator_moves_every_other_step_and_not_while_it_is_mostly_right() {
        let all = task(
            &MATHIEU.replace("mathieu\"\n", "mathieu\"\nbelow_accuracy = 1.0\n"),
            &bars(100, 1),
        );
        let sits_out = |task: &DisentangleTask, step| {
            task.turn(1, &batch(task, step), step).unwrap().sits_out()
        };
        assert!(!sits_out(&all, 0) && sits_out(&all, 1) && !sits_out(&all, 2));
        let never = task(
            &MATHIEU.replace("mathieu\"\n", "mathieu\"\nbelow_accuracy = 0.0\n"),
            &bars(100, 1),
        );
        assert!(sits_out(&never, 0) && sits_out(&never, 2));
        assert!(
            moved(&all, 1)
                .iter()
                .all(|name| name.starts_with("discriminator."))
        );
        // Its loss reaches nobody else.
        let gradients = all
            .turn(1, &batch(&all, 0), 0)
            .unwrap()
            .loss
            .total
            .backward()
            .unwrap();
        let others = all.params().of(&["encoder.", "decoder."]);
        assert!(others.vars.values().all(|var| gradients.get(var).is_none()));
        assert!(!moved(&all, 0).is_empty());
    }

    #[test]
    fn a_cycle_that_comes_back_the_same_costs_nothing() {
        // Two samples that are one: their s is the same, and so is what is made of it.
        let task = task(JHA, &bars(100, 1));
        let mut batch = batch(&task, 0);
        batch.other.clone_from(&batch.first);
        let loss = task.turn(1, &batch, 0).unwrap().loss;
        assert_eq!(loss.parts, [("cycle", 0.0)]);
    }

    #[test]
    fn weights_are_those_of_the_configuration() {
        let task = task(JHA, &bars(100, 1));
        let loss = task.turn(0, &batch(&task, 0), 0).unwrap().loss;
        let [(_, error), (_, nats)] = loss.parts[..] else {
            panic!("{:?}", loss.parts)
        };
        let length = task.held_out.shape().len() as f32;
        let expected = 2.0 * error + 0.3 * nats / length;
        let total = loss.total.to_scalar::<f32>().unwrap();
        assert!(
            (total - expected).abs() < 1e-5 * expected,
            "{total} {expected}"
        );
    }

    #[test]
    fn both_methods_learn_to_say_the_class_in_s() {
        for method in [JHA, MATHIEU] {
            let train = bars(400, 1);
            let mut task = task(method, &train);
            let weights = task.params().snapshot().unwrap();
            let before = task.validate(&weights).unwrap();
            let players = task.players();
            let mut adams = vec![AdamW::default(); players.len()];
            let all = batches(Arc::new(train), 32, 0, 0);
            for (step, batch) in (0..250).zip(all) {
                let batch = batch.unwrap();
                for (k, player) in players.iter().enumerate() {
                    let turn = task.turn(k, &batch, step).unwrap();
                    if !turn.sits_out() {
                        let gradients = turn.loss.total.backward().unwrap();
                        adams[k]
                            .step(&player.params, &gradients, 3e-3, &task.run.optim)
                            .unwrap();
                    }
                }
            }
            let weights = task.params().snapshot().unwrap();
            let figures = task.validate(&weights).unwrap();
            let of = |figures: &[(&str, f64)], name: &str| {
                figures.iter().find(|(n, _)| *n == name).unwrap().1
            };
            let error = |figures| of(figures, "held_out_error");
            assert!(
                error(&figures) < 0.6 * error(&before),
                "{method} {figures:?} {before:?}"
            );
            assert!(
                of(&figures, "s_accuracy") > of(&figures, "z_accuracy") + 0.2,
                "{method} {figures:?}"
            );
        }
    }
}
