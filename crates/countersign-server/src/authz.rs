//! Who may call what: one table, RPC × role, that says for whose records.
//!
//! The table is the whole of it. A handler asks [`authorize`] with the tenant whose records it is
//! about to touch, and gets a [`Permit`] or a refusal; the calls that touch no tenant's records ask
//! with [`Target::Log`]. A gate's service has a table of its own, [`GATE_TABLE`].

mod gate;

use countersign_core::cert::{Role, SpiffeId};
use countersign_core::codes::Code;
use countersign_proto::errors::Refusal;

pub use self::gate::{GATE_TABLE, GatePermit, GateRpc, LIFTERS, authorize_gate, gate_reach};

/// Every RPC of `countersign.v1.LedgerService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rpc {
    /// Opens a gate's stream.
    OpenStream,
    /// Submits one batch.
    Submit,
    /// Submits many batches over one call.
    SubmitStream,
    /// Newest head.
    GetHead,
    /// Heads as they come.
    WatchHeads,
    /// Consistency proof.
    GetConsistency,
    /// Receipt of a record.
    GetReceipt,
    /// Evidence files.
    GetEvidence,
    /// Stores a policy's texts.
    PutBlob,
    /// Records that match.
    Query,
    /// Records as they come.
    WatchRecords,
    /// Entries of the log.
    GetEntries,
    /// Peaks of the log.
    GetPeaks,
    /// A policy's texts.
    GetPolicy,
    /// Erases payloads.
    Erase,
}

impl Rpc {
    /// All of them, in the order of the service.
    pub const ALL: [Self; 15] = [
        Self::OpenStream,
        Self::Submit,
        Self::SubmitStream,
        Self::GetHead,
        Self::WatchHeads,
        Self::GetConsistency,
        Self::GetReceipt,
        Self::GetEvidence,
        Self::PutBlob,
        Self::Query,
        Self::WatchRecords,
        Self::GetEntries,
        Self::GetPeaks,
        Self::GetPolicy,
        Self::Erase,
    ];

    /// The method's name in the service.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenStream => "OpenStream",
            Self::Submit => "Submit",
            Self::SubmitStream => "SubmitStream",
            Self::GetHead => "GetHead",
            Self::WatchHeads => "WatchHeads",
            Self::GetConsistency => "GetConsistency",
            Self::GetReceipt => "GetReceipt",
            Self::GetEvidence => "GetEvidence",
            Self::PutBlob => "PutBlob",
            Self::Query => "Query",
            Self::WatchRecords => "WatchRecords",
            Self::GetEntries => "GetEntries",
            Self::GetPeaks => "GetPeaks",
            Self::GetPolicy => "GetPolicy",
            Self::Erase => "Erase",
        }
    }

    /// The RPC of an HTTP/2 `:path`; `None` for every other service's.
    pub fn from_path(path: &str) -> Option<Self> {
        let method = path.strip_prefix("/countersign.v1.LedgerService/")?;
        Self::ALL.into_iter().find(|rpc| rpc.name() == method)
    }
}

/// An RPC of one of the services that the edge serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Of the ledger.
    Ledger(Rpc),
    /// Of a gate.
    Gate(GateRpc),
}

impl Method {
    /// The method of an HTTP/2 `:path`; `None` for every other service's.
    pub fn from_path(path: &str) -> Option<Self> {
        Rpc::from_path(path).map(Self::Ledger).or_else(|| GateRpc::from_path(path).map(Self::Gate))
    }

    /// Its name in its service.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger(rpc) => rpc.name(),
            Self::Gate(rpc) => rpc.name(),
        }
    }

    /// What its table says of a role.
    pub fn reach(self, role: Role) -> Reach {
        match self {
            Self::Ledger(rpc) => reach(rpc, role),
            Self::Gate(rpc) => gate_reach(rpc, role),
        }
    }
}

