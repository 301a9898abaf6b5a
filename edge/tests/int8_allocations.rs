//! The int8 kernels ask for no memory: a program's arena is laid out once, also for several threads. The only test of
//! its file, because all threads of this program count.
#![allow(clippy::unwrap_used)]

#[path = "../../shared/tests/counting/mod.rs"]
mod counting;

use roadhound_edge::int8::{Convolution, Graph, Layout, Number, Path, Shape, Sink, Source, Value};
use roadhound_shared::quantised::{QuantParams, QuantisedAdd};

fn params() -> QuantParams {
    QuantParams::new(0.02, 9).unwrap()
}

fn convolve(graph: &mut Graph, x: Value, channels: usize, side: usize) -> Value {
    let depth = graph.shape(x).channels * side * side;
    let conv = Convolution {
        weights: (0..channels * depth).map(|i| (i % 251) as i8).collect(),
        bias: Some(vec![100; channels]),
        channels,
        kernel: [side; 2],
        strides: [1; 2],
        dilations: [1; 2],
        pads: [side / 2; 4],
        input: params(),
        weight_scales: vec![0.002; channels],
        output: params(),
    };
    graph.convolve(x, &conv).unwrap()
}

/// Every operator, with numbers and bytes going in and coming out.
fn graph() -> Graph {
    let mut graph = Graph::new();
    let number = Number::F32(params());
    let shape = |c, h, w| Shape::new(c, h, w).unwrap();
    let picture = graph
        .input(shape(3, 32, 32), Layout::Planar, number)
        .unwrap();
    let templates = graph
        .input(shape(24, 1, 9), Layout::Cells, Number::U8)
        .unwrap();
    let x = convolve(&mut graph, picture, 24, 3);
    let y = convolve(&mut graph, x, 24, 3);
    let add = QuantisedAdd::new(params(), params(), params());
    let fused = graph.add(y, x, add).unwrap();
    let unfused = graph.add(fused, x, add).unwrap();
    let correlation = graph
        .correlate((templates, params()), (unfused, params()), params())
        .unwrap();
    let joined = graph.concat(&[correlation, unfused]).unwrap();
    let part = graph.crop(joined, (3, 5), (20, 18)).unwrap();
    let last = convolve(&mut graph, part, 10, 1);
    graph.output(last, Layout::Planar, number).unwrap();
    graph.output(part, Layout::Cells, Number::U8).unwrap();
    graph
}

#[test]
fn an_inference_allocates_nothing_on_any_path_and_any_number_of_threads() {
    let picture: Vec<f32> = (0..3 * 32 * 32).map(|i| (i % 101) as f32 / 25.0).collect();
    let templates: Vec<u8> = (0..24 * 9).map(|i| (i * 7 % 256) as u8).collect();
    let (mut numbers, mut bytes) = (vec![0.0; 10 * 20 * 18], vec![0; 33 * 20 * 18]);
    for path in Path::available() {
        for threads in [1, 2, 4] {
            let mut program = graph().plan(path, threads).unwrap();
            let mut run = || {
                let sources = [Source::F32(&picture), Source::U8(&templates)];
                let mut sinks = [Sink::F32(&mut numbers), Sink::U8(&mut bytes)];
                program.run(&sources, &mut sinks).unwrap();
            };
            // Threads that have just been started may still be setting themselves up.
            run();
            // What a run asks for it asks for in every run. The test harness asks for some once: to say that this test
            // takes long.
            let found = (0..4).map(|_| counting::on_any_thread(&mut run)).min();
            assert_eq!(found, Some(0), "{path}, {threads} threads");
        }
    }
    // The counter counts, on other threads too.
    let found = counting::on_any_thread(|| {
        let thread = std::thread::spawn(|| drop(std::hint::black_box(Box::new(1))));
        thread.join().unwrap();
    });
    assert!(found > 1, "{found}");
}
