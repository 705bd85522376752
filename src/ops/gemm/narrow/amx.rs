//! The matrix unit of x86 processors (AMX): eight registers of 16 rows of 64 bytes, and an
//! instruction that multiplies two of them into a third. The compiler has no stable names for
//! them, its assembler has.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv, CpuidResult};
use std::mem::MaybeUninit;

use super::{Job, Kernel, TILE, WIDTH};

/// What `ldtilecfg` reads: palette 1, and the size of each register.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight registers at their largest.
static CONFIG: Config = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut i = 0;
    while i < 8 {
        (row_bytes[i], rows[i]) = (64, 16);
        i += 1;
    }
    Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

/// The kernel, where the processor has the unit and the system lets us use it.
pub(super) fn detected() -> Option<Kernel> {
    // Tiles at the edges of C are written with vectors.
    let there = has_unit() && is_x86_feature_detected!("avx512f") && permitted();
    there.then_some(Kernel { run, around: [configure, release], name: "AMX" })
}

/// Whether the processor has AMX-TILE and AMX-BF16 and the system keeps their registers.
fn has_unit() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const TILES: u64 = 0b11 << 17;
    #[target_feature(enable = "xsave")]
    fn enabled() -> u64 {
        // SAFETY: the caller has seen OSXSAVE.
        unsafe { _xgetbv(0) }
    }
    #[allow(unused_unsafe, reason = "newer compilers have it as a safe function")]
    fn leaf(leaf: u32) -> CpuidResult {
        // SAFETY: all x86-64 processors have the instruction.
        unsafe { __cpuid_count(leaf, 0) }
    }
    if leaf(0).eax < 7 || leaf(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let edx = leaf(7).edx;
    // SAFETY: OSXSAVE says that the instruction is there.
    edx & AMX_BF16 != 0 && edx & AMX_TILE != 0 && unsafe { enabled() } & TILES == TILES
}

/// Asks Linux for the registers, which it gives to processes that ask: eight KiB more to save
/// where a thread is interrupted.
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers and changes no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

/// Configures this thread's registers.
fn configure() {
    // SAFETY: the kernel was handed out, so the unit is there and ours to use; no code but
    // this kernel's uses its registers.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
}

/// Gives them up: what they hold is no longer saved where the thread is interrupted.
fn release() {
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Sums in registers 0 to 3, of tiles of A in 4 and 5 and of B in 6 and 7. Whole tiles of C are
/// loaded, added to and stored where they lie.
#[target_feature(enable = "avx512f")]
unsafe fn run(job: &Job) {
    let multiply = if job.width == WIDTH { wide } else { slim };
    // SAFETY: the caller promises that the job's pointers are valid and that AMX may be used.
    unsafe {
        match job.whole() {
            Some((c, add)) => multiply(job, c, 4 * job.target.row_stride, add),
            None => {
                let mut product = Product(MaybeUninit::uninit());
                multiply(job, product.0.as_mut_ptr().cast(), 4 * WIDTH, false);
                job.write(product.0.as_ptr().cast());
            }
        }
    }
}

/// Aligned, so that no row of a tile crosses a cache line.
#[repr(align(64))]
struct Product(MaybeUninit<[f32; WIDTH * WIDTH]>);

/// Bytes of a row of a packed tile, and of one of C.
const ROW_BYTES: usize = 64;
/// Bytes of a packed tile.
const TILE_BYTES: usize = 2 * TILE;

/// 32×32 sums, added to what is at `c` or written there; rows are `stride` bytes apart.
#[inline(always)]
unsafe fn wide(job: &Job, c: *mut f32, stride: usize, add: bool) {
    // SAFETY: the caller promises that C has 32 rows at this stride, and that the job's panels hold all
    // its steps.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {stride}*1]",
            "tileloadd tmm1, [{c} + {stride}*1 + {row_bytes}]",
            "tileloadd tmm2, [{half} + {stride}*1]",
            "tileloadd tmm3, [{half} + {stride}*1 + {row_bytes}]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tileloadd tmm6, [{b} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row}*1 + {tile}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {row}*1 + {tile}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2*{tile}",
            "add {b}, 2*{tile}",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {stride}*1], tmm0",
            "tilestored [{c} + {stride}*1 + {row_bytes}], tmm1",
            "tilestored [{half} + {stride}*1], tmm2",
            "tilestored [{half} + {stride}*1 + {row_bytes}], tmm3",
            a = inout(reg) job.a => _,
            b = inout(reg) job.b => _,
            steps = inout(reg) job.steps => _,
            add = in(reg) usize::from(add),
            c = in(reg) c,
            half = in(reg) c.byte_add(stride * WIDTH / 2),
            stride = in(reg) stride,
            row = in(reg) ROW_BYTES,
            row_bytes = const ROW_BYTES,
            tile = const TILE_BYTES,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

/// As [`wide`], with 16 columns of B.
#[inline(always)]
unsafe fn slim(job: &Job, c: *mut f32, stride: usize, add: bool) {
    // SAFETY: the caller promises that C has 32 rows at this stride, and that the job's panels hold all
    // its steps.
    unsafe {
        asm!(
            "test {add}, {add}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {stride}*1]",
            "tileloadd tmm2, [{half} + {stride}*1]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm2",
            "3:",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tileloadd tmm6, [{b} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {row}*1 + {tile}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "add {a}, 2*{tile}",
            "add {b}, {tile}",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {stride}*1], tmm0",
            "tilestored [{half} + {stride}*1], tmm2",
            a = inout(reg) job.a => _,
            b = inout(reg) job.b => _,
            steps = inout(reg) job.steps => _,
            add = in(reg) usize::from(add),
            c = in(reg) c,
            half = in(reg) c.byte_add(stride * WIDTH / 2),
            stride = in(reg) stride,
            row = in(reg) ROW_BYTES,
            tile = const TILE_BYTES,
            out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack)
        );
    }
}
