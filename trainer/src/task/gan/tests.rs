#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::SystemConfig;
use crate::model::net::sigmoid;
use crate::optim::AdamW;
use crate::task::siamese::tests::bars;

fn run(text: &str) -> GanRun {
    let base = "[generator]\nchannels = []\nwidths = [32, 32]\n[discriminator]\nchannels = []\nwidths = [32, 32]\n";
    GanRun::parse(&format!("{text}{base}")).unwrap()
}

/// A ring of one wide mode: a plain Gaussian in two dimensions.
const ONE_MODE: &str = "[ring]\nmodes = 1\nradius = 1.0\ndeviation = 0.5\nsamples = 4000\n[code]\ncategories = 0\ncontinuous = 0\nnoise = 2\n";

fn ring_task(run: &GanRun, steps: u64) -> GanTask {
    let ring = run.ring.clone().unwrap();
    let held_out = ring.points(2000, run.seed, 1).unwrap();
    let judge = Judge::of_ring(&ring, &held_out);
    GanTask::new(run, Arc::new(held_out), judge, steps, &Device::Cpu).unwrap()
}

fn trained(run: &GanRun, steps: u64) -> GanTask {
    let mut task = ring_task(run, steps);
    let train = run
        .ring
        .as_ref()
        .unwrap()
        .points(4000, run.seed, 0)
        .unwrap();
    let players = task.players();
    let mut adams = vec![AdamW::default(); players.len()];
    let all = batches(Arc::new(train), None, run, 0);
    for (step, batch) in (0..steps).zip(all) {
        let batch = batch.unwrap();
        for (k, player) in players.iter().enumerate() {
            let turn = task.turn(k, &batch, step).unwrap();
            let gradients = turn.loss.total.backward().unwrap();
            let rate = run.optim.rate_at(step, steps) * player.rate;
            adams[k]
                .step(&player.params, &gradients, rate, &run.optim)
                .unwrap();
        }
    }
    let weights = task.params().snapshot().unwrap();
    task.validate(&weights).unwrap();
    task
}

#[test]
fn on_a_solved_toy_the_discriminator_cannot_tell() {
    let text = format!(
        "{ONE_MODE}[optim]\nlearning_rate = 2e-3\nbeta1 = 0.5\nfinal_share = 0.02\nweight_decay = 0.0\n[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\nr1_by = \"gradient\"\n"
    );
    let run = run(&text);
    let fresh = trained(&run, 0);
    let task = trained(&run, 600);
    let frechet = |task: &GanTask| task.figures[0].1;
    // A shift by a fifth of a deviation costs 0.01 in each direction.
    let (before, after) = (frechet(&fresh), frechet(&task));
    assert!(after < 0.05 && after < 0.1 * before, "{before} {after}");
    let (made, _) = task.scored(1000).unwrap();
    for rows in [task.held_out.rows(0..1000), made] {
        let rows = task.average.tensor(rows, 1000).unwrap();
        let logits = task.average.judged(&rows, Pass::Eval).unwrap().logits;
        let real = sigmoid(&logits)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let mean = real.iter().sum::<f32>() / 1000.0;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
    }
}

#[test]
fn each_player_moves_its_own_variables_and_nobody_is_in_two_minds() {
    let task = ring_task(
        &run(&format!("{ONE_MODE}[stabilisers]\nbatch_norm = \"none\"\n")),
        1,
    );
    let players = task.players();
    let names = |k: usize| players[k].params.vars.keys().cloned().collect::<Vec<_>>();
    assert!(
        names(0)
            .iter()
            .all(|name| name.starts_with("discriminator."))
    );
    assert!(names(1).iter().all(|name| name.starts_with("generator.")));
    assert_eq!(names(0).len() + names(1).len(), task.params().vars.len());
    // The discriminator's loss does not reach the generator: made samples are taken as they are.
    let batch = GanBatch {
        rows: task.held_out.rows(0..8),
        count: 8,
        views: Vec::new(),
        pairs: 0,
    };
    let gradients = task
        .turn(0, &batch, 0)
        .unwrap()
        .loss
        .total
        .backward()
        .unwrap();
    assert!(
        players[1]
            .params
            .vars
            .values()
            .all(|var| gradients.get(var).is_none())
    );
}

