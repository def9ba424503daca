//! `grant issue`: sign what a task may do, before its session starts.

use countersign_core::cert::Role;
use countersign_core::kinds::Kind;
use countersign_gate::Terms;

use crate::args::{GrantArgs, GrantCommand, IssueArgs};
use crate::exit::{Exit, Failure};
use crate::files::{SMALL_FILE_BYTES_MAX, read_text, shown};
use crate::gate_link::{call, tell_recorded, trust_of};
use crate::identity::Identity;
use crate::signing::{has_role, sign};

pub(crate) async fn run(args: GrantArgs) -> Result<Exit, Failure> {
    let GrantCommand::Issue(args) = args.command;
    issue(&args).await
}

async fn issue(args: &IssueArgs) -> Result<Exit, Failure> {
    let text = read_text(&args.terms, SMALL_FILE_BYTES_MAX)?;
    // The newline at the end of a file is nobody's term.
    let terms = text.trim();
    // What the gate would refuse is not signed.
    Terms::parse(terms)
        .map_err(|fault| Failure::usage(format!("{}: {fault}", shown(&args.terms))))?;
    let identity = Identity::read(&args.connection.identity)?;
    has_role(&identity, &[Role::PolicyAdmin, Role::TenantAdmin])?;
    let said = [("grant_id", args.grant_id.as_str()), ("terms", terms)];
    let signed = sign(&identity, Kind::Grant, &said)?;
    let trust = trust_of(&identity, args.connection.trust.as_ref())?;
    let client = call(&identity, &args.connection.gate, trust).await?;
    let recorded = client.issue_grant(&args.grant_id, terms, &signed).await?;
    tell_recorded("the grant is issued, recorded", &recorded, args.out.as_ref())?;
    Ok(Exit::Success)
}
