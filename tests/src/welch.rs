//! Welch's t-test by its textbook formula: an oracle that shares nothing with what it checks.

use crate::table::Row;

/// What the test of two samples should give.
#[derive(Debug, Clone, Copy)]
pub struct Welch {
    /// Mean of control, or its ratio.
    pub control: f64,
    /// Mean of treatment, or its ratio.
    pub treatment: f64,
    /// Of the difference.
    pub std_error: f64,
    /// By Welch and Satterthwaite.
    pub df: f64,
    /// Units in control.
    pub n_control: usize,
    /// Units in treatment.
    pub n_treatment: usize,
}

/// Mean and variance with divisor n − 1, in two passes.
fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, squares / (n - 1.0))
}

impl Welch {
    /// Of two samples.
    pub fn of_means(treatment: &[f64], control: &[f64]) -> Self {
        let ((m_t, v_t), (m_c, v_c)) = (mean_and_variance(treatment), mean_and_variance(control));
        let (n_t, n_c) = (treatment.len() as f64, control.len() as f64);
        let (a, b) = (v_t / n_t, v_c / n_c);
        Self {
            control: m_c,
            treatment: m_t,
            std_error: (a + b).sqrt(),
            df: (a + b) * (a + b) / (a * a / (n_t - 1.0) + b * b / (n_c - 1.0)),
            n_control: control.len(),
            n_treatment: treatment.len(),
        }
    }

    /// Of the ratios of two sums, by the linearised values `(a − R·b)/mean(b)` of the units.
    pub fn of_ratios(treatment: &[(f64, f64)], control: &[(f64, f64)]) -> Self {
        let linearised = |units: &[(f64, f64)]| {
            let (a, b) = units.iter().fold((0.0, 0.0), |(a, b), unit| (a + unit.0, b + unit.1));
            let (ratio, mean) = (a / b, b / units.len() as f64);
            let values = units.iter().map(|unit| (unit.0 - ratio * unit.1) / mean).collect();
            (ratio, values)
        };
        let (r_t, l_t): (f64, Vec<f64>) = linearised(treatment);
        let (r_c, l_c): (f64, Vec<f64>) = linearised(control);
        Self { control: r_c, treatment: r_t, ..Self::of_means(&l_t, &l_c) }
    }

    /// Asserts that a published row is this test. The tolerance is that of two-pass sums over some thousand values.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn is(&self, row: &Row) {
        let estimate = self.treatment - self.control;
        for (name, expected) in [
            ("estimate", estimate),
            ("mean_control", self.control),
            ("mean_treatment", self.treatment),
            ("std_error", self.std_error),
            ("statistic", estimate / self.std_error),
            ("df", self.df),
            ("n_control", self.n_control as f64),
            ("n_treatment", self.n_treatment as f64),
        ] {
            let found = row.number(name).unwrap_or(f64::NAN);
            // A difference is as accurate as what it is a difference of.
            let scale = if ["estimate", "statistic"].contains(&name) {
                let scale = self.treatment.abs().max(self.control.abs());
                if name == "estimate" { scale } else { scale / self.std_error }
            } else {
                expected.abs()
            };
            assert!(
                (found - expected).abs() <= 1e-11 * scale,
                "{name}: expected {expected}, found {found} in {row:?}"
            );
        }
    }
}