/// R1 at some points by both ways.
#[test]
fn the_slope_by_directions_has_the_exact_one_as_its_mean() {
    let with = |by: &str| {
        let text =
            format!("{ONE_MODE}[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\nr1_by = \"{by}\"\n");
        ring_task(&run(&text), 1)
    };
    let task = with("directions");
    let real = task.net.tensor(task.held_out.rows(0..500), 500).unwrap();
    let exact = with("gradient")
        .penalty(&real, 0)
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    let drawn: f32 = (0..40)
        .map(|step| {
            task.penalty(&real, step)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                / 40.0
        })
        .sum();
    assert!((drawn / exact - 1.0).abs() < 0.05, "{drawn} {exact}");
    // And the exact one is what differences along the axes say.
    let seen = |shift: [f32; 2]| -> Vec<f32> {
        let shift = Tensor::new(&[shift], &Device::Cpu).unwrap();
        let rows = real.broadcast_add(&shift).unwrap();
        let logits = task.net.judged(&rows, Pass::Eval).unwrap().logits;
        logits.flatten_all().unwrap().to_vec1().unwrap()
    };
    let h = 1e-3;
    let mut sum = 0.0;
    for (ahead, behind) in [([h, 0.0], [-h, 0.0]), ([0.0, h], [0.0, -h])] {
        let pairs = seen(ahead).into_iter().zip(seen(behind));
        sum += pairs
            .map(|(a, b)| ((a - b) / (2.0 * h)).powi(2))
            .sum::<f32>();
    }
    assert!(
        (sum / 500.0 / 2.0 / exact - 1.0).abs() < 0.02,
        "{sum} {exact}"
    );
}

#[test]
fn the_exact_penalty_has_a_gradient_that_lowers_it() {
    let text =
        format!("{ONE_MODE}[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\nr1_by = \"gradient\"\n");
    let task = ring_task(&run(&text), 1);
    let real = task.net.tensor(task.held_out.rows(0..200), 200).unwrap();
    let penalty = || task.penalty(&real, 0).unwrap();
    let before = penalty();
    let gradients = before.backward().unwrap();
    let (rate, mut squares) = (1e-3, 0f64);
    for var in task.players()[0].params.vars.values() {
        let Some(gradient) = gradients.get(var) else {
            continue;
        };
        squares += f64::from(
            gradient
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap(),
        );
        let moved = (var.as_tensor() - (gradient * rate).unwrap()).unwrap();
        var.set(&moved.detach()).unwrap();
    }
    let number = |t: Tensor| f64::from(t.to_scalar::<f32>().unwrap());
    let fallen = number(before) - number(penalty());
    assert!(
        (fallen / (rate * squares) - 1.0).abs() < 0.1,
        "{fallen} {squares}"
    );
}

