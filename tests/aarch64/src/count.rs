//! Runs the quantised part of the search graph so many times, so that somebody else can count the instructions.
//!
//!     count PATH RUNS
//!
//! The layers are those of `roadhound-s`; their numbers come from a formula, for which instructions do not care.

use roadhound_edge::int8::{
    Convolution, Graph, Layout, Number, Path, PlanError, Shape, Sink, Source, Value,
};
use roadhound_shared::quantised::{QuantParams, QuantisedAdd};

/// The layers, as they are put together.
#[derive(Default)]
struct Net(Graph);

impl Net {
    fn conv(
        &mut self,
        x: Value,
        channels: usize,
        side: usize,
        stride: usize,
    ) -> Result<Value, PlanError> {
        let from = self.0.shape(x).channels;
        let depth = from * side * side;
        let weights: Vec<i8> = (0..channels * depth)
            .map(|i| (i * 37 % 251) as i8 >> 1)
            .collect();
        let bias = vec![100; channels];
        let scales: Vec<f32> = (0..channels).map(|o| 0.002 + 1e-5 * o as f32).collect();
        self.0.convolve(
            x,
            &Convolution {
                weights,
                bias: Some(bias),
                channels,
                kernel: [side; 2],
                strides: [stride; 2],
                dilations: [1; 2],
                pads: [side / 2; 4],
                input: params()?,
                weight_scales: scales,
                output: params()?,
            },
        )
    }

    fn residual(&mut self, x: Value) -> Result<Value, PlanError> {
        let channels = self.0.shape(x).channels;
        let y = self.conv(x, channels, 3, 1)?;
        let y = self.conv(y, channels, 3, 1)?;
        let p = params()?;
        self.0.add(y, x, QuantisedAdd::new(p, p, p))
    }
}

fn params() -> Result<QuantParams, PlanError> {
    Ok(QuantParams::new(0.02, 0)?)
}

fn net() -> Result<Graph, PlanError> {
    let mut net = Net::default();
    let input = Number::F32(QuantParams::new(0.02, 114)?);
    let x = net
        .0
        .input(Shape::new(3, 256, 256)?, Layout::Planar, input)?;
    let mix = Number::F32(params()?);
    let template = net.0.input(Shape::new(96, 1, 64)?, Layout::Cells, mix)?;
    let x = net.conv(x, 16, 3, 2)?;
    let x = net.conv(x, 32, 3, 2)?;
    let x = net.conv(x, 32, 3, 1)?;
    let x = net.conv(x, 64, 3, 2)?;
    let x = net.residual(x)?;
    let x = net.conv(x, 128, 3, 2)?;
    let x = net.residual(x)?;
    let features = net.conv(x, 96, 1, 1)?;
    let seen = net
        .0
        .correlate((template, params()?), (features, params()?), params()?)?;
    let x = net.0.concat(&[seen, features])?;
    let x = net.conv(x, 96, 1, 1)?;
    let x = net.conv(x, 96, 3, 1)?;
    let x = net.conv(x, 96, 3, 1)?;
    let identity = net.conv(features, 96, 1, 1)?;
    for value in [x, identity] {
        net.0
            .output(value, Layout::Planar, Number::F32(params()?))?;
    }
    Ok(net.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path: Path = arguments.next().ok_or("count PATH RUNS")?.parse()?;
    let runs: u32 = arguments.next().ok_or("count PATH RUNS")?.parse()?;
    let net = net()?;
    if runs == 0 {
        println!("{}", net.products());
        return Ok(());
    }
    let mut program = net.plan(path, 1)?;
    if program.path() != path {
        return Err(format!("this processor has no {path}").into());
    }
    let search: Vec<f32> = (0..3 * 256 * 256)
        .map(|i| (i * 29 % 255) as f32 / 64.0 - 2.0)
        .collect();
    let template: Vec<f32> = (0..64 * 96).map(|i| (i * 31 % 200) as f32 / 50.0).collect();
    let (mut a, mut b) = (vec![0.0; 96 * 256], vec![0.0; 96 * 256]);
    for _ in 0..runs {
        program.run(
            &[Source::F32(&search), Source::F32(&template)],
            &mut [Sink::F32(&mut a), Sink::F32(&mut b)],
        )?;
    }
    Ok(())
}
