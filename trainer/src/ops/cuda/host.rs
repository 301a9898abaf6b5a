//! The engine of the tests: the kernels compiled as C++, run on this processor, and products written out.
//!
//! Memory is surrounded by guards and starts out as NaN, so that reads and writes outside of it, and values that nobody
//! wrote, show. Products follow cuBLAS's own convention (columns first), through the same [`Gemm`] that the GPU uses.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{Result, bail};

use super::engine::{Arg, Engine, Factor, Kernel, Product, Span};
use super::gemm::Gemm;

/// Words around each buffer.
const GUARD: usize = 64;
/// What guards and fresh memory hold: a NaN, as `f32` and as two bf16.
const UNSET: u32 = 0x7fe1_7fe1;

type RunOnHost = unsafe extern "C" fn(
    *const c_char,
    u32,
    u32,
    *const c_char,
    *const *const c_void,
    bool,
) -> c_int;

/// The compiled kernels, or why there are none.
fn library() -> &'static std::result::Result<RunOnHost, String> {
    static LIBRARY: OnceLock<std::result::Result<RunOnHost, String>> = OnceLock::new();
    LIBRARY.get_or_init(compile)
}

#[expect(unsafe_code, reason = "loads the library that was just compiled")]
fn compile() -> std::result::Result<RunOnHost, String> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let library = folder.path().join("libkernels.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops/cuda/host.cpp");
    let run = Command::new(&compiler)
        .args([
            "-std=c++17",
            "-O1",
            "-Wall",
            "-Werror",
            "-Wno-unknown-pragmas",
        ])
        .args(["-ffp-contract=off", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .output()
        .map_err(|e| format!("{compiler}: {e}"))?;
    assert!(
        run.status.success(),
        "the kernels do not compile as C++: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    let name = CString::new(library.to_string_lossy().as_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: both strings end in zero; the library has no initialisers of its own, and it is never unloaded.
    let symbol = unsafe {
        let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            return Err(format!("{}: cannot be loaded", name.to_string_lossy()));
        }
        libc::dlsym(library, c"run_on_host".as_ptr())
    };
    assert!(!symbol.is_null(), "host.cpp has no run_on_host");
    // SAFETY: the function is declared in host.cpp with these parameters.
    Ok(unsafe { std::mem::transmute::<*mut c_void, RunOnHost>(symbol) })
}

/// The engine; `backwards` lets the threads of a block take their turns from the last one on.
#[derive(Clone)]
pub(crate) struct Host {
    run: RunOnHost,
    backwards: bool,
    launches: Arc<Mutex<Vec<&'static str>>>,
}

impl Host {
    /// The engine, or `None` after printing why the test passes over.
    pub(crate) fn new() -> Option<Self> {
        match library() {
            Ok(run) => Some(Self {
                run: *run,
                backwards: false,
                launches: Arc::default(),
            }),
            Err(reason) => {
                eprintln!("passed over: no C++ compiler for the kernels ({reason})");
                None
            }
        }
    }

    pub(crate) fn backwards(&self) -> Self {
        Self {
            backwards: true,
            ..self.clone()
        }
    }

    /// Names of the kernels launched so far.
    pub(crate) fn launches(&self) -> Vec<&'static str> {
        self.launches.lock().map(|l| l.clone()).unwrap_or_default()
    }
}

/// Memory between two guards.
pub(crate) struct Buffer {
    words: Vec<u32>,
}

impl Buffer {
    fn new(len: usize) -> Self {
        // Sixteen bytes divide what `start` skips, but not always the vector's own address.
        Self {
            words: vec![UNSET; len + 2 * GUARD + 4],
        }
    }

    fn start(&self) -> usize {
        GUARD + (16 - self.words.as_ptr() as usize % 16) % 16 / 4
    }

    fn len(&self) -> usize {
        self.words.len() - 2 * GUARD - 4
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (start, len) = (self.start(), self.len());
        let intact = |words: &[u32]| words.iter().all(|word| *word == UNSET);
        let whole = intact(&self.words[..start]) && intact(&self.words[start + len..]);
        assert!(
            whole || std::thread::panicking(),
            "a kernel wrote outside of its memory"
        );
    }
}

#[expect(unsafe_code, reason = "spans are addresses, as on a GPU")]
impl Engine for Host {
    type Buffer = Buffer;

