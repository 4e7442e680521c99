//! The best code for this processor.

use super::format::Format;
use super::kernel::{self, Rows, Sink};

/// Whether `mul_add` is one instruction on every processor that this is compiled for; elsewhere it is a slow function.
const FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// Which code runs. All of it gives the same lanes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(super::avx2::Avx2),
}

impl Kernel {
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = super::avx2::Avx2::detect() {
            return Self::Avx2(avx2);
        }
        Self::Portable
    }

    /// See [`kernel::chunk`].
    pub(super) fn chunk<S: Sink>(
        self,
        format: &Format,
        columns: &[&[f64]],
        start: usize,
        out: &mut [S::Lane],
    ) -> bool {
        match self {
            Self::Portable => kernel::chunk::<S, FMA>(format, columns, start, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.chunk::<S>(format, columns, start, out),
        }
    }

    /// See [`kernel::misfits`].
    pub(super) fn misfits(
        self,
        format: &Format,
        columns: &[&[f64]],
        start: usize,
        out: &mut [u64],
    ) {
        match self {
            Self::Portable => kernel::misfits::<FMA>(format, columns, start, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.misfits(format, columns, start, out),
        }
    }

    /// Asks for the slots of rows to come, which a large table does not have at hand.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "there is no portable way to ask")
    )]
    pub(super) fn prefetch(self, slots: &[u32], stride: usize, table: &[i64]) {
        match self {
            Self::Portable => (),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.prefetch(slots, stride, table),
        }
    }

    /// See [`kernel::scatter`].
    pub(super) fn scatter(
        self,
        lanes: &[Rows<i64>],
        slots: &[u32],
        stride: usize,
        table: &mut [i64],
    ) -> bool {
        match self {
            Self::Portable => kernel::scatter(lanes, slots, stride, table),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.scatter(lanes, slots, stride, table),
        }
    }
}
