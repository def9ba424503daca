//! The gate's table: RPC × role. A gate serves one tenant, so that every reach is that tenant's own
//! or none.

use countersign_core::cert::{Role, SpiffeId};
use countersign_core::codes::Code;
use countersign_proto::errors::Refusal;

use super::Reach::{self, Never, Own};
use super::find;

/// Every RPC of `countersign.v1.GateService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GateRpc {
    /// Judges an intent.
    Evaluate,
    /// An action's life.
    GetAction,
    /// One person's answer.
    Approve,
    /// What became of an action.
    ReportOutcome,
    /// Makes a policy version decide.
    ActivatePolicy,
    /// Takes a task-scoped grant.
    IssueGrant,
    /// Halts, resumes, changes the mode.
    Switch,
    /// How the gate stands.
    GetStatus,
}

impl GateRpc {
    /// All of them, in the order of the service.
    pub const ALL: [Self; 8] = [
        Self::Evaluate,
        Self::GetAction,
        Self::Approve,
        Self::ReportOutcome,
        Self::ActivatePolicy,
        Self::IssueGrant,
        Self::Switch,
        Self::GetStatus,
    ];

    /// The method's name in the service.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evaluate => "Evaluate",
            Self::GetAction => "GetAction",
            Self::Approve => "Approve",
            Self::ReportOutcome => "ReportOutcome",
            Self::ActivatePolicy => "ActivatePolicy",
            Self::IssueGrant => "IssueGrant",
            Self::Switch => "Switch",
            Self::GetStatus => "GetStatus",
        }
    }

    /// The RPC of an HTTP/2 `:path`; `None` for every other service's.
    pub fn from_path(path: &str) -> Option<Self> {
        let method = path.strip_prefix("/countersign.v1.GateService/")?;
        Self::ALL.into_iter().find(|rpc| rpc.name() == method)
    }
}

/// The authorisation table, its columns as in [`COLUMNS`](super::COLUMNS). An enforcement point asks and reports,
/// and changes nothing; people decide, and ask for no permit.
#[rustfmt::skip]
pub const GATE_TABLE: [(GateRpc, [Reach; 9]); 8] = [
    //                         gate   auditor responder approver policy-admin tenant-admin mirror operator pep
    (GateRpc::Evaluate,       [Never, Never,  Never,    Never,   Never,       Never,       Never, Never,   Own]),
    (GateRpc::GetAction,      [Never, Own,    Own,      Own,     Own,         Own,         Never, Never,   Own]),
    (GateRpc::Approve,        [Never, Never,  Never,    Own,     Never,       Never,       Never, Never,   Never]),
    (GateRpc::ReportOutcome,  [Never, Never,  Never,    Never,   Never,       Never,       Never, Never,   Own]),
    (GateRpc::ActivatePolicy, [Never, Never,  Never,    Never,   Own,         Never,       Never, Never,   Never]),
    (GateRpc::IssueGrant,     [Never, Never,  Never,    Never,   Own,         Own,         Never, Never,   Never]),
    (GateRpc::Switch,         [Never, Never,  Own,      Never,   Own,         Own,         Never, Own,     Never]),
    (GateRpc::GetStatus,      [Own,   Own,    Own,      Own,     Own,         Own,         Own,   Own,     Own]),
];

/// Who may do with `Switch` what is not a halt: whoever stops a tenant in an emergency need not be
/// the one who lets it go on.
pub const LIFTERS: [Role; 2] = [Role::PolicyAdmin, Role::TenantAdmin];

/// Leave to do one thing at a gate; only [`authorize_gate`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatePermit {
    rpc: GateRpc,
    caller: SpiffeId,
}

impl GatePermit {
    /// What is permitted.
    pub fn rpc(&self) -> GateRpc {
        self.rpc
    }

    /// To whom.
    pub fn caller(&self) -> &SpiffeId {
        &self.caller
    }

    /// Whether this caller of `Switch` may do more than halt. Errors: `PERMISSION_DENIED`.
    pub fn may_lift(&self) -> Result<(), Refusal> {
        let may = self.rpc == GateRpc::Switch && LIFTERS.contains(&self.caller.role());
        if may { Ok(()) } else { Err(Refusal::from(Code::PermissionDenied)) }
    }
}

/// What the table says of this RPC and role. A pair that the table lacks is refused.
pub fn gate_reach(rpc: GateRpc, role: Role) -> Reach {
    find(GATE_TABLE.iter().find(|(row, _)| *row == rpc).map(|(_, row)| row), role)
}

