//! Bounded fuzzing, the same on every machine: valid inputs are changed by a seeded generator
//! and handed to a reader, which must answer with a result or an error, within a limit of memory.
//!
//! A test binary that uses this declares `#[global_allocator] static COUNTING: Counting =
//! Counting;`. `ENGINE_FUZZ_INPUTS` is the number of inputs of each reader, `ENGINE_FUZZ_SEED`
//! where the generator begins, and `ENGINE_FUZZ_KEEP` a folder to which each input is written
//! before it is read, by which one that ends the process is found again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// The system's allocator, which counts what each thread holds.
pub(crate) struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let _ = HELD.try_with(|held| {
        let now = held.get() + bytes;
        held.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: all work is the system allocator's; counting touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old memory lives until the new one is filled.
        count(size as isize);
        // SAFETY: as above.
        let new = unsafe { System.realloc(at, layout, size) };
        count(-(layout.size() as isize));
        new
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What `run` gives, and the most bytes that this thread held meanwhile, beyond those before.
pub(crate) fn peak_of<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get();
    PEAK.set(before);
    let made = run();
    (made, (PEAK.get() - before).max(0) as u64)
}

/// A generator of numbers (SplitMix64).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Numbers that programs trip over.
const NUMBERS: [u64; 18] = [
    0,
    1,
    7,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFF0,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    0xFFFF_FFFF_FFFF_FFFF,
];

/// A changed copy of one of `seeds`: some bits, bytes, lengths, pieces.
pub(crate) fn changed(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].clone();
    for _ in 0..1 + rng.below(4) {
        let len = bytes.len();
        let at = rng.below(len);
        // Headers decide more than what follows.
        let at = if rng.below(3) == 0 { at % 64 } else { at };
        match rng.below(10) {
            0..2 if at < len => bytes[at] ^= 1 << rng.below(8),
            2 if at < len => bytes[at] = rng.next() as u8,
            3..5 => {
                let number = NUMBERS[rng.below(NUMBERS.len())];
                let width = [1, 2, 4, 8][rng.below(4)];
                let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
                let field = if rng.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
                if at + width <= len {
                    bytes[at..at + width].copy_from_slice(field);
                }
            }
            5 => bytes.truncate(at),
            6 => {
                let end = at + rng.below(len - at.min(len)).min(64);
                bytes.drain(at.min(len)..end.min(len));
            }
            7 => {
                let piece: Vec<u8> = bytes[at.min(len)..].iter().take(64).copied().collect();
                let to = rng.below(len);
                bytes.splice(to..to, piece);
            }
            8 => {
                let other = &seeds[rng.below(seeds.len())];
                let from = rng.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                // Numbers in text.
                let digits = NUMBERS[rng.below(NUMBERS.len())].to_string();
                let first = bytes[at.min(len)..].iter().position(u8::is_ascii_digit);
                if let Some(first) = first {
                    let first = at + first;
                    let rest = &bytes[first..];
                    let run = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                    bytes.splice(first..first + run, digits.into_bytes());
                }
            }
        }
    }
    bytes
}

/// What a reader made of an input.
pub(crate) enum Answer {
    /// A result, which was looked at.
    Taken,
    /// An error, for this reason.
    Refused(String),
}

/// A reader and what it is given.
pub(crate) struct Fuzz<'a> {
    pub name: &'a str,
    /// Valid inputs.
    pub seeds: Vec<Vec<u8>>,
    /// Inputs, where the environment does not say how many.
    pub inputs: usize,
    /// Makes checksums right again; used for every second input.
    pub repair: Option<fn(&mut [u8])>,
    /// Bytes of memory that reading may take.
    pub most_bytes: u64,
}

impl Fuzz<'_> {
    /// Reads the seeds, which must be taken, and changed inputs. Panics where the reader panics
    /// or takes more memory than it may, and names the file that the input was written to.
    pub(crate) fn run(&self, mut read: impl FnMut(&[u8]) -> Answer) {
        let variable = |name: &str| std::env::var(name).ok();
        let number = |name: &str| variable(name).and_then(|v| v.parse::<u64>().ok());
        let inputs = number("ENGINE_FUZZ_INPUTS").map_or(self.inputs, |n| n as usize);
        let first_seed = number("ENGINE_FUZZ_SEED").unwrap_or(1);
        let keep = variable("ENGINE_FUZZ_KEEP").map(PathBuf::from);
        for (i, seed) in self.seeds.iter().enumerate() {
            if let Answer::Refused(why) = read(seed) {
                panic!("{}: seed {i} is refused: {why}", self.name);
            }
        }
        let name: u64 = self.name.bytes().fold(0, |h, b| h * 131 + u64::from(b));
        let (mut taken, mut worst, began) = (0, 0, Instant::now());
        for i in 0..inputs {
            let mut rng = Rng::new(first_seed.wrapping_mul(1 << 40) ^ name ^ (i as u64) << 8);
            let mut input = changed(&self.seeds, &mut rng);
            if let (Some(repair), 0) = (self.repair, rng.below(2)) {
                repair(&mut input);
            }
            if let Some(keep) = &keep {
                std::fs::write(keep.join(format!("{}.last", self.name)), &input).unwrap();
            }
            let (answer, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| read(&input))));
            worst = worst.max(peak);
            let wrong = match answer {
                Err(_) => "the reader panicked".to_owned(),
                Ok(_) if peak > self.most_bytes => {
                    format!("it took {peak} bytes, more than {}", self.most_bytes)
                }
                Ok(answer) => {
                    taken += usize::from(matches!(answer, Answer::Taken));
                    continue;
                }
            };
            let path = std::env::temp_dir().join(format!("fuzz-{}-{i}", self.name));
            std::fs::write(&path, &input).unwrap();
            panic!("{}: input {i}: {wrong}; it lies in {}", self.name, path.display());
        }
        println!(
            "{:<10} {inputs:>8} inputs, {taken:>8} taken, {:>8} refused, at most {:>6.2} MB, {:.1} s",
            self.name,
            inputs - taken,
            worst as f64 / 1e6,
            began.elapsed().as_secs_f64()
        );
    }
}
