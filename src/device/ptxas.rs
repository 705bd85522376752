//! What kernels use of a multiprocessor: read from what ptxas, the GPU's assembler, reported
//! when they were built (`ptxas -v`).

use crate::error::{Error, Result};

/// What a kernel uses on one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The kernel.
    pub kernel: String,
    /// Such as `sm_80`.
    pub target: String,
    /// 32-bit registers of a thread.
    pub registers: u32,
    /// Static shared memory of a block.
    pub shared_bytes: u32,
    /// Constant memory, parameters among it where the target keeps them there.
    pub constant_bytes: u32,
    /// Local memory of a thread for arrays that are not in registers.
    pub stack_bytes: u32,
    /// Stores of registers to local memory.
    pub spill_store_bytes: u32,
    /// Loads of registers from local memory.
    pub spill_load_bytes: u32,
}

/// Parses the output of `ptxas -v`: one entry a kernel and target. Lines that tell something
/// else are passed over; numbers that are missing where they belong are an error. What a
/// function uses that was not inlined counts for the kernel that it is listed under.
pub fn parse(report: &str) -> Result<Vec<Usage>> {
    let mut all: Vec<Usage> = Vec::new();
    for line in report.lines() {
        let line =
            line.strip_prefix("ptxas info").map_or(line, |l| l.trim_start_matches([' ', ':']));
        let strange = || Error::data(format!("cannot make sense of {line:?}"));
        if let Some(rest) = line.strip_prefix("Compiling entry function ") {
            let mut quoted = rest.split('\'').skip(1).step_by(2);
            let (Some(name), Some(target)) = (quoted.next(), quoted.next()) else {
                return Err(strange());
            };
            all.push(Usage { kernel: name.into(), target: target.into(), ..Usage::default() });
        } else if line.contains("bytes stack frame") {
            read_memory(line, all.last_mut().ok_or_else(strange)?).ok_or_else(strange)?;
        } else if let Some(used) = line.strip_prefix("Used ") {
            read_used(used, all.last_mut().ok_or_else(strange)?).ok_or_else(strange)?;
        }
    }
    match all.iter().find(|u| u.registers == 0) {
        Some(u) => Err(Error::data(format!("no registers for {} on {}", u.kernel, u.target))),
        None => Ok(all),
    }
}

/// `288 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads`.
fn read_memory(line: &str, usage: &mut Usage) -> Option<()> {
    let mut parts = line.split(',').map(leading);
    usage.stack_bytes = usage.stack_bytes.max(parts.next()??);
    usage.spill_store_bytes += parts.next()??;
    usage.spill_load_bytes += parts.next()??;
    Some(())
}

/// `31 registers, used 1 barriers, 128 bytes smem, 372 bytes cmem[0], 8 bytes cmem[2]`.
fn read_used(list: &str, usage: &mut Usage) -> Option<()> {
    for part in list.split(',') {
        match part.trim_start().split_once(' ')?.1 {
            "registers" => usage.registers = leading(part)?,
            "bytes smem" => usage.shared_bytes = leading(part)?,
            what if what.starts_with("bytes cmem") => usage.constant_bytes += leading(part)?,
            _ => {}
        }
    }
    Some(())
}

/// The number that a phrase begins with.
fn leading(phrase: &str) -> Option<u32> {
    phrase.trim_start().split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
ptxas info    : 24 bytes gmem, 8 bytes cmem[4]
ptxas info    : Compiling entry function 'big' for 'sm_80'
ptxas info    : Function properties for big
    288 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 31 registers, used 0 barriers, 288 bytes cumulative stack size, 372 bytes cmem[0], 8 bytes cmem[2]
ptxas info    : Compile time = 16.526 ms
ptxas info    : Function properties for helper
    16 bytes stack frame, 8 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'relu' for 'sm_90a'
ptxas info    : Function properties for relu
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compile time = 3.260 ms
";

    #[test]
    fn a_report_is_read() {
        let all = parse(REPORT).unwrap();
        let big = Usage {
            kernel: "big".into(),
            target: "sm_80".into(),
            registers: 31,
            shared_bytes: 0,
            constant_bytes: 380,
            stack_bytes: 288,
            spill_store_bytes: 12,
            spill_load_bytes: 12,
        };
        let relu = Usage {
            kernel: "relu".into(),
            target: "sm_90a".into(),
            registers: 12,
            shared_bytes: 128,
            ..Usage::default()
        };
        assert_eq!(all, [big, relu]);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_report_that_is_not_understood_is_an_error() {
        for broken in [
            "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
            "ptxas info : Compiling entry function 'k' for 'sm_80'",
            "ptxas info : Compiling entry function 'k'",
            "ptxas info : Compiling entry function 'k' for 'sm_80'\nptxas info : Used many registers",
            "ptxas info : Used 3 registers",
        ] {
            parse(broken).expect_err(broken);
        }
    }
}
