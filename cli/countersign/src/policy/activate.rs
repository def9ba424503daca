//! `policy activate`: sign a version, and make it the one that decides.

use countersign_core::cert::Role;
use countersign_core::encoding::hex;
use countersign_core::kinds::Kind;

use crate::args::ActivateArgs;
use crate::exit::{Exit, Failure};
use crate::gate_link::{call, tell_recorded, trust_of};
use crate::identity::Identity;
use crate::policy::lint::load_whole;
use crate::signing::{has_role, sign};

pub(crate) async fn run(args: ActivateArgs) -> Result<Exit, Failure> {
    // What the gate would refuse is not signed.
    let policy = load_whole(&args.dir)?;
    let identity = Identity::read(&args.connection.identity)?;
    has_role(&identity, &[Role::PolicyAdmin])?;
    let digest = hex(&policy.digest());
    let said =
        [("digest", digest.as_str()), ("policy_id", &args.policy_id), ("version", &args.version)];
    let signed = sign(&identity, Kind::Policy, &said)?;
    let trust = trust_of(&identity, args.connection.trust.as_ref())?;
    let client = call(&identity, &args.connection.gate, trust).await?;
    let texts = (policy.policy_text(), policy.schema_text());
    let recorded = client.activate_policy(&args.policy_id, &args.version, texts, &signed).await?;
    tell_recorded(&format!("policy {digest} is active, recorded"), &recorded, args.out.as_ref())?;
    Ok(Exit::Success)
}