    fn allocate(&self, words: usize) -> Result<Buffer> {
        Ok(Buffer::new(words))
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer> {
        let mut buffer = Buffer::new(values.len());
        let start = buffer.start();
        for (word, value) in buffer.words[start..].iter_mut().zip(values) {
            *word = value.to_bits();
        }
        Ok(buffer)
    }

    fn download(&self, buffer: &Buffer, count: usize) -> Result<Vec<f32>> {
        if count > buffer.len() {
            bail!("{count} of {} words", buffer.len())
        }
        let words = &buffer.words[buffer.start()..][..count];
        Ok(words.iter().map(|word| f32::from_bits(*word)).collect())
    }

    fn span<'a>(&self, buffer: &'a Buffer) -> Span<'a> {
        let address = &raw const buffer.words[buffer.start()];
        Span::new(address as u64, 4 * buffer.len())
    }

    fn launch(&self, kernel: Kernel, grid: [u32; 2], arguments: &[Arg<'_>]) -> Result<()> {
        if let Ok(mut launches) = self.launches.lock() {
            launches.push(kernel.name);
        }
        let mut kinds = String::new();
        // Each argument as eight bytes, of which the kernel reads those of its type.
        let mut values = Vec::new();
        for argument in arguments {
            let (kind, value) = match *argument {
                Arg::U32(value) => ('u', u64::from(value)),
                Arg::F32(value) => ('f', u64::from(value.to_bits())),
                Arg::F64(value) => ('d', value.to_bits()),
                Arg::Memory(span) => ('p', span.address()),
                Arg::Null => ('p', 0),
            };
            kinds.push(kind);
            values.push(value);
        }
        let pointers: Vec<*const c_void> = values
            .iter()
            .map(|value| (&raw const *value).cast())
            .collect();
        let name = CString::new(kernel.name).map_err(candle_core::Error::wrap)?;
        let kinds = CString::new(kinds).map_err(candle_core::Error::wrap)?;
        // SAFETY: the library checks number and kinds of the arguments against the kernel's; spans point to buffers that
        // are alive, whose guards tell of writes beside them.
        let status = unsafe {
            (self.run)(
                name.as_ptr(),
                grid[0],
                grid[1],
                kinds.as_ptr(),
                pointers.as_ptr(),
                self.backwards,
            )
        };
        match status {
            0 => Ok(()),
            1 => bail!("kernel {} is not in host.cpp", kernel.name),
            _ => bail!("kernel {} has other parameters than {kinds:?}", kernel.name),
        }
    }

    fn multiply(&self, product: &Product<'_>) -> Result<()> {
        let gemm = Gemm::new(product)?;
        let bytes = product.factor.bytes();
        let read = |memory: Span<'_>, index: usize| -> f64 {
            assert!(
                (index + 1) * bytes <= memory.bytes(),
                "a product reads beyond its memory: {product:?}"
            );
            let address = memory.address() as usize + index * bytes;
            // SAFETY: within the span, as just checked, and aligned like the type that it holds.
            let value = unsafe {
                match product.factor {
                    Factor::F32 | Factor::Tf32 => *(address as *const f32),
                    Factor::Bf16 => f32::from_bits(u32::from(*(address as *const u16)) << 16),
                }
            };
            f64::from(value)
        };
        let [m, n, k] = [gemm.m, gemm.n, gemm.k].map(|size| size as usize);
        let [lda, ldb, ldc] = [gemm.lda, gemm.ldb, gemm.ldc].map(|size| size as usize);
        assert!(lda >= if gemm.a_transposed { k } else { m }, "{gemm:?}");
        assert!(ldb >= if gemm.b_transposed { n } else { k }, "{gemm:?}");
        assert!(ldc >= m, "{gemm:?}");
        for column in 0..n {
            for row in 0..m {
                let mut sum = 0f64;
                for i in 0..k {
                    let a = if gemm.a_transposed {
                        i + row * lda
                    } else {
                        row + i * lda
                    };
                    let b = if gemm.b_transposed {
                        column + i * ldb
                    } else {
                        i + column * ldb
                    };
                    sum += read(gemm.a, a) * read(gemm.b, b);
                }
                let index = row + column * ldc;
                assert!(4 * (index + 1) <= gemm.c.bytes(), "{gemm:?}");
                // SAFETY: as above.
                unsafe {
                    let c = (gemm.c.address() as usize + 4 * index) as *mut f32;
                    *c = if product.accumulate {
                        *c + sum as f32
                    } else {
                        sum as f32
                    };
                }
            }
        }
        Ok(())
    }
}
