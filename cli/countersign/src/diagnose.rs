//! `diagnose`: five questions about exposure, answered from the configuration, the running gate and
//! the log. What can't be known from here is said to be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use countersign_client::{Client, Paging, VerifiedHead};
use countersign_core::encoding::{Micros, escaped};
use countersign_core::kinds::Kind;
use countersign_core::query::{Field, Filter, Query, Row};
use countersign_core::trust::Trust;
use countersign_proto::v1;
use countersign_server::config::ServerConfig;

use crate::args::{DiagnoseArgs, Overrides};
use crate::exit::{Exit, Failure};
use crate::files::{read_trust, shown};
use crate::gate_link::call;
use crate::identity::Identity;
use crate::query::{PAGE, Pages};
use crate::settings;

/// Who asks: an auditor may read everything of its tenant and change nothing.
const IDENTITY: &str = "identities/auditor";
/// The newest records of a kind that are looked at.
const NEWEST: u32 = 200;

/// What is known, as far as it is.
struct Known {
    config: ServerConfig,
    trust: Option<Trust>,
    tenant: String,
    gate: Result<v1::GateStatus, String>,
    log: Result<Log, String>,
}

/// What the log says.
struct Log {
    head: std::sync::Arc<VerifiedHead>,
    streams: Vec<Row>,
    policies: Vec<Row>,
    notices: Vec<Row>,
    erasures: Vec<Row>,
    verdicts: BTreeMap<&'static str, u64>,
}

pub(crate) async fn run(args: DiagnoseArgs) -> Result<Exit, Failure> {
    let config = settings::read(&args.dir, &Overrides::default())?;
    let identity = Identity::read(&args.dir.join(IDENTITY))?;
    let trust = read_trust(&args.dir.join("trust.toml")).ok();
    let server = args.server.clone().unwrap_or_else(|| config.grpc.to_string());
    let gate = args.gate.clone().unwrap_or_else(|| config.gate.grpc.to_string());
    let known = Known {
        tenant: identity.spiffe.tenant().to_owned(),
        gate: status(&identity, &gate, trust.clone())
            .await
            .map_err(|failure| in_one_line(&failure)),
        log: log(&identity, &server).await.map_err(|failure| in_one_line(&failure)),
        config,
        trust,
    };
    let sections: [(&str, Vec<Line>); 5] = [
        ("Where is the gate?", where_is_the_gate(&known)),
        ("What happens to a request that the policy does not allow?", out_of_policy(&known)),
        ("Who owns the rules?", who_owns_the_rules(&known)),
        ("What is the evidence?", what_is_the_evidence(&known)),
        ("What is the worst failure?", worst_failure(&known, &args.dir)),
    ];
    let (mut risks, mut unknown) = (0_u64, 0_u64);
    for (number, (question, lines)) in (1..).zip(sections) {
        tell!("{number}. {question}");
        for line in lines {
            let (mark, text) = match line {
                Line::Known(text) => ("known    ", text),
                Line::Risk(text) => {
                    risks += 1;
                    ("RISK     ", text)
                }
                Line::Unknown(text) => {
                    unknown += 1;
                    ("unknown  ", text)
                }
            };
            tell!("   {mark}{}", escaped(&text));
        }
        tell!();
    }
    let reached = known.gate.is_ok() && known.log.is_ok();
    eprintln!(
        "countersign: {risks} {}, and {unknown} {} that can't be known from here{}.",
        if risks == 1 { "risk" } else { "risks" },
        if unknown == 1 { "thing" } else { "things" },
        if reached { "" } else { ", some of them since gate or ledger did not answer" }
    );
    Ok(if reached { Exit::Success } else { Exit::Indeterminate })
}

