#![allow(clippy::unwrap_used)]
use super::batch::SceneBatch;
use super::*;
use crate::batch::{PrefetchConfig, Prefetcher};
use crate::data::{DataConfig, PackConfig, PackKind};

/// Every scene of a folder's pack `p`, as video.
fn data_of(folder: &tempfile::TempDir) -> DataConfig {
    DataConfig {
        root: folder.path().into(),
        packs: vec![PackConfig {
            name: "p".into(),
            kind: PackKind::Video,
            weight: 1.0,
            path: None,
            held_out: Some(vec![]),
            fixed_camera_prefixes: vec![],
            read: Default::default(),
        }],
        ..DataConfig::default()
    }
}

/// A video of ten frames: a red car that drives to the right, a person, and a region that holds many.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("p/images/drive");
    std::fs::create_dir_all(&images).unwrap();
    let mut lines = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
    for frame in 0..10_u32 {
        let left = 20 + 6 * frame;
        let picture = image::RgbImage::from_fn(160, 100, |x, y| {
            let on_car = (left..left + 40).contains(&x) && (30..60).contains(&y);
            image::Rgb(match on_car {
                true => [230, 10, 10],
                false => [90, (x / 2) as u8, y as u8],
            })
        });
        picture.save(images.join(format!("{frame}.png"))).unwrap();
        lines += &format!("drive,{frame},1,car,{left},30,40,30,0\n");
        lines += &format!("drive,{frame},2,person,100,70,8,20,0\n");
        lines += &format!("drive,{frame},3,ignore,120,5,30,20,0\n");
        lines += &format!("drive,{frame},4,car,3,3,3,2,0\n");
    }
    std::fs::write(folder.path().join("p/boxes.csv"), lines).unwrap();
    folder
}

fn sampler(folder: &tempfile::TempDir, change: impl Fn(&mut SceneConfig)) -> Arc<SceneSampler> {
    let data = data_of(folder);
    let mut config = SceneConfig {
        input_width_px: 96,
        input_height_px: 64,
        ..SceneConfig::default()
    };
    change(&mut config);
    let labels = [PackLabels {
        pack: "p".into(),
        complete: vec![RoadUser::Car],
    }];
    let dataset = Arc::new(Dataset::open(&data).unwrap());
    let augment = AugmentConfig::none();
    Arc::new(SceneSampler::new(dataset, config, &labels, augment, Split::Train, 3).unwrap())
}

/// Share of a box's pixels that are red, and of the whole view's.
fn redness(view: &SceneView, size: CropSize, b: &BoxLtrb) -> (f32, f32) {
    let is_red = |p: &[u8]| p[0] > 180 && p[1] < 60;
    let (mut inside, mut red_inside, mut red) = (0, 0, 0);
    for (at, pixel) in view.rgb.chunks_exact(3).enumerate() {
        let (x, y) = (at as u32 % size.width_px, at as u32 / size.width_px);
        let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
        let is_inside =
            (b.left_px..b.right_px).contains(&x) && (b.top_px..b.bottom_px).contains(&y);
        inside += i32::from(is_inside);
        red_inside += i32::from(is_inside && is_red(pixel));
        red += i32::from(is_red(pixel));
    }
    (
        red_inside as f32 / inside.max(1) as f32,
        red_inside as f32 / red.max(1) as f32,
    )
}

