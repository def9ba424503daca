//! Verdicts to measure with: an infrastructure agent's, over real AWS action names.

use std::path::Path;

use countersign_core::encoding::hex;

/// Digest of the policy version that all verdicts are under, which a ledger must hold (LIFE-14).
pub(crate) const POLICY: [u8; 32] = [0x5a; 32];

/// Actions to go through, as `service:Action` with the access level.
pub(crate) struct Actions(Vec<(String, String)>);

impl Actions {
    /// Reads a table of `service<TAB>action<TAB>access level…`, with a head line.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let rows = text.lines().skip(1).filter_map(|line| {
            let mut cells = line.split('\t');
            let (service, action, level) = (cells.next()?, cells.next()?, cells.next()?);
            Some((format!("{service}:{action}"), level.to_owned()))
        });
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return Err(format!("{} names no actions", path.display()));
        }
        Ok(Self(rows))
    }

    /// A few actions, for where there is no table.
    pub(crate) fn few() -> Self {
        let rows = [
            ("elasticbeanstalk:TerminateEnvironment", "Write"),
            ("ec2:DescribeInstances", "List"),
            ("s3:DeleteBucket", "Write"),
            ("iam:CreateAccessKey", "Permissions management"),
            ("rds:ModifyDBInstance", "Write"),
        ];
        Self(rows.iter().map(|(name, level)| ((*name).to_owned(), (*level).to_owned())).collect())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Each action with its access level.
    pub(crate) fn rows(&self) -> &[(String, String)] {
        &self.0
    }

    /// The nth verdict as an external gate writes it, without its place in a stream.
    pub(crate) fn verdict(&self, n: u64) -> String {
        let at = usize::try_from(n).unwrap_or(0) % self.0.len().max(1);
        let (action, level) = self.0.get(at).map_or(("", ""), |(a, l)| (a.as_str(), l.as_str()));
        let (class, outcome, code) = match level {
            "Write" => ("modify", "refuse", "PRODUCTION_WRITE"),
            "Permissions management" => ("permissions", "supervise", "PERMISSIONS_NEED_PEOPLE"),
            _ => ("read", "approve", "READ_ALLOWED"),
        };
        let service = action.split(':').next().unwrap_or_default();
        let environment = if n.is_multiple_of(3) { "prod" } else { "dev" };
        let requires = if outcome == "supervise" {
            r#"{"approvals":2,"roles":["on-call"],"expires_at":null}"#
        } else {
            "null"
        };
        let text = format!(
            r#"{{"action":"{action}","action_class":"{class}","action_id":"{id}",
            "actor":{{"kind":"agent","id":"infra-agent-{agent}","class":"infrastructure",
            "session":"s-{session}","model":null,"on_behalf_of":"team-{agent}"}},
            "destructive":false,"mode":"enforce","outcome":"{outcome}",
            "parameters":{{"name":"{service}-{n}","region":"eu-central-1"}},
            "policy":{{"id":"prod","version":"41","digest":"{digest}","engine":"cedar 4"}},
            "reasons":[{{"code":"{code}","policy":"infra.{class}","text":null}}],
            "requires":{requires},
            "resource":{{"type":"{service}","id":"{service}-{n}",
            "environment":"{environment}","domain":"billing"}},
            "task":{{"ticket":"OPS-{session}","grant":null,"scope_digest":null,
            "justification":"routine change {session}"}}}}"#,
            id = action_id(n),
            agent = n % 7,
            session = n / 100,
            digest = hex(&POLICY),
        );
        // One line, as an external gate writes it.
        text.lines().map(str::trim_start).collect()
    }
}

/// A UUID of version 7 for the nth action: a millisecond a hundred of them, spread over the rest.
pub(crate) fn action_id(n: u64) -> String {
    let time = 1_795_000_000_000 + n / 100;
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}",
        time >> 16,
        time & 0xffff,
        spread >> 52,
        0x8000 | (spread >> 36 & 0x3fff),
        n & 0xffff_ffff_ffff,
    )
}