/// What a failure says, as part of a line.
fn in_one_line(failure: &Failure) -> String {
    failure.message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One line of an answer.
#[derive(Debug)]
enum Line {
    Known(String),
    Risk(String),
    Unknown(String),
}

async fn status(
    identity: &Identity,
    gate: &str,
    trust: Option<Trust>,
) -> Result<v1::GateStatus, Failure> {
    Ok(call(identity, gate, trust).await?.status().await?)
}

async fn log(identity: &Identity, server: &str) -> Result<Log, Failure> {
    let client = Client::connect(identity.client_config(server)).await?;
    let head = client.head().await?;
    let mut verdicts = BTreeMap::new();
    for outcome in ["approve", "refuse", "supervise"] {
        let query = query(&[(Field::Outcome, outcome), (Field::Mode, "enforce")])?;
        let mut pages = Pages::of(&client, &query, Some(head.size()));
        let mut count = 0;
        while let Some(rows) = pages.next(PAGE).await? {
            count += rows.len() as u64;
        }
        verdicts.insert(outcome, count);
    }
    let log = Log {
        streams: newest(&client, Kind::Stream).await?,
        policies: newest(&client, Kind::Policy).await?,
        notices: newest(&client, Kind::Notice).await?,
        erasures: newest(&client, Kind::Erasure).await?,
        head,
        verdicts,
    };
    client.settle().await?;
    Ok(log)
}

fn query(filters: &[(Field, &str)]) -> Result<Query, Failure> {
    let filters = filters.iter().map(|(field, value)| Filter::new(*field, value));
    let query = filters.collect::<Result<_, _>>().and_then(|all| Query::new(all, None, None));
    query.map_err(|fault| Failure::internal(fault.to_string()))
}

async fn newest(client: &Client, kind: Kind) -> Result<Vec<Row>, Failure> {
    let query = query(&[(Field::Kind, kind.as_str())])?;
    let mut paging = Paging { limit: NEWEST, newest_first: true, ..Paging::default() };
    let mut rows = Vec::new();
    loop {
        let page = client.query(&query, &paging).await?;
        rows.extend(page.rows);
        match page.next {
            // A page may be short of what was asked for, and others follow.
            Some(cursor) if rows.len() < NEWEST as usize => paging.cursor = Some(cursor),
            _ => return Ok(rows),
        }
    }
}

fn where_is_the_gate(known: &Known) -> Vec<Line> {
    let mut lines = Vec::new();
    let gate = &known.config.gate;
    match &known.gate {
        Ok(status) => lines.push(Line::Known(format!(
            "gate {} of {} answers; its ledger {}; {} records of it wait to be logged",
            status.gate,
            status.tenant,
            if status.ledger_reachable { "answers" } else { "does not answer" },
            status.outbox
        ))),
        Err(why) => lines.push(Line::Unknown(format!("whether the gate runs: {why}"))),
    }
    lines.push(Line::Known(format!(
        "configured at gRPC {}, AuthZEN {}, HTTP {}; it answers within {} ms or refuses",
        gate.grpc, gate.authzen, gate.http, gate.answer_timeout_ms
    )));
    if let Ok(log) = &known.log {
        let gates: BTreeSet<&str> = log.streams.iter().map(|row| row.gate.as_str()).collect();
        let gates: Vec<&str> = gates.into_iter().collect();
        lines.push(Line::Known(format!(
            "gates of {} on record: {}",
            known.tenant,
            if gates.is_empty() { "none".to_owned() } else { gates.join(", ") }
        )));
        if let Some(newest) = log.notices.iter().find(|row| row.about == "heartbeat") {
            lines.push(Line::Known(format!(
                "the newest heartbeat on record is of gate {}, {} (index {})",
                newest.gate,
                newest.logged_at.format(),
                newest.index.0
            )));
        }
    }
    lines.push(Line::Unknown(
        "whether every way to act goes through it. An enforcement point that does not ask leaves no \
         record: look at what credentials agents hold, and compare with the target systems' own logs"
            .to_owned(),
    ));
    lines
}

fn out_of_policy(known: &Known) -> Vec<Line> {
    let mut lines = Vec::new();
    match &known.gate {
        Ok(status) if status.mode == "enforce" => lines.push(Line::Known(
            "mode enforce: what no policy permits is refused, an error refuses, and where the ledger \
             does not answer everything is refused"
                .to_owned(),
        )),
        Ok(status) => lines.push(Line::Risk(format!(
            "mode {}: verdicts are only recorded, and nothing is held up. Bind them: countersign mode \
             enforce",
            status.mode
        ))),
        Err(_) => lines.push(Line::Unknown("which mode the gate is in".to_owned())),
    }
    if let Ok(status) = &known.gate {
        if status.policy_id.is_empty() {
            lines.push(Line::Known("no policy is active: everything is refused".to_owned()));
        }
        if !status.emergency_until.is_empty() {
            lines
                .push(Line::Risk(format!("an emergency is open until {}", status.emergency_until)));
        }
        lines.push(Line::Known(format!("{} actions wait for people", status.waiting)));
    }
    if let Ok(log) = &known.log {
        let of = |outcome: &str| log.verdicts.get(outcome).copied().unwrap_or(0);
        lines.push(Line::Known(format!(
            "on record, in mode enforce: {} approved, {} refused, {} held for people",
            of("approve"),
            of("refuse"),
            of("supervise")
        )));
        let switches = log.notices.iter().filter(|row| row.about == "mode").count();
        if switches > 0 {
            lines.push(Line::Known(format!(
                "a halt was set or lifted, or the mode switched, {switches} times in the newest {NEWEST} \
                 notices (countersign query --kind notice)"
            )));
        }
    }
    if known.config.gate.webhook.is_none() {
        lines.push(Line::Risk(
            "nobody is told at once of a refusal: no [gate.webhook] is configured".to_owned(),
        ));
    }
    lines.push(Line::Unknown(
        "whether enforcement points obey: a refusal proves that the gate released nothing, and never \
         that the action did not happen (countersign reconcile shows effects that no verdict covers)"
            .to_owned(),
    ));
    lines
}

fn who_owns_the_rules(known: &Known) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Ok(status) = &known.gate
        && !status.policy_id.is_empty()
    {
        lines.push(Line::Known(format!(
            "in force: {} version {}, digest {}",
            status.policy_id, status.policy_version, status.policy_digest
        )));
    }
    match &known.log {
        Ok(log) if log.policies.is_empty() => {
            lines.push(Line::Known("no policy version is on record".to_owned()));
        }
        Ok(log) => {
            let owners: BTreeSet<&str> =
                log.policies.iter().map(|row| row.approver.as_str()).collect();
            lines.push(Line::Known(format!(
                "{} of the newest activations were signed by {}",
                log.policies.len(),
                owners.into_iter().collect::<Vec<_>>().join(", ")
            )));
            if let Some(newest) = log.policies.first() {
                lines.push(Line::Known(format!(
                    "the newest is {} version {}, signed by {}, {} (index {})",
                    newest.policy_id,
                    newest.policy_version,
                    newest.approver,
                    newest.logged_at.format(),
                    newest.index.0
                )));
            }
        }
        Err(why) => lines.push(Line::Unknown(format!("who activated policies: {why}"))),
    }
    lines.push(Line::Risk(
        "one policy-admin's signature activates a policy: no second person is asked for".to_owned(),
    ));
    lines.push(Line::Known(format!(
        "who people are and what systems are comes from {}, which is not signed",
        known.config.gate.directory.display()
    )));
    lines.push(Line::Unknown(
        "whether the owners understand the rules, and who can get a certificate from the roots that \
         are named: ask whoever runs that authority"
            .to_owned(),
    ));
    lines
}

