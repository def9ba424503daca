//! What of the outbox is still to be said, when its turn has come.

use countersign_client::Draft;
use countersign_core::hash::RecordRoot;
use countersign_core::kinds::Kind;
use countersign_gate::{Decision, GateCode, Intent, Sealing};

use crate::gate::closing::said_refuse;
use crate::gate::rows::{About, ActionState, OutboxRow, Part, VerdictAbout};
use crate::gate::shared::{Shared, intent_of, nonce_of, outbox_row, people_of};
use crate::gate::tables;

/// What is to be done with a record that has no place yet.
pub(super) enum Ready {
    /// It gets one, perhaps as another record than it was.
    Record(Box<OutboxRow>, Box<Draft>),
    /// Nobody waits for it, and nobody misses it.
    Dropped(Box<OutboxRow>),
}

/// Looks at a record once more before it gets its place.
pub(super) fn prepared(shared: &Shared, number: u64, row: OutboxRow) -> Ready {
    let waited = || shared.tickets.of(number).is_some_and(|ticket| ticket.is_waited_for());
    let row = match &row.about {
        About::Verdict(about) if about.said.outcome != "refuse" => match about.part {
            Part::First if !waited() => return made_refuse(shared, row),
            Part::Final if is_stale(shared, about) => return Ready::Dropped(Box::new(row)),
            _ => row,
        },
        // Their callers were told that it came to nothing, and may do it again.
        About::Approval { .. } | About::Policy(_) | About::Grant(_) | About::Notice(Some(_))
            if !waited() =>
        {
            return Ready::Dropped(Box::new(row));
        }
        _ => row,
    };
    ready(row)
}

fn ready(row: OutboxRow) -> Ready {
    let draft = Kind::from_number(row.kind)
        .and_then(|kind| Draft::kept(kind, row.values.clone(), people_of(&row)?).ok());
    if let Some(draft) = draft {
        Ready::Record(Box::new(row), Box::new(draft))
    } else {
        tracing::error!(kind = row.kind, "a record of the outbox can't be read");
        Ready::Dropped(Box::new(row))
    }
}

/// Whether a final approve was decided by facts that may be others now.
fn is_stale(shared: &Shared, about: &VerdictAbout) -> bool {
    let age = shared.host.now().0.saturating_sub(about.at);
    u128::from(age) > shared.settings.answer_timeout().as_micros()
}

/// An approve or supervise that was never sent and that nobody waits for, as the refuse that its
/// caller was given: with the same nonce, and so of the same action.
fn made_refuse(shared: &Shared, row: OutboxRow) -> Ready {
    let About::Verdict(about) = &row.about else { return Ready::Dropped(Box::new(row)) };
    let action = shared.state.read(|tx| tables::action(tx, &about.action_id));
    let Ok(Some(action)) = action else { return Ready::Dropped(Box::new(row)) };
    let decision = Decision::refuse(GateCode::EvidenceUnavailable);
    let intent: Intent = intent_of(&action);
    let sealing = Sealing {
        action_id: &about.action_id,
        mode: &action.mode,
        evaluated_at: shared.host.now(),
        policy: shared.live.policy().ok().map(|loaded| loaded.name.clone()),
        parent: None::<RecordRoot>,
        approvals: &[],
        permit: None,
        expires_at: None,
    };
    let refuse =
        VerdictAbout { then: ActionState::Refused, said: said_refuse(&decision), ..about.clone() };
    match shared.verdict(&intent, &decision, &sealing, nonce_of(&action)) {
        // The charge stays with the row until it is closed or dropped, which gives it back.
        Ok(draft) => ready(outbox_row(&draft, About::Verdict(refuse))),
        Err(error) => {
            tracing::error!(%error, action = about.action_id, "a refuse can't be drafted");
            Ready::Dropped(Box::new(row))
        }
    }
}