/// Asks the table, at the gate of `tenant`. Errors: `PERMISSION_DENIED` (the role may not call this
/// at all), `OTHER_TENANT` (it may, at its own tenant's gate).
pub fn authorize_gate(
    caller: &SpiffeId,
    rpc: GateRpc,
    tenant: &str,
) -> Result<GatePermit, Refusal> {
    match gate_reach(rpc, caller.role()) {
        Never => Err(Refusal::from(Code::PermissionDenied)),
        // A gate has nothing that is not its tenant's.
        Own | Reach::Log if caller.tenant() == tenant => {
            Ok(GatePermit { rpc, caller: caller.clone() })
        }
        Own | Reach::Log => Err(Refusal::from(Code::OtherTenant)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod tests {
    use std::collections::BTreeSet;

    use super::super::COLUMNS;
    use super::*;

    /// The table once more, as sets of what is allowed, so that a slip in one is seen in the other.
    fn expected(rpc: GateRpc, role: Role) -> bool {
        use Role::{Approver, Auditor, Operator, Pep, PolicyAdmin, Responder, TenantAdmin};
        match rpc {
            GateRpc::Evaluate | GateRpc::ReportOutcome => role == Pep,
            GateRpc::GetAction => {
                [Pep, Approver, Auditor, Responder, PolicyAdmin, TenantAdmin].contains(&role)
            }
            GateRpc::Approve => role == Approver,
            GateRpc::ActivatePolicy => role == PolicyAdmin,
            GateRpc::IssueGrant => [PolicyAdmin, TenantAdmin].contains(&role),
            GateRpc::Switch => [Responder, PolicyAdmin, TenantAdmin, Operator].contains(&role),
            GateRpc::GetStatus => true,
        }
    }

    #[test]
    fn every_rpc_role_and_tenant_is_decided_as_meant() {
        let mut cases = 0;
        for rpc in GateRpc::ALL {
            for role in Role::ALL {
                for own in [true, false] {
                    let caller = SpiffeId::new("acme.example", "acme", role, "x").unwrap();
                    let tenant = if own { "acme" } else { "other" };
                    let answer = authorize_gate(&caller, rpc, tenant);
                    assert_eq!(answer.is_ok(), own && expected(rpc, role), "{rpc:?} {role} {own}");
                    if let Err(refusal) = answer {
                        let may = expected(rpc, role);
                        let code = if may { Code::OtherTenant } else { Code::PermissionDenied };
                        assert_eq!(refusal.code, code, "{rpc:?} {role} {own}");
                    }
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 8 * 9 * 2);
    }

    #[test]
    fn a_responder_and_an_operator_halt_and_do_not_lift() {
        for role in Role::ALL {
            let caller = SpiffeId::new("acme.example", "acme", role, "x").unwrap();
            let Ok(permit) = authorize_gate(&caller, GateRpc::Switch, "acme") else { continue };
            let may = matches!(role, Role::PolicyAdmin | Role::TenantAdmin);
            assert_eq!(permit.may_lift().is_ok(), may, "{role}");
        }
        let admin = SpiffeId::new("acme.example", "acme", Role::TenantAdmin, "x").unwrap();
        let other = authorize_gate(&admin, GateRpc::GetStatus, "acme").unwrap();
        assert!(other.may_lift().is_err(), "leave for one thing is leave for no other");
    }

    #[test]
    fn the_table_covers_every_rpc_of_the_service() {
        let set = countersign_proto::descriptors().unwrap();
        let in_proto: BTreeSet<String> = set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .filter(|service| service.name() == "GateService")
            .flat_map(|service| &service.method)
            .map(|method| method.name().to_owned())
            .collect();
        let in_table: BTreeSet<String> =
            GATE_TABLE.iter().map(|(rpc, _)| rpc.name().to_owned()).collect();
        assert_eq!(in_proto, in_table);
        assert_eq!(GATE_TABLE.len(), GateRpc::ALL.len());
        assert_eq!(COLUMNS.len(), Role::ALL.len());
    }

    #[test]
    fn paths_lead_to_rpcs_and_strangers_to_none() {
        for rpc in GateRpc::ALL {
            let path = format!("/countersign.v1.GateService/{}", rpc.name());
            assert_eq!(GateRpc::from_path(&path), Some(rpc));
        }
        assert_eq!(GateRpc::from_path("/countersign.v1.LedgerService/Evaluate"), None);
    }
}
