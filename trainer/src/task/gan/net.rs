//! The networks of a generative adversarial network: who makes samples, who judges them, who reads codes off them.
//!
//! In: codes, or samples. Out: samples; or what is said of them, and how badly their codes are read.

use candle_core::{Device, Result, Tensor};
use rand::Rng;

use super::{CODES, FROZEN, TRAIN};
use crate::epochs::rng_at;
use crate::gan::clusters::{Clusters, Readers};
use crate::gan::{BatchNorm, CodeConfig, GanRun, MutualConfig};
use crate::labelled::Shape;
use crate::loss::adversarial;
use crate::loss::classes::cross_entropy;
use crate::model::Pass;
use crate::model::net::sigmoid;
use crate::model::stack::{Stack, StackConfig, StackError};
use crate::params::{ParamBuilder, Params, normal};

/// The player who makes samples, the one who judges them, and the reader of codes, who sees what the judge sees.
pub struct GanNet {
    params: Params,
    generator: Stack,
    discriminator: Stack,
    reader: Option<Stack>,
    pub(super) clusters: Option<Readers>,
    code: CodeConfig,
    pictures: bool,
    device: Device,
}

/// Codes that were drawn.
pub struct Codes {
    /// As the generator takes them, one after the other.
    pub rows: Vec<f32>,
    /// The category of each; 0 where there are none.
    pub categories: Vec<u32>,
    /// The continuous values, one code after the other.
    pub continuous: Vec<f32>,
}

/// What a discriminator says.
pub struct Seen {
    /// `[N, 1]`.
    pub logits: Tensor,
    /// `[N, F]`.
    pub features: Tensor,
}

impl GanNet {
    /// Born of the run's seed.
    ///
    /// # Errors
    /// Samples that the configured networks cannot take.
    pub fn new(
        run: &GanRun,
        shape: Shape,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let mut builder = ParamBuilder::new(run.seed, device);
        let code = run.code.clone();
        let generator =
            Stack::decoder(&mut builder, "generator", code.len(), &run.generator, shape)?;
        let norm = run.stabilisers.batch_norm != BatchNorm::None;
        let config = &run.discriminator;
        let mut discriminator =
            Stack::encoder(&mut builder, "discriminator", shape, config, 1, norm)?;
        if run.stabilisers.spectral_norm {
            discriminator = discriminator.with_spectral_norm(&mut builder, "discriminator")?;
        }
        let features = Shape {
            height: 1,
            width: 1,
            channels: discriminator.feature_count(),
        };
        let mut reader_of = |outputs: usize| {
            let widths = StackConfig {
                channels: vec![],
                widths: vec![run.mutual.width],
                ..StackConfig::default()
            };
            let reader =
                |outputs| Stack::encoder(&mut builder, "reader", features, &widths, outputs, false);
            Some(outputs)
                .filter(|outputs| *outputs > 0)
                .map(reader)
                .transpose()
        };
        let invariance = &run.mutual.invariance;
        let (reader, clusters) = match invariance.weight > 0.0 {
            true => {
                let reader = reader_of(code.continuous)?;
                let clusters = Readers::new(&mut builder, shape, invariance, code.categories)?;
                (reader, Some(clusters))
            }
            false => (reader_of(code.readable())?, None),
        };
        Ok(Self {
            params: builder.finish(),
            generator,
            discriminator,
            reader,
            clusters,
            code,
            pictures: shape.is_picture(),
            device: device.clone(),
        })
    }

    /// Its variables.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Who makes samples.
    pub fn generator(&self) -> &Stack {
        &self.generator
    }

    /// Who judges them.
    pub fn discriminator(&self) -> &Stack {
        &self.discriminator
    }

    /// Who reads codes: all that can be read of one, or the continuous values alone where there are
    /// [`clusters`](Self::clusters).
    pub fn reader(&self) -> Option<&Stack> {
        self.reader.as_ref()
    }

    /// Who reads categories, where they are groups of clusters: the chosen one of its [`Readers`].
    ///
    /// # Errors
    /// If a table of theirs cannot be read.
    pub fn clusters(&self) -> Result<Option<&Clusters>> {
        self.clusters.as_ref().map(Readers::chosen).transpose()
    }

    /// What a sample is made of.
    pub fn code(&self) -> &CodeConfig {
        &self.code
    }

    /// Whether samples are pictures, whose values are between 0 and 1.
    pub fn makes_pictures(&self) -> bool {
        self.pictures
    }

    /// Where it is computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Rows as a tensor.
    ///
    /// # Errors
    /// Values that are not so many rows.
    pub fn tensor(&self, values: Vec<f32>, count: usize) -> Result<Tensor> {
        let length = values.len() / count.max(1);
        Tensor::from_vec(values, (count, length), &self.device)
    }