#[test]
fn instance_noise_falls_to_nothing_and_is_the_same_again() {
    let text = format!(
        "{ONE_MODE}[stabilisers]\nbatch_norm = \"none\"\ninstance_noise = 0.4\ninstance_noise_until = 0.5\n"
    );
    let task = ring_task(&run(&text), 100);
    assert_eq!((task.noise_at(0), task.noise_at(25)), (0.4, 0.2));
    assert_eq!((task.noise_at(50), task.noise_at(99)), (0.0, 0.0));
    let zeros = Tensor::zeros((500, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
    let drawn = |step, part| {
        let noisy = task.noisy(&zeros, step, part).unwrap();
        noisy.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let variance = drawn(25, 0).iter().map(|v| v * v).sum::<f32>() / 1000.0;
    assert!((variance.sqrt() - 0.2).abs() < 0.02);
    assert_eq!(drawn(25, 0), drawn(25, 0));
    assert_ne!(drawn(25, 0), drawn(25, 1));
    assert!(drawn(60, 0).iter().all(|v| *v == 0.0));
}

/// Pictures, of both kinds of players that convolve.
fn picture_task(text: &str) -> GanTask {
    let text = format!(
        "{text}[code]\ncategories = 4\ncontinuous = 1\nnoise = 4\n[generator]\nchannels = [8]\nwidths = [16]\n[discriminator]\nchannels = [8]\nwidths = [16]\n[evaluate]\nsamples = 100\n[evaluate.judge]\nepochs = 8.0\nbatch = 16\n[evaluate.judge.network]\nchannels = [8]\nwidths = [8]\n"
    );
    let run = GanRun::parse(&text).unwrap();
    let (train, test) = (bars(300, 1), bars(64, 2));
    let judge = Judge::taught(&run, &train, &test, &Device::Cpu).unwrap();
    GanTask::new(&run, Arc::new(test), judge, 10, &Device::Cpu).unwrap()
}

#[test]
fn every_seed_has_the_same_judge_and_it_knows_none_of_the_samples_that_it_is_tried_on() {
    let run = |seed: u64| {
        GanRun::parse(&format!(
            "seed = {seed}\n[evaluate]\nsamples = 100\n[evaluate.judge]\nepochs = 8.0\nbatch = 16\n[evaluate.judge.network]\nchannels = [8]\nwidths = [8]\n"
        ))
        .unwrap()
    };
    let (train, test) = (bars(400, 1), bars(100, 2));
    let judged =
        |run: &GanRun, train: &Samples| match Judge::taught(run, train, &test, &Device::Cpu)
            .unwrap()
        {
            Judge::Classifier { null, accuracy, .. } => (null, accuracy),
            Judge::Ring { .. } => panic!("no ring"),
        };
    assert_eq!(judged(&run(1), &train), judged(&run(2), &train));
    // The last quarter is not learned from: another order there changes nothing.
    let kept: Vec<usize> = (0..300).chain((300..400).rev()).collect();
    let (one, other) = (
        judged(&run(1), &train),
        judged(&run(1), &train.chosen(&kept)),
    );
    assert_eq!(one.1, other.1);
    assert!((one.0 - other.0).abs() < 1e-6 * one.0, "{one:?} {other:?}");
}

#[test]
fn every_option_gives_both_players_a_loss_with_gradients() {
    let options = [
        "loss = \"minimax\"\n[stabilisers]\nbatch_norm = \"none\"\n",
        "[stabilisers]\nbatch_norm = \"joint\"\nlabel_smoothing = 0.1\n",
        "[stabilisers]\nbatch_norm = \"separate\"\nfeature_matching = 1.0\n",
        "[stabilisers]\nbatch_norm = \"none\"\nspectral_norm = true\ninstance_noise = 0.1\n",
        "[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\n[mutual]\ncategorical = 1.0\ncontinuous = 0.1\n",
    ];
    for option in options {
        let task = picture_task(option);
        let batch = GanBatch {
            rows: task.held_out.rows(0..8),
            count: 8,
            views: Vec::new(),
            pairs: 0,
        };
        for (k, player) in task.players().iter().enumerate() {
            let loss = task.turn(k, &batch, 3).unwrap().loss;
            assert!(loss.parts.iter().all(|(_, v)| v.is_finite()), "{option}");
            let gradients = loss.total.backward().unwrap();
            for (name, var) in &player.params.vars {
                // No loss reaches the vectors of the spectral norm.
                let moves = gradients.get(var).is_some();
                assert_eq!(moves, !name.contains("spectral"), "{option} {name}");
            }
        }
    }
}

/// What a part of the loss does to every variable: the norms of its gradient.
fn reached(task: &GanTask, loss: &Tensor) -> std::collections::BTreeMap<String, f64> {
    let gradients = loss.backward().unwrap();
    let norm = |gradient: &Tensor| -> f64 {
        let squares = gradient.sqr().unwrap().sum_all().unwrap();
        squares.to_scalar::<f32>().unwrap().sqrt().into()
    };
    let vars = task.params().vars.iter();
    vars.filter_map(|(name, var)| Some((name.clone(), norm(gradients.get(var)?))))
        .collect()
}

const INFO: &str =
    "[stabilisers]\nbatch_norm = \"none\"\n[mutual]\ncategorical = 1.0\ncontinuous = 0.1\n";
const INVARIANT: &str = "[stabilisers]\nbatch_norm = \"none\"\n[mutual]\ncategorical = 1.0\ncontinuous = 0.1\n[mutual.invariance]\nweight = 1.0\npairs = 64\nclusters = 16\nalone = 0.5\n[mutual.invariance.network]\nchannels = [8, 16]\nwidths = []\n[mutual.invariance.warp]\nshift_px = 1.0\nturn_degrees = 5.0\nscale = 0.0\nshear = 0.0\nbend_px = 0.0\n";

#[test]
fn what_is_misread_moves_the_generator_and_the_trunk_that_reader_and_discriminator_share() {
    let task = picture_task(INFO);
    let net = &task.net;
    let codes = net.draw(8, 0, 0);
    let made = net
        .made(&net.tensor(codes.rows.clone(), 8).unwrap(), TRAIN)
        .unwrap();
    let features = net.judged(&made, TRAIN).unwrap().features;
    let misread = net
        .misread(&made, &features, &codes, &task.run.mutual)
        .unwrap();
    let norms = reached(&task, &misread.unwrap());
    for name in task.params().vars.keys() {
        // The discriminator's verdict is a layer of its own.
        let read = !name.starts_with("discriminator.last");
        let norm = norms.get(name).copied();
        assert_eq!(
            norm.is_some_and(|norm| norm > 1e-9),
            read,
            "{name} {norm:?}"
        );
    }
    // Codes are drawn anew in every step and for either player.
    let of_step = |step| net.draw(8, 0, step).rows;
    assert!(of_step(0) != of_step(1) && of_step(1) != of_step(2));
}

fn batch_of(task: &GanTask, step: u64) -> GanBatch {
    let all = batches(task.held_out.clone(), None, &task.run, step);
    all.into_iter().next().unwrap().unwrap()
}

#[test]
fn without_invariance_there_is_nothing_of_it_and_with_it_real_samples_stay_the_same_ones() {
    let (plain, invariant) = (picture_task(INFO), picture_task(INVARIANT));
    let (without, with) = (batch_of(&plain, 3), batch_of(&invariant, 3));
    assert_eq!(without.rows, with.rows);
    assert_eq!((without.pairs, without.views.len()), (0, 0));
    assert_eq!((with.pairs, with.views.len()), (64, 2 * 64 * 144));
    assert_eq!((plain.players().len(), invariant.players().len()), (2, 3));
    let turn = |task: &GanTask, player, step| {
        let batch = if task.players().len() > 2 {
            &with
        } else {
            &without
        };
        task.turn(player, batch, step).unwrap()
    };
    let named = |turn: &Turn| turn.loss.parts.iter().map(|p| p.0).collect::<Vec<_>>();
    // Once its head start is over, nothing is another for the two players but who reads categories.
    for player in [0, 1] {
        let (a, b) = (turn(&plain, player, 7), turn(&invariant, player, 7));
        assert_eq!(named(&a), named(&b));
        assert_eq!(a.loss.parts[0], b.loss.parts[0]);
        assert!(!a.sits_out() && !b.sits_out());
        // During it they wait, and the log has its columns.
        let waiting = turn(&invariant, player, 4);
        assert!(waiting.sits_out() && !turn(&plain, player, 4).sits_out());
        assert_eq!(named(&waiting), named(&b));
    }
    // The third moves always, and nobody but itself.
    for step in [4, 7] {
        let own = turn(&invariant, 2, step);
        assert!(!own.sits_out());
        let norms = reached(&invariant, &own.loss.total);
        assert!(!norms.is_empty() && norms.keys().all(|name| name.starts_with("clusters.")));
    }
    // What it reads of made samples moves who makes them.
    let norms = reached(&invariant, &turn(&invariant, 1, 7).loss.total);
    let moved = |start: &str| norms.iter().any(|(k, v)| k.starts_with(start) && *v > 0.0);
    assert!(moved("generator.") && moved("clusters."));
    assert!(
        !invariant.players()[1]
            .params
            .vars
            .keys()
            .any(|k| k.starts_with("clusters."))
    );
}

#[test]
fn categories_are_settled_when_the_head_start_is_over_and_are_the_same_again_from_a_checkpoint() {
    let task = picture_task(INVARIANT);
    let clusters = task.net.clusters().unwrap().unwrap();
    let grouping = || clusters.membership().unwrap().to_vec2::<f32>().unwrap();
    let first = grouping();
    for step in 0..5 {
        task.turn(2, &batch_of(&task, step), step).unwrap();
    }
    let settled = grouping();
    assert_ne!(first, settled);
    assert!((0..4).all(|k| settled.iter().any(|row| row[k] == 1.0)));
    for step in 5..10 {
        task.turn(2, &batch_of(&task, step), step).unwrap();
    }
    assert_eq!(grouping(), settled);
    let again = picture_task(INVARIANT);
    again
        .params()
        .restore(&task.params().snapshot().unwrap())
        .unwrap();
    let clusters = again.net.clusters().unwrap().unwrap();
    assert_eq!(
        clusters.membership().unwrap().to_vec2::<f32>().unwrap(),
        settled
    );
}

#[test]
fn of_several_readers_all_learn_at_first_and_then_the_chosen_one_alone() {
    let task = picture_task(&INVARIANT.replace("clusters = 16", "clusters = 16\nreaders = 3"));
    assert_eq!(task.players().len(), 5);
    let readers = task.net.clusters.as_ref().unwrap();
    let turns = |step: u64| -> Vec<Turn> {
        let batch = batch_of(&task, step);
        let turn = |player| task.turn(player, &batch, step).unwrap();
        (2..5).map(turn).collect()
    };
    for step in 0..5 {
        for (number, turn) in turns(step).iter().enumerate() {
            assert!(!turn.sits_out());
            let own = format!("{}.", Clusters::name(number));
            let norms = reached(&task, &turn.loss.total);
            assert!(!norms.is_empty() && norms.keys().all(|name| name.starts_with(&own)));
        }
    }
    let best = readers.best().unwrap();
    let told: Vec<f64> = readers.each().iter().map(|r| r.told().unwrap()).collect();
    assert!(told.iter().all(|nats| *nats <= told[best]) && told[best] > 0.0);
    for step in 5..8 {
        for (number, turn) in turns(step).iter().enumerate() {
            assert_eq!(turn.sits_out(), number != best);
            assert_eq!(turn.loss.parts[0].0, TOLD[number]);
        }
        assert_eq!(readers.best().unwrap(), best);
    }
    // What is read of made samples is the chosen one's.
    let batch = batch_of(&task, 7);
    let norms = reached(&task, &task.turn(1, &batch, 7).unwrap().loss.total);
    let moved = |number: usize| {
        let own = format!("{}.", Clusters::name(number));
        norms.iter().any(|(k, v)| k.starts_with(&own) && *v > 0.0)
    };
    assert!((0..3).all(|number| moved(number) == (number == best)));
}

/// Bars at eight angles, of which nobody says which is which.
#[test]
fn a_reader_that_is_held_to_say_the_same_of_moved_samples_finds_classes_without_labels() {
    let mut task = picture_task(&INVARIANT.replace("alone = 0.5", "alone = 1.0"));
    let players = task.players();
    let mut adam = AdamW::default();
    let figures = |task: &mut GanTask| {
        let weights = task.params().snapshot().unwrap();
        let figures = task.validate(&weights).unwrap();
        move |name: &str| figures.iter().find(|(n, _)| *n == name).unwrap().1
    };
    let before = figures(&mut task);
    for step in 0..150 {
        let batch = batch_of(&task, step);
        let turn = task.turn(2, &batch, step % 10).unwrap();
        let gradients = turn.loss.total.backward().unwrap();
        adam.step(&players[2].params, &gradients, 2e-3, &task.run.optim)
            .unwrap();
    }
    let after = figures(&mut task);
    let shared = (before("shared_nats"), after("shared_nats"));
    // Four categories tell at most log 4 = 1.39 nats.
    assert!(shared.0 < 0.1 && shared.1 > 1.0, "{shared:?}");
}

#[test]
fn a_plain_gans_reader_is_a_probe_that_moves_nobody_else() {
    let task = picture_task("[stabilisers]\nbatch_norm = \"none\"\n");
    let batch = GanBatch {
        rows: task.held_out.rows(0..8),
        count: 8,
        views: Vec::new(),
        pairs: 0,
    };
    let codes = task.net.draw(8, 0, 0);
    let rows = task.net.tensor(batch.rows.clone(), 8).unwrap();
    let features = task.net.judged(&rows, TRAIN).unwrap().features.detach();
    let (weights, alone) = task.reading();
    assert!(alone);
    let misread = task
        .net
        .misread(&rows, &features, &codes, &weights)
        .unwrap()
        .unwrap();
    let gradients = misread.backward().unwrap();
    let moved =
        |(name, var): (&String, &candle_core::Var)| gradients.get(var).map(|_| name.clone());
    let moved: Vec<String> = task.params().vars.iter().filter_map(moved).collect();
    assert!(!moved.is_empty() && moved.iter().all(|name| name.starts_with("reader.")));
    let parts = task.turn(1, &batch, 0).unwrap().loss.parts;
    assert!(parts.iter().all(|(name, _)| *name != "misread"));
}
