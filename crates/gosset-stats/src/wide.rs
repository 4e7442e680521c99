//! Loops for wider vector registers than every processor has.

/// Makes a function of loops over replicates that is compiled for AVX2 too, which it takes where there is AVX2. The numbers
/// are the same: nothing fuses a multiplication and an addition.
macro_rules! wide {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    body($($argument),*)
                }
                #[expect(unsafe_code, reason = "instructions that this processor has")]
                // SAFETY: the feature is there.
                return unsafe { avx2($($argument),*) };
            }
            body($($argument),*)
        }
    };
}

pub(crate) use wide;
