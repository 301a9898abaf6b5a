//! Proof that `roadhound-shared` needs no std: this program has none.
//!
//! It brings its own panic handler and allocator. Were std anywhere among the dependencies, its panic handler would
//! be a second one and the build would fail ("found duplicate lang item `panic_impl`"); `check.sh` sees to it that
//! this is so. It calls every module, since code that is never called may never be linked, and exits with 0 if
//! everything came out as it should, else with the number of the step that did not.
#![no_std]
#![no_main]

extern crate alloc;
#[cfg(feature = "std-outright")]
extern crate std;

use alloc::vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::convert::Infallible;
use core::ffi::{c_char, c_int};
use core::sync::atomic::{AtomicUsize, Ordering};

use roadhound_shared::contract::{BundleManifest, FollowContract, FollowSizes, sha256_hex};
use roadhound_shared::follow::Follower;
use roadhound_shared::frame::{FrameView, PixelFormat, Timestamp};
use roadhound_shared::geometry::{BoxLtrb, BoxXywh};
use roadhound_shared::metrics::presence::roc_auc;
use roadhound_shared::metrics::{Convention, RunScore, ScoreBox};
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use roadhound_shared::preprocess::{Border, CropScratch, CropWindow, crop_rgb8};
use roadhound_shared::tracker::{Phase, TrackerConfig};

const HEAP_BYTES: usize = 16 << 20;

/// Hands out a static buffer from the front and takes nothing back.
struct Bump {
    heap: UnsafeCell<[u8; HEAP_BYTES]>,
    used: AtomicUsize,
}

// SAFETY: every byte is handed out once, the cursor being moved atomically.
unsafe impl Sync for Bump {}

// SAFETY: blocks lie inside the static buffer, are aligned as asked, and never overlap.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.heap.get() as usize;
        let claim = |used: usize| {
            let start = (base + used).next_multiple_of(layout.align()) - base;
            start
                .checked_add(layout.size())
                .filter(|end| *end <= HEAP_BYTES)
        };
        match self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
        {
            Ok(used) => ((base + used).next_multiple_of(layout.align())) as *mut u8,
            Err(_) => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: Bump = Bump {
    heap: UnsafeCell::new([0; HEAP_BYTES]),
    used: AtomicUsize::new(0),
};

// The C library alone, for `_exit` and for the `memcpy` and such that compilers call.
#[link(name = "c")]
unsafe extern "C" {
    fn _exit(status: c_int) -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process, with a status that no step has.
    unsafe { _exit(101) }
}

/// `alloc` comes compiled for unwinding and names these two, which std would supply. Nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: as in `panic`.
    unsafe { _exit(102) }
}

/// Sees its target in the middle of every crop.
struct Middle;

impl FollowNetwork for Middle {
    type Error = Infallible;

    fn template(&mut self, _: &[f32], out: &mut TemplateOutputs) -> Result<(), Infallible> {
        out.embedding.fill(0.0);
        out.embedding[0] = 1.0;
        Ok(())
    }

    fn search(
        &mut self,
        _: &[f32],
        _: &[f32],
        _: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<(), Infallible> {
        let cells = out.score.len();
        out.score.fill(0.0);
        // An even number of cells a side: the one right of and below the centre.
        out.score[cells / 2 + 8] = 0.95;
        out.box_ltrb_px.fill(32.0);
        out.presence = 0.99;
        out.embedding.fill(0.0);
        out.embedding[..cells].fill(1.0);
        Ok(())
    }
}

fn run() -> Result<(), c_int> {
    let pixels = vec![90_u8; 2 * 320 * 240];
    let frame = FrameView::packed(PixelFormat::Yuyv, 320, 240, 640, &pixels).map_err(|_| 1)?;
    let target = BoxXywh::from(BoxLtrb::new(100.0, 80.0, 140.0, 120.0));

    let mut crop = vec![0_u8; 3 * 64 * 64];
    let window = CropWindow::around(target, 2.0);
    crop_rgb8(
        &frame,
        &window,
        64,
        Border::Mean,
        &mut CropScratch::default(),
        &mut crop,
    )
    .map_err(|_| 2)?;
    // Y, U and V of 90 are a dark green.
    if crop[1] <= crop[0] || crop[1] <= crop[2] {
        return Err(3);
    }

    let contract = FollowContract::new(FollowSizes::default()).map_err(|_| 4)?;
    let mut follower = Follower::new(Middle, contract, TrackerConfig::default()).map_err(|_| 5)?;
    follower
        .start(&frame, target, Timestamp(0))
        .map_err(|_| 6)?;
    let mut found = vec![Some(ScoreBox::from(target))];
    for i in 1..6 {
        let report = follower
            .step(&frame, Timestamp(33_000 * i))
            .map_err(|_| 7)?;
        if report.phase == Phase::Idle {
            return Err(8);
        }
        found.push(report.box_in_image.map(ScoreBox::from));
    }

    let truth = vec![Some(ScoreBox::from(target)); found.len()];
    let score = RunScore::of(&truth, &found, &Convention::default()).map_err(|_| 9)?;
    if score.frames != 5 {
        return Err(10);
    }
    if roc_auc(&[0.9, 0.8], &[0.1]) != Ok(Some(1.0)) {
        return Err(11);
    }
    if !sha256_hex(b"abc").starts_with("ba7816bf") {
        return Err(12);
    }
    if BundleManifest::parse("name = 3").is_ok() {
        return Err(13);
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    run().err().unwrap_or(0)
}
