//! Policies, grants, halts and the mode: what people with those roles change, each on record.

use std::sync::Arc;

use countersign_core::cert::{Role, SpiffeId};
use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, b64, hex};
use countersign_core::json::quoted;
use countersign_core::kinds::Kind;
use countersign_gate::{ENGINE, GateCode, Policy, Terms};
use countersign_proto::errors::Refusal;
use countersign_proto::v1;
use countersign_proto::v1::{scope, switch_request};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::core::GateCore;
use super::people::{chain_of, check_person, leaf_digest};
use super::rows::{About, Change, EmergencyRow, GrantRow, OutboxRow, PolicyRow, ScopeRow, UsedRow};
use super::shared::outbox_row;
use super::state::StateError;
use super::supervise::{drafted, failed, gate_refusal};
use super::tables::{self, Room};
use super::ticket::{Fate, ticket};

/// Characters of a policy's or version's name, and bytes of an actor's or session's.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of a policy and its schema (POL-6).
const POLICY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the reason of a change.
const REASON_BYTES_MAX: usize = 4 * 1024;
/// Halts that may be in force.
const HALTS_MAX: usize = 10_000;

fn malformed(name: &'static str) -> Refusal {
    Code::RequestMalformed.at_field(name).into()
}

fn unavailable() -> Refusal {
    Code::EvidenceUnavailable.into()
}

