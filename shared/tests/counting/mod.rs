//! An allocator that counts, for tests that say "nothing is allocated". Whoever declares this module uses it.
#![allow(dead_code, reason = "every test counts in its own way")]
// `GlobalAlloc` cannot be implemented without; nothing but the system allocator is called.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static OF_THIS_THREAD: Cell<usize> = const { Cell::new(0) };
}
static OF_ALL_THREADS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn count() {
    // A thread that is ending has no counter any more.
    let _ = OF_THIS_THREAD.try_with(|counter| counter.set(counter.get() + 1));
    OF_ALL_THREADS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` asks for memory on the calling thread. Tests that run beside it do not count.
pub(crate) fn on_this_thread(work: impl FnOnce()) -> usize {
    let before = OF_THIS_THREAD.get();
    work();
    OF_THIS_THREAD.get() - before
}

/// How often memory is asked for on any thread while `work` runs: for a test that has its program for itself.
pub(crate) fn on_any_thread(work: impl FnOnce()) -> usize {
    let before = OF_ALL_THREADS.load(Ordering::Relaxed);
    work();
    OF_ALL_THREADS.load(Ordering::Relaxed) - before
}
