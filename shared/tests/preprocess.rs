//! Crops against a slow reference in double precision, and the identities that any crop must obey.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use roadhound_shared::frame::{FrameError, FrameView, PixelFormat, YuvMatrix};
use roadhound_shared::preprocess::{
    Border, CropScratch, CropWindow, Normalisation, PreprocessError, crop_rgb8, crop_tensor,
};

const FORMATS: [PixelFormat; 5] = [
    PixelFormat::Rgb8,
    PixelFormat::Bgr8,
    PixelFormat::Grey8,
    PixelFormat::Yuyv,
    PixelFormat::Nv12,
];
/// Leaves 0 to 255 as they are.
const PLAIN: Normalisation = Normalisation {
    mean: [0.0; 3],
    scale: [1.0; 3],
};

/// Bytes of a frame with padded rows; `view` borrows them.
#[derive(Clone, Debug)]
struct Picture {
    format: PixelFormat,
    width_px: u32,
    height_px: u32,
    stride_bytes: usize,
    data: Vec<u8>,
}

impl Picture {
    fn new(
        format: PixelFormat,
        (width_px, height_px): (u32, u32),
        padding: usize,
        mut byte: impl FnMut() -> u8,
    ) -> Self {
        let row_bytes = match format {
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => 3 * width_px,
            PixelFormat::Grey8 | PixelFormat::Nv12 => width_px,
            PixelFormat::Yuyv => 2 * width_px,
        };
        let stride_bytes = row_bytes as usize + padding;
        let rows = if format == PixelFormat::Nv12 {
            height_px * 3 / 2
        } else {
            height_px
        };
        let data = (0..stride_bytes * rows as usize).map(|_| byte()).collect();
        Self {
            format,
            width_px,
            height_px,
            stride_bytes,
            data,
        }
    }

    fn view(&self) -> FrameView<'_> {
        let Self {
            format,
            width_px,
            height_px,
            stride_bytes,
            ref data,
        } = *self;
        if format == PixelFormat::Nv12 {
            let (luma, chroma) = data.split_at(stride_bytes * height_px as usize);
            FrameView::nv12(
                width_px,
                height_px,
                luma,
                stride_bytes,
                chroma,
                stride_bytes,
            )
            .unwrap()
        } else {
            FrameView::packed(format, width_px, height_px, stride_bytes, data).unwrap()
        }
    }
}

/// Fixed noise: proptest shrinks sizes and windows, not thousands of bytes.
fn noise(seed: u32) -> impl FnMut() -> u8 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    }
}

fn pictures() -> impl Strategy<Value = Picture> {
    (
        0..FORMATS.len(),
        1_u32..60,
        1_u32..24,
        0_usize..7,
        any::<u32>(),
    )
        .prop_map(|(format, half_width, half_height, padding, seed)| {
            let odd = u32::from(format < 3 && seed % 2 == 1);
            Picture::new(
                FORMATS[format],
                (2 * half_width - odd, 2 * half_height - odd),
                padding,
                noise(seed),
            )
        })
}

fn borders() -> impl Strategy<Value = Border> {
    prop_oneof![
        Just(Border::Mean),
        Just(Border::Replicate),
        any::<[u8; 3]>().prop_map(Border::Constant)
    ]
}

/// Inside, across and wholly outside the frame; from a twentieth of a pixel to ten thousand.
fn windows() -> impl Strategy<Value = CropWindow> {
    (-60_f32..180.0, -40_f32..90.0, -3_f32..9.2, -0.7_f32..0.7).prop_map(
        |(cx_px, cy_px, log_side, log_ratio)| CropWindow {
            cx_px,
            cy_px,
            w_px: (log_side + log_ratio).exp(),
            h_px: (log_side - log_ratio).exp(),
        },
    )
}

fn tensor(frame: &FrameView<'_>, window: &CropWindow, crop_px: u32, border: Border) -> Vec<f32> {
    let mut out = vec![f32::NAN; 3 * (crop_px * crop_px) as usize];
    crop_tensor(
        frame,
        window,
        crop_px,
        border,
        &PLAIN,
        &mut CropScratch::default(),
        &mut out,
    )
    .unwrap();
    out
}

