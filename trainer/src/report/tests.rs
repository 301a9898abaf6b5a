#![allow(clippy::unwrap_used)]
use super::*;

const LOSSES: &str = "\
step,pairs,rate,gradient_norm,score,iou,pairs_per_s,loader_share
20,480,1.0e-3,4.1,9.5,0.21,41.0,0.031
40,960,2.0e-3,NaN,6.5,0.33,43.0,0.024
60,1440,2.0e-3,2.0,4.5,0.41,44.0,0.020
";
const VALIDATION: &str = "\
step,pairs,auc,presence_auc
30,720,0.31000,0.71000
60,1440,0.42000,0.88000
";

fn run_folder(root: &Path, name: &str) -> PathBuf {
    let folder = root.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let put = |file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
    put("losses.csv", LOSSES);
    put("validation.csv", VALIDATION);
    put(
        "config.toml",
        "seed = 7\n[train]\npairs = 4800\nbatch = 24\nlog_every = 20\n",
    );
    put(
        "calibration.csv",
        "lower,upper,count,mean_predicted,share_present\n0,0.5,100,0.2,0.1\n0.5,1,300,0.9,0.85\n",
    );
    let facts = Facts {
        version: "1.2.3".into(),
        config_sha256: "feedface".into(),
        data: vec![facts::DataCount {
            pack: "clips <&>".into(),
            split: "train".into(),
            boxes: 12_345,
            classes: [("car".to_owned(), 12_000)].into(),
            ..facts::DataCount::default()
        }],
        ..Facts::default()
    };
    put(FACTS_FILE, &serde_json::to_string(&facts).unwrap());
    std::fs::write(folder.join("samples.jpg"), [0xff, 0xd8, 0xff]).unwrap();
    folder
}

#[test]
fn the_page_of_a_run_shows_every_file_of_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let html = page_of(&[run_folder(root.path(), "one")]).unwrap();
    for expected in [
        "1,440 of 4,800 pairs",
        "about 2 min left",
        "<b>0.420</b><span>best AUC, at 1.4k pairs</span>",
        "<b>0.063</b><span>calibration error</span>",
        "<b>2.0 %</b><span>waiting for data, lately</span>",
        "1 value(s) are not numbers",
        "data:image/jpeg;base64,/9j/",
        "clips &lt;&amp;&gt;",
        "12,345",
        "car 12,000",
        "feedface",
        "<tr class=\"set\"><td>seed</td><td>7</td><td class=\"soft\">default 0</td></tr>",
    ] {
        assert!(html.contains(expected), "{expected:?} is missing");
    }
    // train.log_every has its default and is not marked.
    assert!(html.contains("<tr><td>train.log_every</td>"));
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let folders = [run_folder(root.path(), "a"), run_folder(root.path(), "b")];
    for html in [page_of(&folders[..1]).unwrap(), page_of(&folders).unwrap()] {
        for forbidden in ["<script", "<link", "http://", "https://", "url(", "@import"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        let open = |tag: &str| {
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count()
        };
        for tag in [
            "table", "figure", "svg", "section", "div", "tr", "td", "title", "details",
        ] {
            assert_eq!(
                open(tag),
                html.matches(&format!("</{tag}>")).count(),
                "{tag}"
            );
        }
    }
}

#[test]
fn a_run_can_be_read_at_any_byte_of_its_logs() {
    let root = tempfile::tempdir().unwrap();
    let folder = run_folder(root.path(), "one");
    for (file, text) in [("losses.csv", LOSSES), ("validation.csv", VALIDATION)] {
        for cut in 0..text.len() {
            std::fs::write(folder.join(file), &text[..cut]).unwrap();
            read_run(&folder).unwrap_or_else(|e| panic!("{file} cut at {cut}: {e}"));
        }
        std::fs::write(folder.join(file), text).unwrap();
    }
}

