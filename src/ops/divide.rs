//! Division on devices by numbers that a launch knows: the other half of
//! `kernels/include/divide.h`.

use bytemuck::NoUninit;

/// `Divisor`: quotients of numbers below 2³¹ by `d` are n · magic >> shift, with
/// magic = ⌈2^shift / d⌉ and shift = 31 + ⌈log₂ d⌉ (Granlund and Montgomery, "Division by
/// invariant integers using multiplication", PLDI 1994).
#[derive(Clone, Copy, Debug, PartialEq, Eq, NoUninit)]
#[repr(C)]
pub struct Divisor {
    magic: u32,
    shift: u32,
}

impl Divisor {
    /// For division by `d`, from 1 to 2³¹; 0 counts as 1.
    pub fn new(d: u32) -> Self {
        let d = u64::from(d.max(1));
        let shift = 31 + d.next_power_of_two().trailing_zeros();
        let magic = (1u64 << shift).div_ceil(d);
        Self { magic: magic as u32, shift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_exact() {
        let last = (1u64 << 31) - 1;
        let most = |d: u64| last / d * d;
        for d in (1..2000).chain([3136, 12_544, 65_537, 1 << 20, (1 << 30) + 1, last, last + 1]) {
            let by = Divisor::new(d as u32);
            let near = [0, 1, d - 1, d, d + 1, most(d).saturating_sub(1), most(d), last - 1, last];
            for n in near.into_iter().filter(|n| *n <= last) {
                let quotient = (n * u64::from(by.magic)) >> by.shift;
                assert_eq!(quotient, n / d, "{n} / {d}");
            }
        }
    }
}
