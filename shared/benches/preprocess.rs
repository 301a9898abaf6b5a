//! What one 256x256 search crop out of a 1920x1080 frame costs, by pixel format and side of the window.
//!
//! `cargo bench -p roadhound-shared --bench preprocess`. The budget is 0.4 ms on one x86 core.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use roadhound_shared::frame::{FrameError, FrameView, PixelFormat};
use roadhound_shared::preprocess::{
    Border, CropScratch, CropWindow, Normalisation, crop_rgb8, crop_tensor,
};

const WIDTH_PX: u32 = 1920;
const HEIGHT_PX: u32 = 1080;
const CROP_PX: u32 = 256;

/// Bytes without a pattern that a branch predictor or a cache could learn.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn view(format: PixelFormat, data: &[u8]) -> Result<FrameView<'_>, FrameError> {
    let width = WIDTH_PX as usize;
    match format {
        PixelFormat::Nv12 => {
            let (luma, chroma) = data.split_at(width * HEIGHT_PX as usize);
            FrameView::nv12(WIDTH_PX, HEIGHT_PX, luma, width, chroma, width)
        }
        PixelFormat::Yuyv => FrameView::packed(format, WIDTH_PX, HEIGHT_PX, 2 * width, data),
        PixelFormat::Grey8 => FrameView::packed(format, WIDTH_PX, HEIGHT_PX, width, data),
        PixelFormat::Rgb8 | PixelFormat::Bgr8 => {
            FrameView::packed(format, WIDTH_PX, HEIGHT_PX, 3 * width, data)
        }
    }
}

fn crops(criterion: &mut Criterion) {
    let data = bytes(3 * (WIDTH_PX * HEIGHT_PX) as usize);
    let side = CROP_PX as usize;
    let mut scratch = CropScratch::default();
    let mut tensor = vec![0.0_f32; 3 * side * side];
    let mut rgb = vec![0_u8; 3 * side * side];
    let normalisation = Normalisation::default();
    for format in [PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::Rgb8] {
        let frame = view(format, &data).expect("the bytes are enough for any format");
        let mut group = criterion.benchmark_group(format!("{format:?}"));
        for side_px in [200.0, 512.0, 1000.0] {
            let window = CropWindow::square(960.3, 540.7, side_px);
            group.bench_function(BenchmarkId::new("tensor", side_px), |bencher| {
                bencher.iter(|| {
                    crop_tensor(
                        black_box(&frame),
                        &window,
                        CROP_PX,
                        Border::Mean,
                        &normalisation,
                        &mut scratch,
                        &mut tensor,
                    )
                });
            });
        }
        let window = CropWindow::square(1800.3, 100.7, 512.0);
        group.bench_function("tensor/512 across the border", |bencher| {
            bencher.iter(|| {
                crop_tensor(
                    black_box(&frame),
                    &window,
                    CROP_PX,
                    Border::Mean,
                    &normalisation,
                    &mut scratch,
                    &mut tensor,
                )
            });
        });
        group.bench_function("bytes/512", |bencher| {
            let window = CropWindow::square(960.3, 540.7, 512.0);
            bencher.iter(|| {
                crop_rgb8(
                    black_box(&frame),
                    &window,
                    CROP_PX,
                    Border::Mean,
                    &mut scratch,
                    &mut rgb,
                )
            });
        });
        group.bench_function("frame mean", |bencher| {
            bencher.iter(|| black_box(&frame).mean_rgb())
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    crops(&mut criterion);
    criterion.final_summary();
}
