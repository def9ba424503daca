//! `policy register`: a policy version in the log, so that an external gate's verdicts may be under
//! it (LIFE-14).
//!
//! What was registered is remembered as an evidence file in the gate's folder. Run again, the
//! command asks the ledger for that record and registers nothing anew where it is there.

use std::path::{Path, PathBuf};

use countersign_client::{Client, Gate, PolicyOwner, PolicyTexts, PolicyVersion, Retry};
use countersign_core::cert::Role;
use countersign_core::codes::Code;
use countersign_core::encoding::{escaped, from_hex_array, hex};
use countersign_core::evidence::EVIDENCE_BYTES_MAX;
use countersign_core::hash::{LeafIndex, TreeSize, sha256};
use countersign_core::verify::verify_file;
use countersign_proto::convert::{EvidenceQuery, RecordRef};
use countersign_server::identity::now;

use crate::args::RegisterArgs;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::files::{make_folder, read_capped, read_text, replace, shown, sync_folder};
use crate::identity::Identity;
use crate::submit::lock;

/// Bytes of one text; the ledger takes 4 MiB of both together.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Folder for the evidence, in the gate's.
const FOLDER: &str = "policies";

pub(crate) async fn run(args: RegisterArgs) -> Result<Exit, Failure> {
    let texts = texts(&args)?;
    let identity = Identity::read(&args.connection.identity)?;
    let gate_identity = identity.gate()?;
    let owner = owner(&args.owner, &identity)?;
    let digest = hex(&texts.digest());
    let folder = identity.path(FOLDER);
    let path = folder.join(file_name(&args.policy_id, &args.policy_version, &digest));
    let _alone = lock(&identity)?;
    let (_, client) = connect(&args.connection).await?;
    let (id, version) = (escaped(&args.policy_id), escaped(&args.policy_version));
    let what = format!("version {version} of policy {id}, digest {digest},");
    if let Some(index) = registered(&client, &path).await? {
        eprintln!("countersign: {what} is registered already, at index {}.", index.0);
    } else {
        let mut gate = Gate::open(client.clone(), gate_identity, Retry::default()).await?;
        let version = PolicyVersion {
            policy_id: args.policy_id,
            version: args.policy_version,
            engine: args.engine,
            texts,
            activated_at: now(),
        };
        let logged = gate.register_policy(&version, &owner).await?;
        let evidence = logged.evidence(&identity.chain_pem());
        let evidence = evidence.map_err(|fault| Failure::internal(fault.to_string()))?;
        make_folder(&folder)?;
        replace(&path, &evidence.to_bytes())?;
        sync_folder(&folder)?;
        eprintln!("countersign: {what} is registered, at index {}.", logged.index().0);
    }
    client.settle().await?;
    tell!("{}", shown(&path));
    Ok(Exit::Success)
}

/// What the version consists of, as it was asked.
fn texts(args: &RegisterArgs) -> Result<PolicyTexts, Failure> {
    if let (Some(policy), Some(schema)) = (&args.policy, &args.schema) {
        let policy = read_text(policy, TEXT_BYTES_MAX)?;
        return Ok(PolicyTexts::Given { policy, schema: read_text(schema, TEXT_BYTES_MAX)? });
    }
    let digest = args.digest.as_deref().and_then(from_hex_array);
    digest.map(PolicyTexts::Digest).ok_or_else(|| {
        Failure::usage("--digest is 64 digits of 0-9 a-f: the digest that your verdicts name in policy.digest.")
    })
}

/// The person who signs: a policy-admin of the gate's own tenant.
fn owner(folder: &Path, gate: &Identity) -> Result<PolicyOwner, Failure> {
    let owner = Identity::read(folder)?;
    let (name, role) = (shown(folder), owner.spiffe.role());
    if role != Role::PolicyAdmin {
        return Err(Failure::usage(format!(
            "{name} is an identity of role {role}, and only a policy-admin signs policies. Give \
             one's folder, such as DIR/identities/policy-admin."
        )));
    }
    if owner.spiffe.tenant() != gate.spiffe.tenant() {
        return Err(Failure::usage(format!(
            "{name} is an identity of another tenant than the gate's. Give one of tenant {}.",
            gate.spiffe.tenant()
        )));
    }
    Ok(PolicyOwner { key: owner.key()?, chain: owner.chain })
}

/// Where the version stands, if it was registered from this folder and the ledger holds it.
async fn registered(client: &Client, path: &Path) -> Result<Option<LeafIndex>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let kept = verify_file(&read_capped(path, EVIDENCE_BYTES_MAX)?, None).facts;
    let index = LeafIndex(kept.index);
    if kept.root.is_none() || kept.origin != client.origin() {
        return Ok(None);
    }
    let query = EvidenceQuery::Record(RecordRef::Index(index));
    match client.evidence(query, TreeSize(0), None).await {
        Ok(found) => {
            let root = found.first().and_then(|item| item.report.facts.root);
            Ok((root == kept.root).then_some(index))
        }
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One name for each version: its parts are of any length and any characters.
fn file_name(policy_id: &str, version: &str, digest: &str) -> PathBuf {
    let whole = format!("{}\n{policy_id}{version}{digest}", policy_id.len());
    PathBuf::from(format!("{}.evidence", hex(&sha256(whole.as_bytes()))))
}