fn bytes(frame: &FrameView<'_>, window: &CropWindow, crop_px: u32, border: Border) -> Vec<u8> {
    let mut out = vec![0; 3 * (crop_px * crop_px) as usize];
    crop_rgb8(
        frame,
        window,
        crop_px,
        border,
        &mut CropScratch::default(),
        &mut out,
    )
    .unwrap();
    out
}

/// Red, green, blue of one output pixel: the mean over its box, pixel by pixel, colour converted last.
fn reference(
    frame: &FrameView<'_>,
    window: &CropWindow,
    crop_px: u32,
    border: Border,
    x: u32,
    y: u32,
) -> [f64; 3] {
    let coverage = |centre: f32, extent: f32, i: u32, length: u32| -> Vec<(Option<u32>, f64)> {
        let scale = f64::from(extent) / f64::from(crop_px);
        let width = scale.max(1.0);
        let middle = f64::from(centre) - f64::from(extent) / 2.0 + (f64::from(i) + 0.5) * scale;
        let (low, high) = (middle - width / 2.0, middle + width / 2.0);
        let share = |from: f64, to: f64| (to.min(high) - from.max(low)).max(0.0) / width;
        let mut runs: Vec<_> = (0..length)
            .map(|p| (Some(p), share(f64::from(p), f64::from(p) + 1.0)))
            .collect();
        let replicate = border == Border::Replicate;
        runs.push((replicate.then_some(0), share(f64::NEG_INFINITY, 0.0)));
        runs.push((
            replicate.then_some(length - 1),
            share(f64::from(length), f64::INFINITY),
        ));
        runs.retain(|(_, weight)| *weight > 0.0);
        runs
    };
    let columns = coverage(window.cx_px, window.w_px, x, frame.width_px());
    let rows = coverage(window.cy_px, window.h_px, y, frame.height_px());
    let fill = match border {
        Border::Mean => frame.mean_rgb(),
        Border::Constant(rgb) => rgb.map(f32::from),
        Border::Replicate => [0.0; 3],
    };
    let (mut inside, mut native) = (0.0, [0.0_f64; 3]);
    for &(row, row_weight) in &rows {
        for &(column, column_weight) in &columns {
            let (Some(row), Some(column)) = (row, column) else {
                continue;
            };
            let weight = row_weight * column_weight;
            inside += weight;
            for (sum, value) in native.iter_mut().zip(frame.native_at(column, row).unwrap()) {
                *sum += weight * f64::from(value);
            }
        }
    }
    // What is outside is blended before colours are clamped, as the map is affine.
    let yuv = matches!(frame.format(), PixelFormat::Yuyv | PixelFormat::Nv12);
    let fill = match frame.format() {
        PixelFormat::Grey8 => [0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2]; 3],
        PixelFormat::Yuyv | PixelFormat::Nv12 => frame.yuv_matrix().yuv_from_rgb(fill),
        PixelFormat::Rgb8 | PixelFormat::Bgr8 => fill,
    };
    for (sum, fill) in native.iter_mut().zip(fill) {
        *sum += (1.0 - inside) * f64::from(fill);
    }
    if yuv {
        textbook_bt601(native).map(|value| value.clamp(0.0, 255.0))
    } else {
        native
    }
}

/// ITU-R BT.601 limited range with its customary decimals, to check the constants that the crate derives.
fn textbook_bt601([y, u, v]: [f64; 3]) -> [f64; 3] {
    let luma = 1.164_383 * (y - 16.0);
    [
        luma + 1.596_027 * (v - 128.0),
        luma - 0.391_762 * (u - 128.0) - 0.812_968 * (v - 128.0),
        luma + 2.017_232 * (u - 128.0),
    ]
}

