//! `erase`: the tenant's own people have payloads destroyed, by signature and on record.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;

use countersign_client::{Client, ClientError, ErasureOrder, erasure_reason};
use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, escaped};
use countersign_core::hash::LeafIndex;
use countersign_core::kinds::parse_ranges;
use countersign_core::query::Row;
use countersign_core::trust::Trust;
use countersign_core::verify::Facts;
use countersign_proto::convert::{EvidenceQuery, RecordRef};

use crate::approve::ask;
use crate::args::EraseArgs;
use crate::clock::given;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::gate_link::{tell_recorded, trust_of};
use crate::identity::Identity;
use crate::query::row::table;
use crate::signing::has_role;

/// Records that one erasure names at most, as the ledger has it.
const RECORDS_MAX: u64 = 1_024;
/// Records that are shown before one is asked.
const SHOWN_MAX: usize = 100;
/// What is to be typed.
const WORD: &str = "erase";

pub(crate) async fn run(args: EraseArgs) -> Result<Exit, Failure> {
    let ranges = parse_ranges(&args.entries).ok_or_else(|| {
        Failure::usage(
            "the entries are not ascending indexes and ranges of them, such as 7,9-12. Neighbours \
             make one range.",
        )
    })?;
    let count = ranges
        .iter()
        .fold(0_u64, |sum, (from, to)| sum.saturating_add((to - from).saturating_add(1)));
    if count > RECORDS_MAX {
        return Err(Failure::usage(format!(
            "these are {count} records, and one erasure takes {RECORDS_MAX}. Erase them in parts."
        )));
    }
    if args.reason.trim().is_empty() {
        return Err(Failure::usage("the reason is empty. Say why; it is recorded."));
    }
    let floor = given(Some(&args.floor), Micros(0))?;
    let (identity, client) = connect(&args.connection).await?;
    let signer = match &args.key {
        Some(key) => &Identity::read(key)?,
        None => &identity,
    };
    has_role(signer, &[Role::TenantAdmin])?;
    let trust = trust_of(&identity, args.trust.as_ref())?;
    let rows = rows(&client, &ranges, trust.as_ref()).await?;
    show(&rows, count);
    hint(&client, &rows, &ranges, trust.as_ref()).await?;
    let reason = erasure_reason(args.reason.trim(), floor);
    eprintln!("\nReason, which stays on record:\n{}", escaped_lines(&reason));
    eprintln!(
        "\nYou are about to ERASE the contents of these records, for good: from the ledger's \
         database and its files. Copies that others hold are out of its reach. What stays, and stays \
         proven: that each record existed, its place, time, gate and outcome, and this erasure."
    );
    confirm(&args)?;
    let key = signer.key()?;
    let order =
        ErasureOrder { entries: &args.entries, reason: &reason, chain: &signer.chain, key: &key };
    let erased = client.erase(&order, trust.as_ref()).await?;
    client.settle().await?;
    tell_recorded(
        &format!("{} records erased, recorded", erased.erased),
        &erased.evidence,
        args.out.as_ref(),
    )?;
    Ok(Exit::Success)
}

/// The records as they stand, each verified, so that nobody erases what they did not see. The first
/// of them are enough to see what is meant.
async fn rows(
    client: &Client,
    ranges: &[(u64, u64)],
    trust: Option<&Trust>,
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for index in ranges.iter().flat_map(|(from, to)| *from..=*to).take(SHOWN_MAX) {
        let query = EvidenceQuery::Record(RecordRef::Index(LeafIndex(index)));
        let items = match client.evidence(query, countersign_core::hash::TreeSize(0), trust).await {
            Ok(items) => items,
            Err(ClientError::Refused(refusal)) if refusal.code == Code::NotFound => {
                return Err(Failure::invalid(format!(
                    "there is no record of yours at index {index}. Nothing was erased."
                )));
            }
            Err(error) => return Err(error.into()),
        };
        for item in items {
            let facts = &item.report.facts;
            if let (Some(view), Some(root), Some(entry)) = (&facts.view, facts.root, &facts.entry) {
                rows.push(Row::of(entry, item.index, root, view, false));
            }
        }
    }
    Ok(rows)
}

fn show(rows: &[Row], count: u64) {
    eprintln!("{}", table(rows, &BTreeMap::new()));
    let more = count.saturating_sub(rows.len() as u64);
    if more > 0 {
        eprintln!("… and {more} more.");
    }
}

/// Names the records of the same actions that are not erased and hold the same contents, or hashes
/// and signatures over them, by which a guess at what was erased could be confirmed (EVID-16).
async fn hint(
    client: &Client,
    rows: &[Row],
    ranges: &[(u64, u64)],
    trust: Option<&Trust>,
) -> Result<(), Failure> {
    let actions = rows.iter().map(|row| &row.action_id).filter(|id| !id.is_empty());
    let actions: BTreeSet<&String> = actions.collect();
    let mut left = BTreeSet::new();
    for action in actions {
        let query = EvidenceQuery::Action(action.clone());
        let items = client.evidence(query, countersign_core::hash::TreeSize(0), trust).await?;
        let erased = |index: u64| ranges.iter().any(|(from, to)| (*from..=*to).contains(&index));
        let others = items.iter().filter(|item| !erased(item.index.0));
        left.extend(others.filter(|item| holds_contents(&item.report.facts)).map(|i| i.index.0));
    }
    if !left.is_empty() {
        let left: Vec<String> = left.iter().map(u64::to_string).collect();
        eprintln!(
            "\ncountersign: these records of the same actions are not erased and hold the same \
             contents, or hashes and signatures by which a guess at them can be confirmed: {}. \
             Erase them too, unless they are to stay.",
            left.join(", ")
        );
    }
    Ok(())
}

/// Whether a record shows anything that an erasure would take.
fn holds_contents(facts: &Facts) -> bool {
    let view = facts.view.as_ref();
    view.is_some_and(|view| view.shown().any(|(spec, _)| !view.kind().never_withheld(spec.name)))
}

/// A text of several lines, each escaped.
fn escaped_lines(text: &str) -> String {
    text.lines().map(|line| format!("  {}", escaped(line))).collect::<Vec<_>>().join("\n")
}

fn confirm(args: &EraseArgs) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "standard input is no terminal, so that nobody can be asked. Read what is shown above, \
             and give --yes to erase it.",
        ));
    }
    if ask(&format!("Write {WORD} to sign: "))? == WORD {
        Ok(())
    } else {
        Err(Failure::invalid("nothing was erased, as it was not confirmed."))
    }
}