/// For whose records a role may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Not at all.
    Never,
    /// For its own tenant's.
    Own,
    /// For the log as a whole, which shows no tenant's records.
    Log,
}

use Reach::{Log, Never, Own};

/// The roles, in the order of the columns of [`TABLE`].
pub const COLUMNS: [Role; 9] = [
    Role::Gate,
    Role::Auditor,
    Role::Responder,
    Role::Approver,
    Role::PolicyAdmin,
    Role::TenantAdmin,
    Role::Mirror,
    Role::Operator,
    Role::Pep,
];

/// The authorisation table. An operator runs the ledger and reads nobody's records; an
/// enforcement point deals with its gate, and of the ledger needs the heads alone.
#[rustfmt::skip]
pub const TABLE: [(Rpc, [Reach; 9]); 15] = [
    //                     gate   auditor responder approver policy-admin tenant-admin mirror operator pep
    (Rpc::OpenStream,     [Own,   Never,  Never,    Never,   Never,       Never,       Never, Never, Never]),
    (Rpc::Submit,         [Own,   Never,  Never,    Never,   Never,       Never,       Never, Never, Never]),
    (Rpc::SubmitStream,   [Own,   Never,  Never,    Never,   Never,       Never,       Never, Never, Never]),
    (Rpc::GetHead,        [Log,   Log,    Log,      Log,     Log,         Log,         Log,   Log,      Log]),
    (Rpc::WatchHeads,     [Log,   Log,    Log,      Log,     Log,         Log,         Log,   Log,      Log]),
    (Rpc::GetConsistency, [Log,   Log,    Log,      Log,     Log,         Log,         Log,   Log,      Log]),
    (Rpc::GetReceipt,     [Own,   Own,    Own,      Own,     Own,         Own,         Own,   Never, Never]),
    (Rpc::GetEvidence,    [Own,   Own,    Own,      Own,     Own,         Own,         Own,   Never, Never]),
    (Rpc::PutBlob,        [Own,   Never,  Never,    Never,   Never,       Never,       Never, Never, Never]),
    (Rpc::Query,          [Own,   Own,    Own,      Own,     Own,         Own,         Own,   Never, Never]),
    (Rpc::WatchRecords,   [Own,   Own,    Own,      Own,     Own,         Own,         Own,   Never, Never]),
    (Rpc::GetEntries,     [Log,   Log,    Log,      Log,     Log,         Log,         Log,   Log,      Log]),
    (Rpc::GetPeaks,       [Log,   Log,    Log,      Log,     Log,         Log,         Log,   Log,      Log]),
    (Rpc::GetPolicy,      [Own,   Own,    Own,      Own,     Own,         Own,         Own,   Never, Never]),
    (Rpc::Erase,          [Never, Never,  Never,    Never,   Never,       Own,         Never, Never, Never]),
];

/// What a call is about to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The log as a whole: heads and proofs between them.
    Log,
    /// Records of this tenant.
    Tenant(&'a str),
}

/// Leave to do one thing; only [`authorize`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    rpc: Rpc,
    caller: SpiffeId,
}

impl Permit {
    /// What is permitted.
    pub fn rpc(&self) -> Rpc {
        self.rpc
    }

    /// To whom.
    pub fn caller(&self) -> &SpiffeId {
        &self.caller
    }
}

/// What the table says of this RPC and role. A pair that the table lacks is refused.
pub fn reach(rpc: Rpc, role: Role) -> Reach {
    find(TABLE.iter().find(|(row, _)| *row == rpc).map(|(_, row)| row), role)
}

fn find(row: Option<&[Reach; 9]>, role: Role) -> Reach {
    let column = COLUMNS.iter().position(|column| *column == role);
    row.zip(column).and_then(|(row, column)| row.get(column)).copied().unwrap_or(Never)
}