/// Grey levels by which fixed point may differ from the reference.
fn tolerance(window: &CropWindow, crop_px: u32, frame: &FrameView<'_>) -> f64 {
    let taps =
        |extent: f32, length: u32| ((extent / crop_px as f32).ceil() + 2.0).min(length as f32);
    // Each short sum is off by at most half a last place, 1/256, for each of its taps; four partial sums are rounded
    // on their own.
    let taps = taps(window.w_px, frame.width_px()).min(64.0)
        + taps(window.h_px, frame.height_px()).min(64.0)
        + 6.0;
    let yuv = matches!(frame.format(), PixelFormat::Yuyv | PixelFormat::Nv12);
    // Blue takes 1.16 of the error of Y and 2.02 of that of U.
    let gain = if yuv { 1.16 + 2.02 } else { 1.0 };
    f64::from(taps) / 512.0 * gain + 0.01
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn crop_agrees_with_the_slow_reference(
        picture in pictures(), window in windows(), crop_px in 1_u32..14, border in borders(),
    ) {
        let frame = picture.view();
        let (floats, rounded) = (tensor(&frame, &window, crop_px, border), bytes(&frame, &window, crop_px, border));
        let area = (crop_px * crop_px) as usize;
        let tolerance = tolerance(&window, crop_px, &frame);
        for y in 0..crop_px {
            for x in 0..crop_px {
                let i = (y * crop_px + x) as usize;
                let expected = reference(&frame, &window, crop_px, border, x, y);
                for (c, expected) in expected.into_iter().enumerate() {
                    let (float, byte) = (f64::from(floats[c * area + i]), f64::from(rounded[3 * i + c]));
                    prop_assert!(
                        (float - expected).abs() <= tolerance,
                        "({x}, {y}) channel {c}: {float}, expected {expected} to {tolerance}"
                    );
                    prop_assert!((byte - expected).abs() <= tolerance + 0.5);
                }
            }
        }
    }

    #[test]
    fn crop_of_one_colour_is_that_colour_everywhere(
        format in 0..FORMATS.len(), window in windows(), crop_px in 1_u32..20, value in 16_u8..=235, replicate: bool,
    ) {
        // Equal bytes are a colour in every format; in YUV not a grey one.
        let picture = Picture::new(FORMATS[format], (64, 48), 0, || value);
        let border = if replicate { Border::Replicate } else { Border::Mean };
        let frame = picture.view();
        let crop = tensor(&frame, &window, crop_px, border);
        // Against the colour itself: two pixels may be off to either side of it, and so twice as far from each other.
        let colour = reference(&frame, &window, crop_px, border, 0, 0);
        let tolerance = tolerance(&window, crop_px, &frame);
        for (plane, colour) in crop.chunks((crop_px * crop_px) as usize).zip(colour) {
            let off = plane.iter().map(|value| (f64::from(*value) - colour).abs()).fold(0.0, f64::max);
            prop_assert!(off <= tolerance, "{} above {}", off, tolerance);
        }
        if format < 3 {
            let crop = bytes(&frame, &window, crop_px, border);
            prop_assert!(crop.iter().all(|found| *found == value), "{:?}", crop);
        }
    }

    #[test]
    fn swapping_red_and_blue_in_the_frame_swaps_them_in_the_crop(
        seed: u32, window in windows(), crop_px in 1_u32..20, border in borders(),
    ) {
        let rgb = Picture::new(PixelFormat::Rgb8, (50, 30), 1, noise(seed));
        let bgr = Picture { format: PixelFormat::Bgr8, ..rgb.clone() };
        let swapped = match border {
            Border::Constant([red, green, blue]) => Border::Constant([blue, green, red]),
            border => border,
        };
        let (a, b) = (bytes(&rgb.view(), &window, crop_px, border), bytes(&bgr.view(), &window, crop_px, swapped));
        for (a, b) in a.chunks(3).zip(b.chunks(3)) {
            prop_assert_eq!([a[0], a[1], a[2]], [b[2], b[1], b[0]]);
        }
    }

    #[test]
    fn any_window_is_a_crop_or_an_error_never_a_panic(
        picture in pictures(), cx_px: f32, cy_px: f32, w_px: f32, h_px: f32, crop_px in 0_u32..9, border in borders(),
    ) {
        let window = CropWindow { cx_px, cy_px, w_px, h_px };
        let mut out = vec![f32::NAN; 3 * (crop_px * crop_px) as usize];
        let scratch = &mut CropScratch::default();
        let done = crop_tensor(&picture.view(), &window, crop_px, border, &PLAIN, scratch, &mut out);
        let finite = [cx_px, cy_px, w_px, h_px].iter().all(|value| value.is_finite());
        prop_assert_eq!(done.is_ok(), finite && w_px > 0.0 && h_px > 0.0 && crop_px > 0);
        if done.is_ok() {
            // Sums lie at most their rounding above 255.
            prop_assert!(out.iter().all(|value| (0.0..=255.5).contains(value)), "{:?}", out);
        }
    }

    #[test]
    fn moving_the_window_moves_the_crop(seed: u32, shift_x in 0_u32..20, shift_y in 0_u32..10) {
        let picture = Picture::new(PixelFormat::Rgb8, (64, 48), 0, noise(seed));
        let frame = picture.view();
        // One crop pixel is two image pixels, so that whole shifts move the crop by whole pixels.
        let at = |dx: u32, dy: u32| {
            bytes(&frame, &CropWindow::square(20.0 + 2.0 * dx as f32, 18.0 + 2.0 * dy as f32, 32.0), 16, Border::Mean)
        };
        let (still, moved) = (at(0, 0), at(shift_x, shift_y));
        for y in shift_y..16 {
            for x in shift_x..16 {
                let (a, b) = (3 * (y * 16 + x) as usize, 3 * ((y - shift_y) * 16 + x - shift_x) as usize);
                prop_assert_eq!(&still[a..a + 3], &moved[b..b + 3]);
            }
        }
    }

    #[test]
    fn crop_of_the_mirrored_frame_is_the_mirrored_crop(
        seed: u32, cx_px in -10_f32..74.0, side_px in 1_f32..100.0, crop_px in 1_u32..20,
    ) {
        let picture = Picture::new(PixelFormat::Rgb8, (64, 48), 0, noise(seed));
        let mut mirrored = picture.clone();
        for (row, from) in mirrored.data.chunks_mut(3 * 64).zip(picture.data.chunks(3 * 64)) {
            for (pixel, from) in row.chunks_mut(3).zip(from.chunks(3).rev()) {
                pixel.copy_from_slice(from);
            }
        }
        let border = Border::Constant([9, 90, 200]);
        let straight = tensor(&picture.view(), &CropWindow::square(cx_px, 20.0, side_px), crop_px, border);
        let other = tensor(&mirrored.view(), &CropWindow::square(64.0 - cx_px, 20.0, side_px), crop_px, border);
        for (a, b) in straight.chunks(crop_px as usize).zip(other.chunks(crop_px as usize)) {
            for (a, b) in a.iter().zip(b.iter().rev()) {
                // The mirrored centre is rounded to single precision: 4e-6 px of a contrast of up to 255 a pixel.
                prop_assert!((a - b).abs() < 0.05, "{} {}", a, b);
            }
        }
    }

    #[test]
    fn crop_maps_are_inverses_and_carry_the_window_to_the_crop(window in windows(), crop_px in 1_u32..400) {
        let (image_from_crop, crop_from_image) = (window.image_from_crop(crop_px), window.crop_from_image(crop_px));
        let crop = crop_px as f32;
        for corner in [(0.0, 0.0), (crop, 0.0), (crop / 2.0, crop / 2.0), (crop, crop)] {
            let (x, y) = crop_from_image.apply(image_from_crop.apply(corner));
            // Coordinates near 100 carry 1e-5 px; the inverse magnifies by crop pixels per image pixel.
            let tolerance = 1e-3 + 1e-4 * crop / window.w_px.min(window.h_px);
            prop_assert!((x - corner.0).abs() < tolerance && (y - corner.1).abs() < tolerance, "{:?}", (x, y));
        }
        let (x, y) = image_from_crop.apply((crop / 2.0, crop / 2.0));
        let tolerance = 1e-4 * (1.0 + window.w_px.max(window.h_px));
        prop_assert!((x - window.cx_px).abs() < tolerance && (y - window.cy_px).abs() < tolerance);
    }
}

