//! A bundle that is not whole, or not what it says, is refused before the first frame, by name.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{
    Proto, check_refused, contract, good_bundle, panics, search_onnx, template_onnx, write_bundle,
    write_images,
};
use proptest::prelude::*;
use roadhound_edge::infer::{InferError, TractNetwork};

/// Asserts that `track` refuses the bundle, with status 2 and one line that holds `words`.
fn check_bundle_refused(bundle: &Path, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let images = write_images(folder.path(), 64, &[200; 2]);
    let (images, bundle) = (images.display().to_string(), bundle.display().to_string());
    check_refused(
        &["track", &images, "--init=20,20,24,24", "--model", &bundle],
        words,
    );
}

#[test]
fn bundle_with_a_flipped_bit_is_refused() {
    for name in ["template.onnx", "search.onnx", "probe.json"] {
        let folder = tempfile::tempdir().unwrap();
        let bundle = good_bundle(folder.path());
        let path = bundle.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        check_bundle_refused(&bundle, &[name, "SHA-256"]);
    }
}

#[test]
fn bundle_with_a_shortened_or_missing_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let search = bundle.join("search.onnx");
    let bytes = std::fs::read(&search).unwrap();
    std::fs::write(&search, &bytes[..bytes.len() - 9]).unwrap();
    check_bundle_refused(&bundle, &["search.onnx", "bytes, expected"]);
    std::fs::remove_file(&search).unwrap();
    check_bundle_refused(&bundle, &["search.onnx", "No such file"]);
}

#[test]
fn manifest_with_an_unknown_key_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let path = bundle.join("bundle.toml");
    let manifest = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("colour = \"red\"\n{manifest}")).unwrap();
    check_bundle_refused(&bundle, &["bundle.toml", "line 1", "colour"]);
    std::fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    check_bundle_refused(&bundle, &["bundle.toml", "not text"]);
}

#[test]
fn folder_without_manifest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    check_bundle_refused(folder.path(), &["bundle.toml", "No such file"]);
}

#[test]
fn graphs_that_compute_something_else_fail_the_probe() {
    let folder = tempfile::tempdir().unwrap();
    let c = contract();
    // The same graph with one weight changed: right names, right shapes, wrong numbers.
    let mut search = search_onnx(&c);
    let bias = 32.0f32.to_le_bytes();
    let at = search.windows(4).rposition(|w| w == bias).unwrap();
    search[at..at + 4].copy_from_slice(&40.0f32.to_le_bytes());
    let bundle = folder.path().join("bundle");
    write_bundle(
        &bundle,
        &[
            ("template.onnx", template_onnx(&c)),
            ("search.onnx", search),
        ],
    );
    check_bundle_refused(&bundle, &["bundle", "probe", "box"]);
}

#[test]
fn onnx_of_another_network_is_refused_with_the_tensor_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    let c = contract();
    let bundle = folder.path().join("bundle");
    write_bundle(
        &bundle,
        &[
            ("template.onnx", template_onnx(&c)),
            ("search.onnx", template_onnx(&c)),
        ],
    );
    check_bundle_refused(&bundle, &["search.onnx", "no input named", "search"]);

    let mut other = contract();
    other.tensors.score.shape = vec![1, 1, 8, 8];
    let error = TractNetwork::load(&other, &template_onnx(&c), &search_onnx(&c), 1)
        .err()
        .unwrap();
    assert!(
        matches!(&error, InferError::Shape { name, .. } if *name == other.tensors.score.name),
        "{error}"
    );
}

#[test]
fn file_that_is_no_onnx_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let c = contract();
    for (k, junk) in [
        b"hello, this is not a graph".to_vec(),
        Vec::new(),
        vec![0xff; 400],
    ]
    .into_iter()
    .enumerate()
    {
        let bundle = folder.path().join(k.to_string());
        write_bundle(
            &bundle,
            &[("template.onnx", junk), ("search.onnx", search_onnx(&c))],
        );
        check_bundle_refused(&bundle, &["template.onnx"]);
    }
    let bundle = folder.path().join("operator");
    let unknown = Proto::default()
        .int(1, 8)
        .message(
            7,
            Proto::default().message(
                1,
                Proto::default()
                    .text(1, "x")
                    .text(2, "y")
                    .text(4, "Frobnicate"),
            ),
        )
        .message(8, Proto::default().text(1, "").int(2, 17));
    write_bundle(
        &bundle,
        &[
            ("template.onnx", unknown.into_bytes()),
            ("search.onnx", search_onnx(&c)),
        ],
    );
    check_bundle_refused(&bundle, &["template.onnx"]);
}

#[test]
fn int8_is_refused_where_the_bundle_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let images = write_images(folder.path(), 64, &[200; 2]);
    let (images, bundle) = (images.display().to_string(), bundle.display().to_string());
    check_refused(
        &[
            "track",
            &images,
            "--init=20,20,24,24",
            "--model",
            &bundle,
            "--precision",
            "int8",
        ],
        &[&bundle, "int8"],
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn damaged_onnx_is_an_error_or_a_network_but_never_a_panic(at in any::<prop::sample::Index>(), value: u8, kept in 0.5f64..1.0) {
        let c = contract();
        let mut bytes = template_onnx(&c);
        // Damage the structure, not the weights that make up most of the file.
        let end = 600.min(bytes.len());
        let head = at.index(end);
        bytes[head] = value;
        let kept = (bytes.len() as f64 * kept) as usize;
        let ((), places) = panics::of_ours(|| {
            let _ = TractNetwork::load(&c, &bytes, &search_onnx(&c), 1);
            let _ = TractNetwork::load(&c, &bytes[..kept], &search_onnx(&c), 1);
        });
        prop_assert!(places.is_empty(), "caught, but ours: {places:?}");
    }
}