/// Asks the table. Errors: `PERMISSION_DENIED` (the role may not call this at all), `OTHER_TENANT`
/// (it may, for its own tenant only).
pub fn authorize(caller: &SpiffeId, rpc: Rpc, target: Target<'_>) -> Result<Permit, Refusal> {
    let permit = || Permit { rpc, caller: caller.clone() };
    match (reach(rpc, caller.role()), target) {
        (Never, _) => Err(Refusal::from(Code::PermissionDenied)),
        (Log, _) => Ok(permit()),
        (Own, Target::Tenant(tenant)) if tenant == caller.tenant() => Ok(permit()),
        // A call for own records must say whose; a handler that asks with `Log` here is in error,
        // and errs on the side of no.
        (Own, Target::Tenant(_) | Target::Log) => Err(Refusal::from(Code::OtherTenant)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The table once more, as sets of what is allowed, so that a slip in one is seen in the other.
    fn expected(rpc: Rpc, role: Role, own: bool) -> bool {
        match rpc {
            Rpc::OpenStream | Rpc::Submit | Rpc::SubmitStream | Rpc::PutBlob => {
                own && role == Role::Gate
            }
            Rpc::GetHead
            | Rpc::WatchHeads
            | Rpc::GetConsistency
            | Rpc::GetEntries
            | Rpc::GetPeaks => true,
            Rpc::GetReceipt
            | Rpc::GetEvidence
            | Rpc::Query
            | Rpc::WatchRecords
            | Rpc::GetPolicy => own && role != Role::Operator && role != Role::Pep,
            Rpc::Erase => own && role == Role::TenantAdmin,
        }
    }

    #[test]
    fn every_rpc_role_and_tenant_is_decided_as_meant() {
        let mut cases = 0;
        for rpc in Rpc::ALL {
            for role in Role::ALL {
                for own in [true, false] {
                    let caller = SpiffeId::new("acme.example", "acme", role, "x").unwrap();
                    let tenant = if own { "acme" } else { "other" };
                    let answer = authorize(&caller, rpc, Target::Tenant(tenant));
                    assert_eq!(answer.is_ok(), expected(rpc, role, own), "{rpc:?} {role} {own}");
                    if let Err(refusal) = answer {
                        let never = reach(rpc, role) == Never;
                        let code = if never { Code::PermissionDenied } else { Code::OtherTenant };
                        assert_eq!(refusal.code, code, "{rpc:?} {role} {own}");
                    }
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 15 * 9 * 2);
    }

    #[test]
    fn a_call_for_own_records_must_say_whose() {
        let gate = SpiffeId::new("acme.example", "acme", Role::Gate, "prod-1").unwrap();
        let answer = authorize(&gate, Rpc::Submit, Target::Log).unwrap_err();
        assert_eq!(answer.code, Code::OtherTenant);
        assert!(authorize(&gate, Rpc::GetHead, Target::Log).is_ok());
    }

    #[test]
    fn the_table_covers_every_rpc_of_the_service_and_every_role() {
        let set = countersign_proto::descriptors().unwrap();
        let in_proto: BTreeSet<String> = set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .filter(|service| service.name() == "LedgerService")
            .flat_map(|service| &service.method)
            .map(|method| method.name().to_owned())
            .collect();
        let in_table: BTreeSet<String> =
            TABLE.iter().map(|(rpc, _)| rpc.name().to_owned()).collect();
        assert_eq!(in_proto, in_table);
        assert_eq!(TABLE.len(), Rpc::ALL.len());
        let columns: BTreeSet<Role> = COLUMNS.into_iter().collect();
        assert_eq!(columns, Role::ALL.into_iter().collect());
    }

    #[test]
    fn paths_lead_to_rpcs_and_strangers_to_none() {
        for rpc in Rpc::ALL {
            let path = format!("/countersign.v1.LedgerService/{}", rpc.name());
            assert_eq!(Rpc::from_path(&path), Some(rpc));
        }
        assert_eq!(Rpc::from_path("/countersign.v1.LedgerService/Drop"), None);
        assert_eq!(Rpc::from_path("/grpc.health.v1.Health/Check"), None);
    }
}