#[test]
fn window_that_is_the_frame_copies_it_byte_for_byte() {
    let picture = Picture::new(PixelFormat::Rgb8, (48, 48), 5, noise(7));
    let crop = bytes(
        &picture.view(),
        &CropWindow::square(24.0, 24.0, 48.0),
        48,
        Border::Mean,
    );
    for (y, row) in crop.chunks(3 * 48).enumerate() {
        assert_eq!(
            row,
            &picture.data[y * picture.stride_bytes..][..3 * 48],
            "row {y}"
        );
    }
}

#[test]
fn frame_of_single_pixel_stripes_shrinks_to_even_grey() {
    // Aliasing would leave stripes: the frame alternates at twice the rate the crop can show.
    let mut x = 0;
    let picture = Picture::new(PixelFormat::Grey8, (128, 128), 0, || {
        x += 1;
        if x % 2 == 0 { 255 } else { 0 }
    });
    let crop = tensor(
        &picture.view(),
        &CropWindow::square(64.0, 64.0, 64.0),
        16,
        Border::Mean,
    );
    assert!(
        crop.iter().all(|value| (value - 127.5).abs() < 0.05),
        "{crop:?}"
    );
}

#[test]
fn window_wholly_outside_is_the_border() {
    let picture = Picture::new(PixelFormat::Yuyv, (64, 48), 0, noise(3));
    for centre in [(-500.0, 20.0), (20.0, 900.0), (1e7, -1e7)] {
        let window = CropWindow::square(centre.0, centre.1, 100.0);
        let crop = bytes(&picture.view(), &window, 8, Border::Constant([200, 30, 90]));
        assert!(
            crop.chunks(3).all(|pixel| pixel == [200, 30, 90]),
            "{crop:?}"
        );
    }
}

