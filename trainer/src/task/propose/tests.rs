#![allow(clippy::unwrap_used)]
use roadhound_shared::geometry::BoxLtrb;
use roadhound_shared::preprocess::CropSize;
use roadhound_shared::propose::RoadUsers;

use super::*;
use crate::model::propose::ProposeModelConfig;
use crate::model::{ModelConfig, TrackerNet};
use crate::optim::{AdamW, OptimConfig};

const SIZE: CropSize = CropSize {
    width_px: 64,
    height_px: 48,
};

fn net(seed: u64) -> ProposeNet {
    let config = ProposeModelConfig {
        head_channels: 16,
        fine_convs: 1,
        trunk_convs: 2,
        embedding: 4,
        backbone: ModelConfig::tiny(),
    };
    let backbone = TrackerNet::new(&config.backbone, 1, &Device::Cpu).unwrap();
    ProposeNet::new(&config, SIZE, backbone, seed, &Device::Cpu).unwrap()
}

/// A coloured block on grey: a car is red and wide, a person blue and tall.
fn view(blocks: &[(RoadUser, u64, [u32; 4])]) -> SceneView {
    let mut rgb = vec![110; 3 * 64 * 48];
    let mut objects = Vec::new();
    for &(kind, instance, [l, t, r, b]) in blocks {
        for y in t..b {
            for x in l..r {
                let at = (y as usize * 64 + x as usize) * 3;
                let shade = 20 * (instance % 5) as u8;
                let colour = match kind {
                    RoadUser::Car => [250, 10 + shade, 20],
                    _ => [10, 20 + shade, 250],
                };
                rgb[at..at + 3].copy_from_slice(&colour);
            }
        }
        objects.push(SceneObject {
            box_in_view: BoxLtrb::new(l as f32, t as f32, r as f32, b as f32),
            kinds: RoadUsers::of(&[kind]),
            standing: Standing::Target,
            instance,
        });
    }
    SceneView {
        rgb,
        objects,
        complete: RoadUsers::ALL,
    }
}

fn scenes() -> SceneBatch {
    use RoadUser::{Car, Person};
    SceneBatch::of(
        SIZE,
        [
            view(&[(Car, 1, [4, 6, 28, 20]), (Person, 2, [44, 10, 52, 34])]),
            view(&[(Car, 1, [8, 8, 32, 22]), (Person, 2, [48, 10, 56, 34])]),
            view(&[(Car, 3, [30, 24, 60, 44])]),
            view(&[(Car, 3, [28, 22, 58, 42]), (Person, 4, [4, 8, 12, 30])]),
        ],
    )
}

fn task(held_out: Vec<SceneBatch>) -> ProposeTask {
    let held_out = HeldOut {
        frames: held_out.clone(),
        scenes: held_out,
    };
    let loss = ProposeLossConfig::default();
    let precision = Precision::F32;
    ProposeTask::new(net(2), net(2), loss, precision, 7, &Device::Cpu, held_out).unwrap()
}

fn figure(figures: &[(&'static str, f64)], name: &str) -> f64 {
    figures.iter().find(|(n, _)| *n == name).unwrap().1
}

#[test]
fn a_few_blocks_are_learned_by_heart_and_found_by_the_boards_decoder() {
    let batch = scenes();
    let mut task = task(vec![batch.clone()]);
    let before = task.validate(&task.params().snapshot().unwrap()).unwrap();
    let mut adam = AdamW::default();
    let optim = OptimConfig::default();
    let mut first = None;
    let mut last = 0.0;
    for step in 0..320 {
        let loss = task.loss(&batch, step).unwrap();
        last = loss.total.to_scalar::<f32>().unwrap();
        first.get_or_insert(last);
        let gradients = loss.total.backward().unwrap();
        adam.step(task.params(), &gradients, 5e-3, &optim).unwrap();
    }
    assert!(last < 0.3 * first.unwrap(), "{first:?} to {last}");
    let after = task.validate(&task.params().snapshot().unwrap()).unwrap();
    for name in ["ap50", "recall_1fa", "identity_top1"] {
        let (was, is) = (figure(&before, name), figure(&after, name));
        assert!(is > 0.9, "{name} {is}, before {was}");
    }
    assert!(figure(&before, "ap50") < 0.5);
    assert!(after.iter().any(|(n, _)| *n == "ap50_person"));
    assert!(
        !after.iter().any(|(n, _)| *n == "ap50_bus"),
        "none is there"
    );
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(task.panels(folder.path()).unwrap().len(), 1);
    assert!(folder.path().join(SHEET_FILE).is_file());
}

#[test]
fn a_batch_without_an_object_has_a_finite_loss_that_learns() {
    let batch = SceneBatch::of(SIZE, [view(&[]), view(&[])]);
    let task = task(vec![]);
    let loss = task.loss(&batch, 0).unwrap();
    assert!(loss.total.to_scalar::<f32>().unwrap().is_finite());
    let gradients = loss.total.backward().unwrap();
    assert!(
        gradients
            .get(&task.params().vars["propose.score.bias"])
            .is_some()
    );
}

#[test]
fn every_pass_of_the_loop_gives_a_finite_loss() {
    let mut task = task(vec![]);
    for (frozen, quantised) in [(false, false), (true, false), (true, true)] {
        task.freeze_norm(frozen);
        task.quantise(quantised);
        let loss = task.loss(&scenes(), 3).unwrap();
        assert!(loss.total.to_scalar::<f32>().unwrap().is_finite());
        assert!(loss.total.backward().is_ok());
    }
}

#[test]
fn anchors_and_their_own_objects_are_the_same_instance_in_the_two_views() {
    let batch = scenes();
    let task = task(vec![]);
    let targets = task.targets(&batch);
    let mut cells_of: HashMap<(usize, usize), Vec<u32>> = HashMap::new();
    for cell in &targets.boxes {
        let cells = cells_of.entry((cell.frame, cell.object)).or_default();
        cells.push(cell.cell as u32);
    }
    let picked = IdentityCells::pick(&batch, &cells_of, &mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!(picked.anchors.len(), 3, "one object is in one view only");
    assert_eq!(picked.owners[..3], [Some(1), Some(2), Some(3)]);
    assert_eq!(picked.candidates.len(), 3 + 7);
    let cells = task.grid().cells() as u32;
    let owner_at = |row: u32| {
        let view = (row / cells) as usize;
        let found = targets.boxes.iter().find(|b| b.cell as u32 == row).unwrap();
        (view, batch.objects[view][found.object].instance)
    };
    for (anchor, own) in picked.anchors.iter().zip(&picked.candidates) {
        let ((a, name), (b, other)) = (owner_at(*anchor), owner_at(*own));
        assert_eq!((a + 1, name), (b, other));
    }
}
