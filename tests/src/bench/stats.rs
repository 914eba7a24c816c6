//! Medians and quantiles.

/// The value below which the share `q` of `values` lies; 0 if there are none.
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (float(sorted.len()) - 1.0).max(0.0) * q;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in it")]
    sorted.get(at.round() as usize).copied().unwrap_or_default()
}

/// The one in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

/// What one slice came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    /// Things a second.
    pub(super) rate: f64,
    /// The usual time of one, in milliseconds.
    pub(super) p50: f64,
    /// What all but one of a hundred stay below.
    pub(super) p99: f64,
    /// How many there were.
    pub(super) count: usize,
}

impl Slice {
    /// From single times in milliseconds, each of `each` things, and the seconds of the whole.
    pub(super) fn of(times: &[f64], each: usize, seconds: f64) -> Self {
        let count = times.len() * each;
        let rate = float(count) / seconds;
        Self { rate, p50: quantile(times, 0.5), p99: quantile(times, 0.99), count }
    }
}

/// A thing and its baseline, measured in turns.
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<(Slice, Slice)>);

impl Pairs {
    /// One more round: the thing, then its baseline.
    pub(super) fn push(&mut self, thing: Slice, baseline: Slice) {
        self.0.push((thing, baseline));
    }

    /// The median of a property of the thing.
    pub(super) fn thing(&self, of: impl Fn(&Slice) -> f64) -> f64 {
        median(&self.0.iter().map(|(thing, _)| of(thing)).collect::<Vec<_>>())
    }

    /// The median of a property of the baseline.
    pub(super) fn baseline(&self, of: impl Fn(&Slice) -> f64) -> f64 {
        median(&self.0.iter().map(|(_, baseline)| of(baseline)).collect::<Vec<_>>())
    }

    /// The median of the rounds' ratios.
    pub(super) fn ratio(&self, of: impl Fn(&Slice) -> f64) -> f64 {
        let ratios = self.0.iter().map(|(thing, baseline)| of(thing) / of(baseline));
        median(&ratios.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert!((median(&values) - 3.0).abs() < 1e-9);
        assert!((quantile(&values, 0.99) - 5.0).abs() < 1e-9);
        assert!((quantile(&values, 0.0) - 1.0).abs() < 1e-9);
        assert!(quantile(&[], 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() {
        let slice = |rate| Slice { rate, p50: 1.0, p99: 1.0, count: 1 };
        let mut pairs = Pairs::default();
        for (thing, baseline) in [(1.0, 2.0), (10.0, 10.0), (100.0, 50.0)] {
            pairs.push(slice(thing), slice(baseline));
        }
        assert!((pairs.ratio(|s| s.rate) - 1.0).abs() < 1e-9);
        assert!((pairs.baseline(|s| s.rate) - 10.0).abs() < 1e-9);
    }
}