    /// Codes of their distribution: a function of the seed and of `step`.
    pub fn draw(&self, count: usize, seed: u64, step: u64) -> Codes {
        let mut rng = rng_at(seed, CODES, step);
        let mut codes = Codes {
            rows: Vec::with_capacity(count * self.code.len()),
            categories: Vec::with_capacity(count),
            continuous: Vec::with_capacity(count * self.code.continuous),
        };
        for _ in 0..count {
            let category = match self.code.categories {
                0 => 0,
                categories => rng.random_range(0..categories),
            };
            codes.categories.push(category as u32);
            codes
                .rows
                .extend((0..self.code.categories).map(|k| f32::from(k == category)));
            for _ in 0..self.code.continuous {
                let value = rng.random_range(-1f32..1.0);
                codes.continuous.push(value);
                codes.rows.push(value);
            }
            codes
                .rows
                .extend((0..self.code.noise).map(|_| normal(&mut rng)));
        }
        codes
    }

    /// Samples of codes.
    ///
    /// # Shapes
    /// `codes` `[N, length of a code]`; returns `[N, length of a sample]`.
    ///
    /// # Errors
    /// Codes of another length.
    pub fn made(&self, codes: &Tensor, pass: Pass) -> Result<Tensor> {
        let values = self.generator.forward(codes, pass)?;
        match self.pictures {
            true => sigmoid(&values),
            false => Ok(values),
        }
    }

    /// What the discriminator says of samples.
    ///
    /// # Errors
    /// Samples of another length.
    pub fn judged(&self, rows: &Tensor, pass: Pass) -> Result<Seen> {
        let (logits, features) = self.discriminator.forward_with_features(rows, pass)?;
        Ok(Seen { logits, features })
    }

    /// What the discriminator says of two sets, normalised together or apart.
    pub(super) fn judged_both(
        &self,
        real: &Tensor,
        made: &Tensor,
        norm: BatchNorm,
    ) -> Result<[Seen; 2]> {
        if norm != BatchNorm::Joint {
            return Ok([self.judged(real, TRAIN)?, self.judged(made, TRAIN)?]);
        }
        let seen = self.judged(&Tensor::cat(&[real, made], 0)?, TRAIN)?;
        let part = |from: usize, of: &Tensor| -> Result<Seen> {
            let cut = |t: &Tensor| t.narrow(0, from, of.dim(0)?)?.contiguous();
            Ok(Seen {
                logits: cut(&seen.logits)?,
                features: cut(&seen.features)?,
            })
        };
        Ok([part(0, real)?, part(real.dim(0)?, made)?])
    }

    /// What is read off samples and the discriminator's features of them: a logarithm a category, up to a constant, then the
    /// continuous values.
    ///
    /// # Errors
    /// Samples or features of another length.
    pub fn read(&self, rows: &Tensor, features: &Tensor, pass: Pass) -> Result<Option<Tensor>> {
        let parts = [
            self.clusters()?
                .map(|clusters| clusters.categories(&clusters.scores(rows, pass)?)),
            self.reader
                .as_ref()
                .map(|reader| reader.forward(features, pass)),
        ];
        let parts = parts.into_iter().flatten().collect::<Result<Vec<_>>>()?;
        match parts.len() {
            0 => Ok(None),
            _ => Tensor::cat(&parts, 1).map(Some),
        }
    }

    /// How badly the code is read, in nats, each part by its weight; `None` where there is nothing to read, or no part has a
    /// weight.
    pub(super) fn misread(
        &self,
        rows: &Tensor,
        features: &Tensor,
        codes: &Codes,
        weights: &MutualConfig,
    ) -> Result<Option<Tensor>> {
        let of_features = match &self.reader {
            Some(reader) => Some(reader.forward(features, TRAIN)?),
            None => None,
        };
        let mut loss = None;
        let (categories, continuous) = (self.code.categories, self.code.continuous);
        if categories > 0 && weights.categorical > 0.0 {
            let logits = match (self.clusters()?, &of_features) {
                // Normalised as real samples are, of which alone it learns how to.
                (Some(clusters), _) => Some(clusters.categories(&clusters.scores(rows, FROZEN)?)?),
                (None, Some(read)) => Some(read.narrow(1, 0, categories)?.contiguous()?),
                (None, None) => None,
            };
            if let Some(logits) = logits {
                let unread = cross_entropy(&logits, &codes.categories, None)?;
                loss = Some((unread * weights.categorical)?);
            }
        }
        if let Some(read) = of_features.filter(|_| continuous > 0 && weights.continuous > 0.0) {
            let first = read.dim(1)? - continuous;
            let values = read.narrow(1, first, continuous)?.contiguous()?;
            let wanted = self.tensor(codes.continuous.clone(), codes.categories.len())?;
            let part = (adversarial::continuous_code(&values, &wanted)? * weights.continuous)?;
            loss = Some(match loss {
                Some(loss) => (loss + part)?,
                None => part,
            });
        }
        Ok(loss)
    }
}