#[test]
fn normalisation_is_applied_channel_by_channel() {
    let data = [10_u8, 20, 30].repeat(16);
    let frame = FrameView::rgb8(4, 4, &data).unwrap();
    let normalisation = Normalisation {
        mean: [1.0, 2.0, 3.0],
        scale: [1.0, 0.5, 0.1],
    };
    let mut out = [0.0; 12];
    let window = CropWindow::square(2.0, 2.0, 2.0);
    let scratch = &mut CropScratch::default();
    crop_tensor(
        &frame,
        &window,
        2,
        Border::Mean,
        &normalisation,
        scratch,
        &mut out,
    )
    .unwrap();
    for (found, expected) in out
        .iter()
        .zip([9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 2.7, 2.7, 2.7, 2.7])
    {
        assert!((found - expected).abs() < 1e-4, "{out:?}");
    }
}

#[test]
fn scratch_left_by_another_crop_changes_nothing() {
    let wide = Picture::new(PixelFormat::Nv12, (120, 80), 3, noise(1));
    let small = Picture::new(PixelFormat::Rgb8, (31, 17), 0, noise(2));
    let mut scratch = CropScratch::default();
    let window = CropWindow::square(16.3, 8.1, 30.0);
    let mut out = vec![0; 3 * 64];
    for _ in 0..2 {
        let mut big = vec![0; 3 * 32 * 32];
        let whole = CropWindow::square(60.0, 40.0, 200.0);
        crop_rgb8(
            &wide.view(),
            &whole,
            32,
            Border::Replicate,
            &mut scratch,
            &mut big,
        )
        .unwrap();
        crop_rgb8(
            &small.view(),
            &window,
            8,
            Border::Mean,
            &mut scratch,
            &mut out,
        )
        .unwrap();
        assert_eq!(out, bytes(&small.view(), &window, 8, Border::Mean));
    }
}

#[test]
fn wrong_buffers_and_windows_are_refused_with_their_values() {
    let picture = Picture::new(PixelFormat::Rgb8, (8, 8), 0, || 0);
    let frame = picture.view();
    let refuse = |window: CropWindow, crop_px: u32, length: usize| {
        let mut out = vec![0; length];
        crop_rgb8(
            &frame,
            &window,
            crop_px,
            Border::Mean,
            &mut CropScratch::default(),
            &mut out,
        )
        .unwrap_err()
    };
    let good = CropWindow::square(4.0, 4.0, 4.0);
    assert_eq!(
        refuse(good, 4, 47),
        PreprocessError::OutputLength {
            expected: 48,
            found: 47
        }
    );
    assert_eq!(refuse(good, 0, 0), PreprocessError::CropSize { crop_px: 0 });
    assert_eq!(
        refuse(good, 5000, 0),
        PreprocessError::CropSize { crop_px: 5000 }
    );
    for side_px in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = refuse(CropWindow::square(4.0, 4.0, side_px), 4, 48);
        assert!(matches!(error, PreprocessError::Window { .. }), "{error}");
    }
}

