//! Times and durations as people read them, and names as they write them.

/// A Unix time in milliseconds as `2026-11-23T22:12:32Z`.
pub fn utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A duration in milliseconds as `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`.
pub fn span(ms: i64) -> String {
    let ms = ms.max(0);
    match ms {
        0..=9_999 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..=119_999 => format!("{} s", ms / 1000),
        120_000..=7_199_999 => format!("{} min", ms / 60_000),
        7_200_000..=172_799_999 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// What a stranger or a model wrote, without what commands a terminal: no control characters but ends of lines and
/// tabs.
pub fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The one of `known` that was most likely meant by `name`, if any was.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let far = |known: &str| strsim::damerau_levenshtein(known, name);
    known.iter().copied().min_by_key(|known| far(known)).filter(|known| far(known) <= 2)
}

/// Year, month and day of a count of days since 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_is_left_out() {
        assert_eq!(harmless("a\x1b[2Jb\x07\u{9b}31m\tc\r\nä"), "a[2Jb31m\tc\nä");
    }

    #[test]
    fn known_days() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_471_952_999), "2026-11-23T22:12:32Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn spans_have_one_unit() {
        let spans = [450, 12_000, 180_000, 18_000_000, 200_000_000].map(span);
        assert_eq!(spans, ["0.4 s", "12 s", "3 min", "5 h", "2 d"]);
    }
}
