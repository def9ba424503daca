//! What an alarm is worth to somebody with a trust file: the log's signature on what it shows.

use super::{Alarm, Proves, Shown};
use crate::codes::{Code, Fault};
use crate::note::SignedCheckpoint;
use crate::trust::Trust;
use crate::verify::Verdict;

/// What verification of an alarm comes to.
///
/// VALID means that the alarm is true: the log misbehaved. INVALID means that it proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmReport {
    /// Whether it proves what it claims.
    pub result: Verdict,
    /// The log that it is about. It may be anybody's text: print it escaped.
    pub origin: Option<String>,
    /// What it claims to prove.
    pub proves: Option<Proves>,
    /// What it shows; nothing where it is INVALID.
    pub shown: Option<Shown>,
    /// Why it is not VALID.
    pub fault: Option<Fault>,
}

/// Verifies an alarm's file (ALRM-11 to ALRM-14). `trust` is all that is believed, and only its log
/// keys are: without it nothing is VALID.
pub fn verify_alarm(bytes: &[u8], trust: Option<&Trust>) -> AlarmReport {
    let mut report = AlarmReport {
        result: Verdict::Invalid,
        origin: None,
        proves: None,
        shown: None,
        fault: None,
    };
    let outcome = (|| {
        let alarm = Alarm::parse(bytes)?;
        report.origin = Some(alarm.origin().to_owned());
        report.proves = Some(alarm.proves());
        let shown = alarm.shown()?;
        let doubt = match trust {
            Some(trust) => signed(alarm.heads(), trust)?,
            None => Some(Code::NoTrust),
        };
        Ok::<_, Fault>((shown, doubt))
    })();
    match outcome {
        Ok((shown, doubt)) => {
            report.shown = Some(shown);
            report.fault = doubt.map(Fault::from);
            report.result = if doubt.is_some() { Verdict::Indeterminate } else { Verdict::Valid };
        }
        Err(fault) => {
            report.fault = Some(fault);
            // ALRM-12: what this program can't read proves nothing, neither way.
            if unread(fault.code) {
                report.result = Verdict::Indeterminate;
            }
        }
    }
    report
}

fn unread(code: Code) -> bool {
    matches!(code, Code::VersionUnknown | Code::EntryLength | Code::EntryVersion | Code::EntryKind)
}

/// ALRM-13 and ALRM-14: a trusted key of its origin signed each head. Gives the doubt that a revoked
/// key leaves: whoever stole it could have signed anything.
fn signed(heads: &[SignedCheckpoint], trust: &Trust) -> Result<Option<Code>, Fault> {
    let mut doubt = None;
    for head in heads {
        let mut keys = Vec::new();
        let mut missing = Code::OriginUnknown;
        for log in trust.logs_of(&head.origin) {
            match head.verify_log(&log.vkey) {
                Ok(()) => keys.push(log.vkey.key.to_vec()),
                Err(fault) if fault.code == Code::LogSignatureMissing => missing = fault.code,
                Err(fault) => return Err(fault),
            }
        }
        if keys.is_empty() {
            return Err(missing.into());
        }
        if keys.iter().all(|key| trust.revoked_from(key).is_some()) {
            doubt = doubt.or(trust.revocation_doubt(&keys, head)?);
        }
    }
    Ok(doubt)
}