#[test]
fn boxes_lie_on_their_objects_however_the_view_is_cut_and_mirrored() {
    let folder = folder();
    let scenes = sampler(&folder, |_| ());
    let size = scenes.config().input();
    let mut checked = 0;
    for number in 0..60 {
        let pair = scenes.draw(number, &mut SamplerScratch::default()).unwrap();
        for view in &pair.views {
            for object in &view.objects {
                let is_car = object.kinds.only() == Some(RoadUser::Car);
                if object.standing != Standing::Target || !is_car {
                    continue;
                }
                let (filled, holds) = redness(view, size, &object.box_in_view);
                assert!(filled > 0.85, "scene {number}: {filled} of the box is car");
                assert!(
                    holds > 0.85,
                    "scene {number}: {holds} of the car is in the box"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "{checked} cars");
}

#[test]
fn what_is_ignored_too_small_or_cut_is_no_target_but_is_not_forgotten() {
    let folder = folder();
    let scenes = sampler(&folder, |_| ());
    let frames = scenes
        .whole_frames(4, &mut SamplerScratch::default())
        .unwrap();
    assert_eq!(frames.len(), 4);
    for view in &frames {
        assert_eq!(view.complete, RoadUsers::of(&[RoadUser::Car]));
        let standing: Vec<_> = view.objects.iter().map(|o| (o.kinds, o.standing)).collect();
        let (car, person) = (kinds_of("car"), kinds_of("person"));
        assert_eq!(
            standing,
            [
                (car, Standing::Target),
                // 8 px of 160 are 4.8 of the view's 96.
                (person, Standing::Ignored),
                (RoadUsers::ALL, Standing::Ignored),
                (car, Standing::Ignored),
            ]
        );
    }
    assert!(frames[0] != frames[3]);
}

#[test]
fn every_road_user_of_the_rendered_world_is_a_target_of_its_kind() {
    use roadhound_shared::world::Class;
    for class in Class::ALL {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("p/images/drive");
        std::fs::create_dir_all(&images).unwrap();
        let picture = image::RgbImage::from_pixel(160, 100, image::Rgb([90, 90, 90]));
        picture.save(images.join("0.png")).unwrap();
        let name = class.name();
        let lines = format!(
            "sequence,frame,instance,class,x,y,w,h,occluded\ndrive,0,1,{name},60,40,40,30,0\n"
        );
        std::fs::write(folder.path().join("p/boxes.csv"), lines).unwrap();
        let scenes = sampler(&folder, |_| ());
        let frames = scenes.whole_frames(1, &mut SamplerScratch::default());
        let object = frames.unwrap()[0].objects[0];
        let kind = match class {
            Class::Car | Class::Van => RoadUser::Car,
            Class::Truck => RoadUser::Truck,
            Class::Bus => RoadUser::Bus,
            Class::Motorcycle => RoadUser::Motorcycle,
            Class::Bicycle => RoadUser::Bicycle,
            Class::Autorickshaw => RoadUser::AutoRickshaw,
            Class::Tractor | Class::Cart => RoadUser::Other,
            Class::Person => RoadUser::Person,
            Class::Animal => RoadUser::Animal,
        };
        assert_eq!(object.standing, Standing::Target, "{name}");
        assert_eq!(object.kinds.only(), Some(kind), "{name}");
    }
}

#[test]
fn a_sequence_without_road_users_is_drawn_where_its_pack_would_have_boxed_them() {
    let folder = folder();
    let images = folder.path().join("p/images");
    std::fs::create_dir(images.join("empty")).unwrap();
    std::fs::copy(images.join("drive/0.png"), images.join("empty/0.png")).unwrap();
    let table = folder.path().join("p/boxes.csv");
    let lines = std::fs::read_to_string(&table).unwrap() + "empty,0,1,traffic_light,9,9,9,9,0\n";
    std::fs::write(table, lines).unwrap();
    let scenes = sampler(&folder, |_| ());
    assert_eq!(scenes.sequence_count(), 2);
    let frames = scenes.whole_frames(11, &mut SamplerScratch::default());
    let is_empty = |view: &SceneView| view.objects.iter().all(|o| o.standing == Standing::Ignored);
    let empty = frames.unwrap().iter().filter(|view| is_empty(view)).count();
    assert_eq!(empty, 1);
    let drawn = (0..60).filter(|&number| {
        let pair = scenes.draw(number, &mut SamplerScratch::default());
        pair.unwrap()
            .views
            .iter()
            .all(|view| view.objects.len() <= 1)
    });
    assert!(drawn.count() > 5, "it is hardly ever drawn");
    // Where the pack boxes no kind wherever it is, nothing is known of the picture.
    let data = Arc::new(Dataset::open(&data_of(&folder)).unwrap());
    let labels = [PackLabels {
        pack: "p".into(),
        complete: vec![],
    }];
    let (config, augment) = (scenes.config().clone(), AugmentConfig::none());
    let scenes = SceneSampler::new(data, config, &labels, augment, Split::Train, 3).unwrap();
    assert_eq!(scenes.sequence_count(), 1);
}

#[test]
fn both_views_know_an_object_by_one_identity() {
    let folder = folder();
    let scenes = sampler(&folder, |config| config.whole_share = 1.0);
    let mut moved = 0;
    for number in 0..20 {
        let [a, b] = scenes
            .draw(number, &mut SamplerScratch::default())
            .unwrap()
            .views;
        let car = |view: &SceneView| view.objects[0];
        assert_eq!(car(&a).instance, car(&b).instance);
        assert_ne!(car(&a).instance, a.objects[1].instance);
        moved += usize::from(car(&a).box_in_view != car(&b).box_in_view);
    }
    assert_eq!(moved, 20);
}

#[test]
fn batches_are_the_same_for_one_and_three_workers_and_after_a_resumption() {
    let folder = folder();
    let scenes = sampler(&folder, |_| ());
    let batches = |workers, from, count| -> Vec<SceneBatch> {
        let config = PrefetchConfig {
            batch_size: 2,
            workers,
            ahead: 1,
        };
        let prefetcher = Prefetcher::new(scenes.clone(), &config, from).unwrap();
        prefetcher.take(count).collect::<Result<_, _>>().unwrap()
    };
    let whole = batches(1, 0, 6);
    assert_eq!(whole, batches(3, 0, 6));
    assert_eq!(whole[4..], batches(2, 4, 2));
    assert_ne!(whole[0], whole[1]);
    let alone = SceneBatch::draw(&scenes, 5, 2, &mut SamplerScratch::default()).unwrap();
    assert_eq!(whole[5], alone);
    assert_eq!((alone.views(), alone.rgb.len()), (4, 4 * 96 * 64 * 3));
    assert_eq!(
        SceneBatch::of(alone.size, (0..4).map(|i| alone.view(i))),
        alone
    );
}

#[test]
fn a_pack_of_which_nobody_says_what_it_labels_is_refused_by_name() {
    let folder = folder();
    let scenes = sampler(&folder, |_| ());
    let new = |labels: &[PackLabels], config: SceneConfig| {
        let (dataset, augment) = (scenes.dataset.clone(), AugmentConfig::none());
        SceneSampler::new(dataset, config, labels, augment, Split::Train, 3)
            .unwrap_err()
            .to_string()
    };
    let config = scenes.config().clone();
    let said = new(&[], config.clone());
    assert!(said.contains("labels.pack is p: is missing"), "{said}");
    let other = PackLabels {
        pack: "q".into(),
        complete: vec![],
    };
    let said = new(&[other], config.clone());
    assert!(
        said.contains("labels.pack is q: is not one of the packs"),
        "{said}"
    );
    let bad = SceneConfig {
        whole_share: 1.5,
        ..config
    };
    let said = new(&[], bad);
    assert!(said.contains("scenes.whole_share"), "{said}");
}