fn what_is_the_evidence(known: &Known) -> Vec<Line> {
    let mut lines = Vec::new();
    match &known.log {
        Ok(log) => {
            let time = log.head.clock_seconds();
            let time = time.map(|seconds| Micros(seconds.saturating_mul(1_000_000)).format());
            lines.push(Line::Known(format!(
                "log {} holds {} records under one signed head{}; each has a file that is verified \
                 offline (countersign pack)",
                known.config.origin,
                log.head.size().0,
                time.map(|time| format!(" of {time}")).unwrap_or_default()
            )));
            if !log.erasures.is_empty() {
                lines.push(Line::Known(format!(
                    "{} erasures are on record; what they name shows as erased",
                    log.erasures.len()
                )));
            }
        }
        Err(why) => lines.push(Line::Unknown(format!("what the log holds: {why}"))),
    }
    let witnessed = known.trust.as_ref().and_then(|trust| trust.witnesses.as_ref());
    if witnessed.is_some_and(|policy| !policy.is_none()) {
        lines.push(Line::Known("the trust file asks for witnesses".to_owned()));
    } else {
        lines.push(Line::Risk(
            "no independent witness is asked for: that nobody was shown another history rests on \
             heads that somebody kept"
                .to_owned(),
        ));
    }
    lines.push(Line::Unknown(
        "whether anybody outside of the operator keeps heads or a mirror, and whether backups can be \
         restored"
            .to_owned(),
    ));
    lines.push(Line::Unknown(
        "whether what the gate was told is true: it is trusted for what it saw, before it seals"
            .to_owned(),
    ));
    lines
}

fn worst_failure(known: &Known, dir: &Path) -> Vec<Line> {
    let mut lines = vec![
        Line::Known(
            "a ledger that is down: every gate refuses. Work stops, and nothing goes unrecorded"
                .to_owned(),
        ),
        Line::Known(
            "a lost or rolled-back database: the ledger does not start, since the anchor and every \
             client's last head show it"
                .to_owned(),
        ),
    ];
    if known.config.insecure_dev_identity.is_some() {
        lines.push(Line::Risk(
            "insecure_dev_identity is set: whoever connects is taken for that identity".to_owned(),
        ));
    }
    let together = ["keys", "identities", "pki"].iter().all(|name| dir.join(name).is_dir());
    if together {
        lines.push(Line::Risk(format!(
            "the ledger's keys, everybody's identities and the authority that issues them are in one \
             folder, {}: whoever reads it can act as everyone. Fit for development only",
            shown(dir)
        )));
    }
    if !known.config.grpc.ip().is_loopback() {
        lines.push(Line::Known(format!(
            "the ledger listens beyond this machine: {}",
            known.config.grpc
        )));
    }
    lines.push(Line::Known(
        "gate, ledger, witnesses and every holder of a mirror acting together, or every copy \
         destroyed: nothing shows that"
            .to_owned(),
    ));
    lines.push(Line::Unknown(
        "what an action that was wrongly approved costs: that depends on the systems behind the gate"
            .to_owned(),
    ));
    lines
}
