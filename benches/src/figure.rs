//! One measured figure beside its reference and its budget.

use serde::Serialize;

/// A figure, as `--output json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: &'static str,
    /// The figure.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// What it is compared with, measured in the same run; null where it stands alone.
    pub(crate) reference: Option<f64>,
    /// `value / reference`.
    pub(crate) ratio: Option<f64>,
    /// The limit that the design sets, in the unit of the ratio where there is a reference and of
    /// the value where there is none; null where it sets none.
    pub(crate) budget: Option<f64>,
    /// Whether the budget was met in this run; null where there is none.
    pub(crate) met: Option<bool>,
}

impl Figure {
    /// A figure without reference or budget.
    pub(crate) fn plain(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, reference: None, ratio: None, budget: None, met: None }
    }

    /// A figure that must be at least so much.
    pub(crate) fn at_least(
        name: &'static str,
        value: f64,
        unit: &'static str,
        budget: f64,
    ) -> Self {
        Self { budget: Some(budget), met: Some(value >= budget), ..Self::plain(name, value, unit) }
    }

    /// A figure that must be at most so much.
    pub(crate) fn at_most(name: &'static str, value: f64, unit: &'static str, budget: f64) -> Self {
        Self { budget: Some(budget), met: Some(value <= budget), ..Self::plain(name, value, unit) }
    }

    /// The same beside a reference, the budget being on their ratio.
    #[must_use]
    pub(crate) fn beside(self, reference: f64, budget: f64, at_least: bool) -> Self {
        let ratio = self.value / reference;
        let met = if at_least { ratio >= budget } else { ratio <= budget };
        Self {
            reference: Some(reference),
            ratio: Some(ratio),
            budget: Some(budget),
            met: Some(met),
            ..self
        }
    }

    /// The same beside a reference, its own budget kept.
    #[must_use]
    pub(crate) fn with_reference(self, reference: f64) -> Self {
        Self { reference: Some(reference), ratio: Some(self.value / reference), ..self }
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
        format!(
            "{:<34} {:>14.3} {:<12} {:>14} {:>8} {:>10} {met}",
            self.name,
            self.value,
            self.unit,
            number(self.reference),
            number(self.ratio),
            number(self.budget),
        )
    }
}

/// The value below which so much of the sorted sample lies.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // Samples are counted in thousands.
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// A count as a number to divide by.
#[allow(clippy::cast_precision_loss)] // Counts here are far below 2^52.
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