#[test]
fn a_run_that_has_only_begun_has_a_page_that_says_so() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("config.toml"), "seed = 1\n").unwrap();
    let html = page_of(&[root.path().to_owned()]).unwrap();
    assert!(html.contains("nothing logged yet") && html.contains("no pictures yet"));
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    let root = tempfile::tempdir().unwrap();
    let folder = run_folder(root.path(), "one");
    let refused = |file: &str, text: &[u8]| {
        let path = folder.join(file);
        let before = std::fs::read(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        let error = read_run(&folder).unwrap_err().to_string();
        std::fs::write(&path, before).unwrap();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(!error.contains('\n'), "{error}");
        error
    };
    assert!(
        refused("losses.csv", b"step,pairs,iou\n20,480\n40,960,0.5\n").contains(":2: 2 fields")
    );
    assert!(refused("losses.csv", b"step,iou\n20,0.5\n").contains(":1: no column \"pairs\""));
    assert!(refused("validation.csv", b"step,pairs,auc\n20,480,\xff\xfe\n").contains(":2: auc is"));
    assert!(refused("config.toml", b"seed = \n").contains("line 1"));
    assert!(refused(FACTS_FILE, b"{\"seed\": 1").contains("line 1"));
    assert!(refused("calibration.csv", b"lower,upper\n0,1\n").contains("no column \"count\""));
    let error = read_run(&root.path().join("nowhere")).unwrap_err();
    assert!(
        error.to_string().contains("not the folder of a run"),
        "{error}"
    );
}

#[test]
fn a_comparison_tells_runs_apart_and_shows_what_differs() {
    let root = tempfile::tempdir().unwrap();
    let first = run_folder(&root.path().join("x"), "run");
    let second = run_folder(&root.path().join("y"), "run");
    std::fs::write(
        second.join("config.toml"),
        "seed = 8\n[train]\npairs = 4800\nbatch = 24\nlog_every = 20\n",
    )
    .unwrap();
    std::fs::write(
        second.join("validation.csv"),
        "step,pairs,auc\n30,720,0.5\n60,1440,0.4\n",
    )
    .unwrap();
    std::fs::remove_file(second.join("calibration.csv")).unwrap();
    let html = page_of(&[first.clone(), second.clone()]).unwrap();
    let names = [first.display().to_string(), second.display().to_string()];
    assert!(names.iter().all(|name| html.contains(name.as_str())));
    for expected in [
        "<tr><td>success AUC: best</td><td>0.420</td><td><b>0.500</b></td></tr>",
        "<tr><td>success AUC: last</td><td><b>0.420</b></td><td>0.400</td></tr>",
        "<tr><td>presence ROC-AUC: best</td><td>0.880</td><td>–</td></tr>",
        "<tr><td>seed</td><td>7</td><td>8</td></tr>",
    ] {
        assert!(html.contains(expected), "{expected:?} is missing");
    }
    assert!(
        !html.contains("<td>train.pairs</td>"),
        "equal keys stay out"
    );
}

#[test]
fn of_every_figure_the_better_side_is_the_best_one_and_a_game_has_none() {
    let root = tempfile::tempdir().unwrap();
    let seeds = ["a", "b", "c"].map(|seed| run_folder(&root.path().join(seed), "gan"));
    for (folder, figures) in seeds
        .iter()
        .zip(["9,0.5,7,1.0", "4,0.25,8,2.0", "5,0.75,3,0.5"])
    {
        let first = "step,samples,frechet,z_accuracy,modes,divergence\n30,720,20,0.9,1,4.0\n";
        let table = format!("{first}60,1440,{figures}\n");
        std::fs::write(folder.join("validation.csv"), table).unwrap();
    }
    let html = page_of(&seeds).unwrap();
    for expected in [
        "<tr><td>frechet: best</td><td>9.000</td><td><b>4.000</b></td><td>5.000</td><td>5.000</td></tr>",
        "<tr><td>z_accuracy: last</td><td>0.500</td><td><b>0.250</b></td><td>0.750</td><td>0.500</td></tr>",
        "<tr><td>modes: best</td><td>7.000</td><td><b>8.000</b></td><td>3.000</td><td>7.000</td></tr>",
        "<tr><td>divergence: last</td><td>1.000</td><td>2.000</td><td>0.500</td><td>1.000</td></tr>",
    ] {
        assert!(html.contains(expected), "{expected:?} is missing");
    }
    assert!(
        !html.contains("divergence: best"),
        "nobody knows which side that is"
    );
}

#[test]
fn a_page_is_replaced_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let folder = run_folder(root.path(), "one");
    std::fs::write(folder.join(REPORT_FILE), "old").unwrap();
    refresh(&folder).unwrap();
    let page = std::fs::read_to_string(folder.join(REPORT_FILE)).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    let leftovers = std::fs::read_dir(&folder)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension() == Some("partial".as_ref()));
    assert_eq!(leftovers.count(), 0);
}
