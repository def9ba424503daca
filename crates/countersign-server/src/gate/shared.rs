//! What every part of the gate has in common, and the drafts that it makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_client::{Client, ClientConfig, Draft, DraftError, GateIdentity, Stamp};
use countersign_core::cert::{Certificate, TrustAnchor};
use countersign_core::codes::Code;
use countersign_core::encoding::{Micros, b64, from_b64, from_hex_array};
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_gate::{Decision, Intent, Sealing, verdict_json};
use countersign_proto::errors::Refusal;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::config::GateSettings;
use super::host::{GateHost, Killed, Step};
use super::live::Live;
use super::metrics::GateMetrics;
use super::rows::{About, ActionRow, OutboxRow, ReasonRow};
use super::state::State;
use super::ticket::Tickets;
use crate::config::Revoked;

/// Whose signatures a gate takes, and who it is.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) trust_domain: String,
    pub(crate) people_roots: Vec<TrustAnchor>,
    pub(crate) revoked: Vec<Revoked>,
}

/// The parts of a gate.
pub(crate) struct Shared {
    pub(crate) settings: GateSettings,
    pub(crate) identity: GateIdentity,
    /// The seal key's chain, as evidence carries it.
    pub(crate) chain_pem: Vec<String>,
    pub(crate) ledger: ClientConfig,
    pub(crate) trusted: Trusted,
    pub(crate) host: Arc<dyn GateHost>,
    pub(crate) state: State,
    pub(crate) live: Live,
    pub(crate) tickets: Tickets,
    /// Something waits in the outbox.
    pub(crate) work: Notify,
    /// Actions whose supervision is to be looked at again.
    pub(crate) pokes: mpsc::UnboundedSender<String>,
    /// The log index of the newest signal.
    pub(crate) signals: watch::Sender<Option<u64>>,
    pub(crate) metrics: GateMetrics,
    /// The connection to the ledger, once there is one.
    pub(crate) client: watch::Sender<Option<Client>>,
    pub(crate) reachable: AtomicBool,
    /// The drain has begun: nothing new is judged.
    pub(crate) stopping: AtomicBool,
    /// The ledger fails at the same record again and again: nothing behind it is logged.
    pub(crate) stuck: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("gate", &self.identity.gate).finish_non_exhaustive()
    }
}

impl Shared {
    /// Goes on after a step, unless the host lets the gate end here.
    pub(crate) fn reached(&self, step: Step) -> Result<(), Killed> {
        self.host.reached(step).inspect_err(|Killed| self.end())
    }

    /// The gate is at its end: nothing is written any more, and nobody waits in vain.
    pub(crate) fn end(&self) {
        self.state.poison();
        self.tickets.clear();
        self.work.notify_one();
    }

    /// A connection to the ledger, if there is one.
    pub(crate) fn client(&self) -> Option<Client> {
        self.client.borrow().clone()
    }

    /// The connection to the ledger, waited for: a gate that has just begun has none yet. None
    /// where there is none in time.
    pub(crate) async fn client_by(&self, deadline: Instant) -> Option<Client> {
        let mut connected = self.client.subscribe();
        let found = timeout_at(deadline, connected.wait_for(Option::is_some)).await;
        found.ok()?.ok()?.clone()
    }

    pub(crate) fn set_client(&self, client: &Client) {
        self.client.send_replace(Some(client.clone()));
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Acquire)
    }

    pub(crate) fn set_reachable(&self, is: bool) {
        if self.reachable.swap(is, Ordering::AcqRel) != is {
            tracing::warn!(reachable = is, "the ledger's answers have changed");
        }
        self.metrics.set_reachable(is);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Takes no new calls from here on, and says so.
    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// An error once the gate drains: what comes then is for its successor.
    pub(crate) fn check_running(&self) -> Result<(), Refusal> {
        if self.is_stopping() { Err(Code::GateStopping.into()) } else { Ok(()) }
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    pub(crate) fn set_stuck(&self, is: bool) {
        self.stuck.store(is, Ordering::Release);
    }

    /// A record of a kind that has no nonce.
    pub(crate) fn draft(
        &self,
        kind: Kind,
        json: &Value,
        people: Vec<Certificate>,
    ) -> Result<Draft, DraftError> {
        let stamp = Stamp { recorded_at: self.host.now(), nonce: [0; 16] };
        self.identity.draft(kind, &json.to_string(), people, &stamp)
    }

    /// A notice of the gate's own.
    pub(crate) fn notice(&self, about: &str, detail: &Value) -> Result<Draft, DraftError> {
        let json = serde_json::json!({ "about": about, "detail": detail });
        self.draft(Kind::Notice, &json, Vec::new())
    }

    /// A verdict with this nonce.
    pub(crate) fn verdict(
        &self,
        intent: &Intent,
        decision: &Decision,
        sealing: &Sealing<'_>,
        nonce: [u8; 16],
    ) -> Result<Draft, DraftError> {
        let json = verdict_json(intent, decision, sealing);
        let stamp = Stamp { recorded_at: self.host.now(), nonce };
        self.identity.draft(Kind::Verdict, &json, Vec::new(), &stamp)
    }

    /// A refuse that answers an earlier verdict of an action, and has its nonce and digest. Only
    /// what made the earlier verdict's record makes this one's, so that it is not refused for size.
    pub(crate) fn child_refuse(
        &self,
        action_id: &str,
        row: &ActionRow,
        decision: &Decision,
        parent: RecordRoot,
        now: Micros,
    ) -> Result<Draft, DraftError> {
        let intent = intent_of(row);
        let sealing = Sealing {
            action_id,
            mode: &row.mode,
            evaluated_at: now,
            policy: self.live.policy().ok().map(|loaded| loaded.name.clone()),
            parent: Some(parent),
            approvals: &[],
            permit: None,
            expires_at: None,
        };
        self.verdict(&intent, decision, &sealing, nonce_of(row))
    }
}

/// The intent that an action's verdicts are about.
pub(crate) fn intent_of(row: &ActionRow) -> Intent {
    // Only what was refused can't be parsed, and that is never judged again.
    Intent::parse(&row.intent).unwrap_or_else(|_| Intent::salvage(&row.intent))
}

/// The nonce of all of an action's verdicts.
pub(crate) fn nonce_of(row: &ActionRow) -> [u8; 16] {
    from_hex_array(&row.nonce).unwrap_or([0; 16])
}

/// A root as a row keeps it.
pub(crate) fn root_of(hex: &str) -> Option<RecordRoot> {
    from_hex_array(hex).map(RecordRoot)
}

/// A decision's reasons as rows keep them.
pub(crate) fn reasons_of(decision: &Decision) -> Vec<ReasonRow> {
    let row = |reason: &countersign_gate::Reason| ReasonRow {
        code: reason.code.clone(),
        policy: reason.policy.clone(),
        text: reason.text.clone(),
    };
    decision.reasons.iter().map(row).collect()
}

/// A draft as the outbox keeps it.
pub(crate) fn outbox_row(draft: &Draft, about: About) -> OutboxRow {
    OutboxRow {
        kind: draft.kind().number(),
        values: draft.values().to_vec(),
        people: draft.people().iter().map(|certificate| b64(certificate.der())).collect(),
        place: None,
        about,
    }
}

/// The people's chain of a row.
pub(crate) fn people_of(row: &OutboxRow) -> Option<Vec<Certificate>> {
    row.people.iter().map(|text| Certificate::from_der(&from_b64(text)?).ok()).collect()
}
