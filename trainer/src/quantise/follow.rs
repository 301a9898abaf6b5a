//! The two graphs of the tracker as a set: how they are fed, and where their inputs come from.

use anyhow::{Context, Result};
use roadhound_shared::contract::FollowContract;
use roadhound_shared::preprocess::Normalisation;
use roadhound_shared::quantised::QuantParams;

use super::observe::params_of;
use super::source::{Role, Source};
use super::{Run, Samples, Values};
use crate::evaluate::planar;
use crate::export::array::{Array, Value};
use crate::sampler::Pair;

/// `template.onnx` and `search.onnx`, in this order.
///
/// # Errors
/// Graphs that cannot be run, or are quantised already.
pub fn sources(template: &[u8], search: &[u8], contract: &FollowContract) -> Result<Vec<Source>> {
    let t = &contract.tensors;
    let features = || Role::Output(t.features.name.clone());
    Ok(vec![
        Source::new(template, &[(&t.template.name, Role::Pixels)])
            .with_context(|| contract.template_file.clone())?,
        Source::new(
            search,
            &[
                (&t.search.name, Role::Pixels),
                (&t.template_first.name, features()),
                (&t.template_latest.name, features()),
            ],
        )
        .with_context(|| contract.search_file.clone())?,
    ])
}

/// Bytes of a normalised crop: the whole range of a pixel, so that with one mean and scale for all channels a byte is the
/// pixel itself.
///
/// # Errors
/// A normalisation beyond all bounds.
pub fn pixel_params(normalisation: &Normalisation) -> Result<QuantParams> {
    let edge = |pixel: f32| {
        (0..3).map(move |c| {
            f64::from(pixel - normalisation.mean[c]) * f64::from(normalisation.scale[c])
        })
    };
    let low = edge(0.0).fold(0.0, f64::min);
    let high = edge(255.0).fold(0.0, f64::max);
    Ok(params_of(low, high)?)
}

/// Pairs of crops, as the sampler draws them.
pub struct PairSamples<'a> {
    /// The pairs.
    pub pairs: &'a [Pair],
    /// Names, shapes and normalisation.
    pub contract: &'a FollowContract,
}

impl Samples for PairSamples<'_> {
    fn count(&self) -> usize {
        self.pairs.len()
    }

    fn forward(&self, index: usize, run: &mut Run<'_>) -> Result<()> {
        let pair = &self.pairs[index];
        let t = &self.contract.tensors;
        let crop = |rgb: &[u8], shape: &[usize]| {
            Array::new(shape.to_vec(), planar(rgb, &self.contract.normalisation))
                .context("a crop of another size")
        };
        let features = |values: Values| {
            let found = values
                .get(&t.features.name)
                .and_then(Value::floats)
                .cloned();
            found.context("the template graph gives no features")
        };
        let template = crop(&pair.template_rgb, &t.template.shape)?;
        let first = features(run(0, &[(&t.template.name, template)])?)?;
        let latest = match pair.has_distinct_latest {
            true => {
                let template = crop(&pair.template_latest_rgb, &t.template.shape)?;
                features(run(0, &[(&t.template.name, template)])?)?
            }
            false => first.clone(),
        };
        let search = crop(&pair.search_rgb, &t.search.shape)?;
        run(
            1,
            &[
                (&t.search.name, search),
                (&t.template_first.name, first),
                (&t.template_latest.name, latest),
            ],
        )?;
        Ok(())
    }
}