impl GateCore {
    /// Makes a policy version decide, once its signed record is in the log. Errors: those of
    /// `GateService.ActivatePolicy`.
    pub async fn activate_policy(
        &self,
        caller: &SpiffeId,
        request: v1::ActivatePolicyRequest,
    ) -> Result<v1::Recorded, Refusal> {
        self.shared.check_running()?;
        let name = |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len());
        if !name(&request.policy_id) || !name(&request.version) {
            return Err(malformed("policy_id"));
        }
        if request.policy_text.len() + request.schema_text.len() > POLICY_BYTES_MAX {
            return Err(Refusal::new(
                Code::PolicyInvalid,
                "the texts are larger than 1 MiB together: split the policy set (POL-6)",
            ));
        }
        let (policy_text, schema_text) = (request.policy_text, request.schema_text);
        // Linting takes as long as the texts are large.
        let linted = tokio::task::spawn_blocking(move || {
            Policy::load(&policy_text, &schema_text).map_err(|faults| faults.to_string())
        });
        let policy = linted.await.map_err(|_| Refusal::from(Code::Internal))?;
        let policy = policy.map_err(|faults| Refusal::new(Code::PolicyInvalid, faults))?;
        // Only now: a large policy, long to lint, must not find that its time is over.
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        let chain = chain_of(&request.chain)?;
        let now = self.shared.host.now();
        let json = json!({
            "activated_at": now.format(),
            "digest": hex(&policy.digest()),
            "engine": ENGINE,
            "length": policy.policy_text().len() + policy.schema_text().len(),
            "owner": { "id": caller.name(), "certificate": hex(&leaf_digest(&chain)?) },
            "policy_id": request.policy_id,
            "signature": b64(&request.signature),
            "version": request.version,
        });
        let draft = self.shared.draft(Kind::Policy, &json, chain).map_err(|e| drafted(&e))?;
        check_person(&self.shared, &draft, caller, &[Role::PolicyAdmin], "owner", now)
            .map_err(Refusal::from)?;
        // One at a time for a name, so that no two texts become one version.
        let turn = self.turn(&format!("policy {}", request.policy_id), deadline).await;
        let _turn = turn.ok_or_else(unavailable)?;
        self.check_version(&request.policy_id, &request.version, &policy)?;
        // The ledger takes the record of texts that it holds (KIND-8).
        let client = self.shared.client_by(deadline).await.ok_or_else(unavailable)?;
        let put = timeout_at(deadline, client.put_blob(blob(&policy))).await;
        put.map_err(|_| unavailable())?.map_err(|error| {
            tracing::warn!(%error, "the ledger did not take a policy's texts");
            unavailable()
        })?;
        let row = PolicyRow {
            id: request.policy_id,
            version: request.version,
            policy_text: policy.policy_text().to_owned(),
            schema_text: policy.schema_text().to_owned(),
            logged: None,
        };
        let at = self.log(outbox_row(&draft, About::Policy(row)), deadline).await?;
        Ok(v1::Recorded { evidence: at.evidence })
    }

    /// A version, once logged, is one text for good: what is said of it is said of that.
    fn check_version(&self, id: &str, version: &str, policy: &Policy) -> Result<(), Refusal> {
        let digest = hex(&policy.digest());
        let of_row = |row: &PolicyRow| {
            let texts =
                row.policy_text == policy.policy_text() && row.schema_text == policy.schema_text();
            (row.id == id && row.version == version && !texts)
                .then(|| Policy::load(&row.policy_text, &row.schema_text).ok())
                .flatten()
        };
        let find = |tx: &redb::ReadTransaction| {
            let mut held = tables::version(tx, id, version)?;
            if held.is_none() {
                // What is on its way to the log holds its name as well, and so does what an earlier
                // version of this program left as the active one.
                let mut rows: Vec<PolicyRow> = tables::policy(tx)?.into_iter().collect();
                for (_, row) in tables::outbox(tx, 0, usize::MAX)? {
                    if let About::Policy(row) = row.about {
                        rows.push(row);
                    }
                }
                held = rows.iter().find_map(of_row).map(|policy| hex(&policy.digest()));
            }
            Ok(held)
        };
        match self.shared.state.read(find).map_err(failed)? {
            Some(held) if held != digest => Err(Refusal::new(
                Code::PolicyVersionTaken,
                format!(
                    "version {} of {} is the policy with the digest {held} \
                     and stays it; give this one ({digest}) a version of its own",
                    quoted(version),
                    quoted(id)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Takes a grant, once its signed record is in the log. Errors: those of
    /// `GateService.IssueGrant`.
    pub async fn issue_grant(
        &self,
        caller: &SpiffeId,
        request: v1::IssueGrantRequest,
    ) -> Result<v1::Recorded, Refusal> {
        self.shared.check_running()?;
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        let v1::IssueGrantRequest { grant_id, terms, signature, chain } = request;
        if !countersign_core::encoding::is_name(&grant_id) {
            return Err(Refusal::new(
                Code::GrantMalformed,
                "grant_id: use 1 to 128 of A-Z a-z 0-9 . _ -",
            ));
        }
        let parsed = Terms::parse(&terms)
            .map_err(|fault| Refusal::new(Code::GrantMalformed, fault.to_string()))?;
        let chain = chain_of(&chain)?;
        let now = self.shared.host.now();
        let signature = b64(&signature);
        let json = json!({
            "grant_id": grant_id,
            "owner": { "id": caller.name(), "certificate": hex(&leaf_digest(&chain)?) },
            "signature": signature,
            "terms": terms,
        });
        let draft = self.shared.draft(Kind::Grant, &json, chain).map_err(|e| drafted(&e))?;
        let roles = [Role::PolicyAdmin, Role::TenantAdmin];
        check_person(&self.shared, &draft, caller, &roles, "owner", now).map_err(Refusal::from)?;
        let row = GrantRow {
            id: grant_id.clone(),
            terms,
            signature,
            used: UsedRow::default(),
            logged: None,
        };
        // One at a time for a name, as actions have their turns; a name is no UUID.
        let turn = self.turn(&format!("grant {grant_id}"), deadline).await;
        let _turn = turn.ok_or_else(unavailable)?;
        let held = self.shared.state.read(|tx| tables::grant(tx, &grant_id)).map_err(failed)?;
        if let Some(held) = held {
            let same = held.terms == row.terms && held.signature == row.signature;
            let evidence = held.logged.filter(|_| same).map(|at| at.evidence);
            return evidence
                .map(|evidence| v1::Recorded { evidence })
                .ok_or_else(|| gate_refusal(GateCode::GrantExists));
        }
        // GRT-2.
        if let Some(name) = &parsed.session {
            let asked = self.shared.state.read(|tx| tables::session(tx, name)).map_err(failed)?;
            if asked.is_some() || self.shared.live.has_entered(name) {
                return Err(gate_refusal(GateCode::GrantLate));
            }
        }
        let at = self.log(outbox_row(&draft, About::Grant(row)), deadline).await?;
        Ok(v1::Recorded { evidence: at.evidence })
    }

    /// Halts, resumes, changes the mode or ends an emergency. A halt and the end of an emergency
    /// hold before this is ready, logged or not; the rest once it is in the log. Errors:
    /// `REQUEST_MALFORMED`, `EVIDENCE_UNAVAILABLE`, `NOT_FOUND` (no emergency is open).
    pub async fn switch(
        &self,
        caller: &SpiffeId,
        request: v1::SwitchRequest,
    ) -> Result<v1::SwitchResponse, Refusal> {
        let deadline = Instant::now() + self.shared.settings.answer_timeout();
        if request.reason.len() > REASON_BYTES_MAX {
            return Err(malformed("reason"));
        }
        let by = json!({ "role": caller.role().to_string(), "id": caller.name() });
        let change = request.change.ok_or_else(|| malformed("change"))?;
        let notice = |about, detail: Value, change| {
            let draft = self.shared.notice(about, &detail).map_err(|error| drafted(&error))?;
            Ok::<_, Refusal>(outbox_row(&draft, About::Notice(change)))
        };
        let said = |event, what| json!({ "event": event, "what": what, "by": by, "reason": request.reason });
        let mut note = String::new();
        let evidence = match change {
            switch_request::Change::Halt(scope) => {
                let scope = scope_of(scope)?;
                let row = notice("mode", said("halt", shown(&scope)), None)?;
                note = self.unknown_actor(&scope);
                self.halt(scope, row, deadline).await?
            }
            switch_request::Change::EndEmergency(true) => {
                let open = self.shared.live.emergency();
                let open = open.filter(|open| self.shared.host.now().0 < open.until);
                let open = open.ok_or_else(|| {
                    Refusal::new(Code::NotFound, "no emergency is open: there is none to end")
                })?;
                let detail = json!({
                    "event": "closed", "verdict": open.verdict, "until": Micros(open.until).format(),
                    "by": by, "reason": request.reason,
                });
                let row = notice("break_glass", detail, None)?;
                self.end_emergency(open, row, deadline).await?
            }
            change => {
                self.shared.check_running()?;
                let (event, what, change) = match change {
                    switch_request::Change::Resume(scope) => {
                        let scope = scope_of(scope)?;
                        ("resume", shown(&scope), Change::Resume(scope))
                    }
                    switch_request::Change::Mode(mode) if mode == "enforce" || mode == "shadow" => {
                        ("mode", json!(mode), Change::Mode(mode))
                    }
                    switch_request::Change::Mode(_) => return Err(malformed("mode")),
                    _ => return Err(malformed("change")),
                };
                let row = notice("mode", said(event, what), Some(change))?;
                self.log(row, deadline).await?.evidence
            }
        };
        Ok(v1::SwitchResponse { evidence, note })
    }

    /// What is to be said of a halt that may miss whom it means: it covers an id, known or not.
    fn unknown_actor(&self, scope: &ScopeRow) -> String {
        let ScopeRow::Actor(id) = scope else { return String::new() };
        match self.shared.live.knows_actor(id) {
            Ok(true) => String::new(),
            Ok(false) => {
                "no such actor is known to the directory; the halt holds all the same".to_owned()
            }
            Err(_) => "the directory can't be read, so that nothing says whether there is such an \
                       actor; the halt holds all the same"
                .to_owned(),
        }
    }

    /// Ends the emergency that is open: in memory at once, then durably with its notice.
    async fn end_emergency(
        &self,
        open: EmergencyRow,
        row: OutboxRow,
        deadline: Instant,
    ) -> Result<String, Refusal> {
        self.shared.live.close_emergency();
        let (ticket, stub) = ticket();
        let shared = Arc::clone(&self.shared);
        let write = move |tx: &redb::WriteTransaction| {
            // Ended by somebody else, by the clock or by another emergency meanwhile: it is told of.
            if tables::emergency(tx)?.as_ref() != Some(&open) {
                return Ok::<_, StateError>(());
            }
            tables::put_emergency(tx, None)?;
            let room = Room::Own(shared.settings.outbox_max);
            if let Some(number) = tables::enqueue(tx, &row, room)? {
                shared.tickets.insert(number, ticket);
            }
            Ok(())
        };
        self.shared.state.write(write).await.map_err(failed)?;
        self.shared.live.reload(&self.shared.state).map_err(failed)?;
        self.shared.work.notify_one();
        match stub.fate(deadline).await {
            Some(Fate::Logged(at)) => Ok(at.evidence),
            _ => Ok(String::new()),
        }
    }

    /// Puts a halt in force: in memory at once, then durably with its notice, which is logged when
    /// it can be.
    async fn halt(
        &self,
        scope: ScopeRow,
        row: OutboxRow,
        deadline: Instant,
    ) -> Result<String, Refusal> {
        if self.shared.live.halts().len() >= HALTS_MAX && scope != ScopeRow::Tenant {
            return Err(Refusal::new(
                Code::Overloaded,
                "as many halts are in force as a gate keeps: halt the tenant instead",
            ));
        }
        self.shared.live.halt(scope.clone());
        let (ticket, stub) = ticket();
        let shared = Arc::clone(&self.shared);
        let durable = scope.clone();
        let write = move |tx: &redb::WriteTransaction| {
            tables::set_halt(tx, &scope, true)?;
            let room = Room::Own(shared.settings.outbox_max);
            let number = tables::enqueue(tx, &row, room)?;
            if let Some(number) = number {
                shared.tickets.insert(number, ticket);
            }
            Ok::<_, StateError>(())
        };
        self.shared.state.write(write).await.map_err(failed)?;
        self.shared.live.halt_is_durable(durable);
        self.shared.work.notify_one();
        match stub.fate(deadline).await {
            Some(Fate::Logged(at)) => Ok(at.evidence),
            _ => Ok(String::new()),
        }
    }

    /// How the gate stands.
    pub fn status(&self) -> Result<v1::GateStatus, Refusal> {
        let shared = &self.shared;
        let counts = |tx: &redb::ReadTransaction| {
            Ok((tables::outbox_count(tx)?, tables::waiting_count(tx)?, tables::halts(tx)?))
        };
        let (outbox, waiting, halts) = shared.state.read(counts).map_err(failed)?;
        let loaded = shared.live.policy().ok();
        let name = loaded.as_ref().map(|loaded| &loaded.name);
        let now = shared.host.now();
        let emergency = shared.live.emergency().filter(|open| now.0 < open.until);
        Ok(v1::GateStatus {
            tenant: shared.identity.tenant.clone(),
            gate: shared.identity.gate.clone(),
            mode: shared.live.mode().to_string(),
            policy_id: name.map(|name| name.id.clone()).unwrap_or_default(),
            policy_version: name.map(|name| name.version.clone()).unwrap_or_default(),
            policy_digest: name.map(|name| hex(&name.digest)).unwrap_or_default(),
            halts: halts.into_iter().map(scope_to_wire).collect(),
            emergency_until: emergency.map(|open| Micros(open.until).format()).unwrap_or_default(),
            outbox,
            waiting,
            ledger_reachable: shared.is_reachable(),
        })
    }
}

/// KIND-8: u32 length, policy text, u32 length, schema text.
fn blob(policy: &Policy) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in [policy.policy_text(), policy.schema_text()] {
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn scope_of(wire: v1::Scope) -> Result<ScopeRow, Refusal> {
    let named = |text: &String| (1..=NAME_BYTES_MAX).contains(&text.len());
    match wire.of {
        Some(scope::Of::Actor(id)) if named(&id) => Ok(ScopeRow::Actor(id)),
        Some(scope::Of::Session(name)) if named(&name) => Ok(ScopeRow::Session(name)),
        Some(scope::Of::Tenant(true)) => Ok(ScopeRow::Tenant),
        _ => Err(malformed("scope")),
    }
}

fn scope_to_wire(row: ScopeRow) -> v1::Scope {
    let of = match row {
        ScopeRow::Actor(id) => scope::Of::Actor(id),
        ScopeRow::Session(name) => scope::Of::Session(name),
        ScopeRow::Tenant => scope::Of::Tenant(true),
    };
    v1::Scope { of: Some(of) }
}

fn shown(scope: &ScopeRow) -> Value {
    match scope {
        ScopeRow::Actor(id) => json!({ "actor": id }),
        ScopeRow::Session(name) => json!({ "session": name }),
        ScopeRow::Tenant => json!({ "tenant": true }),
    }
}