#[test]
fn frames_that_do_not_fit_their_bytes_are_refused() {
    let data = [0; 100];
    let packed = |format, width_px, height_px, stride| {
        FrameView::packed(format, width_px, height_px, stride, &data).err()
    };
    assert_eq!(
        packed(PixelFormat::Rgb8, 0, 4, 12),
        Some(FrameError::Size {
            width_px: 0,
            height_px: 4
        })
    );
    assert_eq!(
        packed(PixelFormat::Rgb8, 5, 2, 14),
        Some(FrameError::Stride {
            stride_bytes: 14,
            row_bytes: 15
        })
    );
    assert_eq!(
        packed(PixelFormat::Rgb8, 5, 10, 15),
        Some(FrameError::TooShort {
            plane: "pixel",
            expected: 150,
            found: 100
        })
    );
    assert_eq!(
        packed(PixelFormat::Grey8, 9, 10, 10),
        None,
        "the last row may lack its padding"
    );
    assert!(matches!(
        packed(PixelFormat::Yuyv, 5, 2, 10),
        Some(FrameError::Odd { .. })
    ));
    assert!(matches!(
        packed(PixelFormat::Nv12, 4, 2, 4),
        Some(FrameError::NotPacked { .. })
    ));
    assert!(matches!(
        packed(PixelFormat::Grey8, 5, 3, usize::MAX),
        Some(FrameError::TooShort { .. })
    ));
    let nv12 = FrameView::nv12(10, 10, &data, 10, &data[..49], 10).err();
    assert_eq!(
        nv12,
        Some(FrameError::TooShort {
            plane: "chroma",
            expected: 50,
            found: 49
        })
    );
}

#[test]
fn every_matrix_maps_grey_to_grey_and_back() {
    for matrix in [
        YuvMatrix::Bt601Limited,
        YuvMatrix::Bt601Full,
        YuvMatrix::Bt709Limited,
    ] {
        for rgb in [
            [0.0, 0.0, 0.0],
            [255.0, 255.0, 255.0],
            [255.0, 0.0, 0.0],
            [12.0, 200.0, 99.0],
        ] {
            let yuv = matrix.yuv_from_rgb(rgb);
            let back = matrix.rgb_from_yuv(yuv);
            assert!(
                rgb.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-3),
                "{matrix:?} {rgb:?} {back:?}"
            );
            if rgb[0] == rgb[1] {
                assert!(
                    (yuv[1] - 128.0).abs() < 1e-3 && (yuv[2] - 128.0).abs() < 1e-3,
                    "{yuv:?}"
                );
            }
        }
    }
    let white = YuvMatrix::Bt601Limited.rgb_from_yuv([235.0, 128.0, 128.0]);
    assert!(
        white.iter().all(|value| (value - 255.0).abs() < 1e-3),
        "{white:?}"
    );
    let red = YuvMatrix::Bt709Limited.rgb_from_yuv([63.0, 102.0, 240.0]);
    assert!(
        (red[0] - 255.0).abs() < 1.5 && red[1].abs() < 1.5 && red[2].abs() < 1.5,
        "{red:?}"
    );
}

#[test]
fn mean_of_a_frame_does_not_depend_on_its_format() {
    let of = |format| {
        Picture::new(format, (200, 100), 0, || 128)
            .view()
            .mean_rgb()
    };
    for format in [PixelFormat::Rgb8, PixelFormat::Bgr8, PixelFormat::Grey8] {
        assert_eq!(of(format), [128.0; 3]);
    }
    // Y of 128 in limited range is (128 - 16) * 255 / 219.
    for format in [PixelFormat::Yuyv, PixelFormat::Nv12] {
        assert!(
            of(format).iter().all(|value| (value - 130.41).abs() < 0.01),
            "{:?}",
            of(format)
        );
    }
}
