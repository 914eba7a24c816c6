//! What can be made to go wrong in answers, and which fault strikes: the first that fits.

use serde::Deserialize;
use serde_json::Value;

/// A fault of the calls of one method.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Nothing goes wrong: whatever is added behind it strikes later.
    Pass,
    /// An HTTP status with a page, as from a gateway. The call is not applied.
    Html { status: u16 },
    /// An HTTP status with nothing. The call is not applied.
    Empty { status: u16 },
    /// A refusal. The call is not applied.
    Refuse {
        code: u16,
        description: String,
        #[serde(default)]
        parameters: Value,
    },
    /// 429 for this chat (or for the method, where it has none) until the seconds are over.
    RateLimit { seconds: u64 },
    /// Success with this in place of the result. The call is not applied.
    Answer { result: Value },
    /// The call is applied and its answer is lost with the connection.
    LostAnswer,
    /// The call is lost with the connection.
    LostRequest,
    /// The call is applied, and half of its answer arrives.
    Truncated,
    /// The call is not applied, and its answer comes a blank at a time and never ends.
    Trickle,
    /// The call is not applied and never answered.
    Hang,
    /// The call is neither applied nor answered before faults are taken back.
    Hold,
}

/// Faults in waiting.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(Option<String>, Fault, Option<u32>)>);

impl Faults {
    /// Strikes `times`, or always.
    pub(crate) fn add(&mut self, method: Option<&str>, fault: Fault, times: Option<u32>) {
        self.0.push((method.map(str::to_lowercase), fault, times));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn strike(&mut self, method: &str) -> Option<Fault> {
        let fits = |of: &Option<String>| of.as_deref().is_none_or(|of| of == method);
        let at = self.0.iter().position(|(of, _, left)| fits(of) && *left != Some(0))?;
        let (_, fault, left) = self.0.get_mut(at)?;
        if let Some(left) = left {
            *left -= 1;
        }
        Some(fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_its_method_as_often_as_told() {
        let mut faults = Faults::default();
        faults.add(Some("getMe"), Fault::Hang, Some(1));
        assert_eq!(faults.strike("getupdates"), None);
        assert_eq!(faults.strike("getme"), Some(Fault::Hang));
        assert_eq!(faults.strike("getme"), None);
    }

    #[test]
    fn faults_are_written_as_json() {
        let fault: Fault = serde_json::from_str(r#"{"kind":"rate_limit","seconds":2}"#).unwrap();
        assert_eq!(fault, Fault::RateLimit { seconds: 2 });
    }
}
