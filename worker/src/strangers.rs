//! Who, or what, is refused because nobody vouches for it. Whoever comes by the thousand fills no log: for each reason, the
//! first, second, fourth, eighth … in a row is said.

use std::collections::BTreeMap;

/// Those in a row, by what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Strangers(BTreeMap<&'static str, u32>);

impl Strangers {
    /// One more: how many there were for this reason, if that is to be said.
    pub(crate) fn refused(&mut self, why: &'static str) -> Option<u32> {
        let times = self.0.entry(why).or_default();
        *times = times.saturating_add(1);
        times.is_power_of_two().then_some(*times)
    }

    /// Somebody came in.
    pub(crate) fn vouched(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_sort_ever_fewer_are_said_until_somebody_comes_in() {
        let mut strangers = Strangers::default();
        let mut said = Vec::new();
        for _ in 0..1000 {
            said.extend(["wrong", "old"].map(|why| strangers.refused(why)).into_iter().flatten());
        }
        assert_eq!((said.len(), said.last()), (20, Some(&512)));
        strangers.vouched();
        assert_eq!([strangers.refused("wrong"), strangers.refused("old")], [Some(1); 2]);
    }
}
