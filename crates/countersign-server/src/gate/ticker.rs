//! What happens by the clock: supervisions and emergencies end, silence is told of, a quiet gate
//! says that it lives, and what was poked is looked at again.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::encoding::Micros;
use redb::WriteTransaction;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::closing::own_notice;
use super::core::GateCore;
use super::rows::About;
use super::shared::{Shared, outbox_row};
use super::state::StateError;
use super::tables::{self, Room};
use crate::drain::Drain;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Expired supervisions that one tick ends.
const EXPIRED_MAX: usize = 64;
/// Permits that one tick ceases to wait for an outcome of.
const OVERDUE_MAX: usize = 256;
/// Microseconds after which a session that asks for nothing is forgotten, and with it that a grant
/// for it would come too late.
const SESSION_US: u64 = 30 * 86_400 * 1_000_000;
/// Ticks between two looks at old sessions.
const SESSION_TICKS: u64 = 36_000;

/// Runs until the drain starts.
pub(crate) async fn run(
    core: GateCore,
    mut pokes: mpsc::UnboundedReceiver<String>,
    mut drain: Drain,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut quiet = Quiet::default();
    let mut count = 0_u64;
    loop {
        tokio::select! {
            () = drain.started() => return,
            next = pokes.recv() => match next {
                Some(id) => look_again(&core, &id).await,
                None => return,
            },
            _ = ticks.tick() => {
                if core.shared.state.is_poisoned() {
                    return;
                }
                count = count.wrapping_add(1);
                if let Err(error) = tick(&core, &mut quiet, count).await {
                    tracing::error!(%error, "what is due by the clock was not done");
                }
            }
        }
    }
}

/// Looks at every supervised action that waits: an earlier process may have ended before it decided.
pub(crate) fn look_at_all(core: &GateCore) -> Result<(), StateError> {
    let mut from = (0, String::new());
    loop {
        let (at, id) = &from;
        let found = core.shared.state.read(|tx| tables::waiting(tx, (*at, id), 256))?;
        let Some((last_at, last_id)) = found.last().cloned() else { return Ok(()) };
        for (_, id) in found {
            // Fails only when the gate is at its end.
            let _ = core.shared.pokes.send(id);
        }
        // The next key behind the last one.
        from = (last_at, format!("{last_id}\0"));
    }
}

async fn look_again(core: &GateCore, id: &str) {
    let deadline = Instant::now() + core.shared.settings.answer_timeout();
    let resolved = async {
        // Whoever has the turn looks at it anyway, and pokes again where that is not enough.
        let Some(_turn) = core.turn(id, deadline).await else { return Ok(()) };
        core.resolve(id, Instant::now()).await
    };
    if let Ok(Err(error)) = timeout(core.shared.settings.answer_timeout(), resolved).await {
        tracing::error!(%error, action_id = id, "a supervised action can't be looked at");
    }
}

/// How long nothing was recorded.
#[derive(Default)]
struct Quiet {
    last_number: Option<u64>,
    since: Option<Instant>,
}

async fn tick(core: &GateCore, quiet: &mut Quiet, count: u64) -> Result<(), StateError> {
    let shared = &core.shared;
    let now = shared.host.now();
    let look = |tx: &redb::ReadTransaction| {
        let expired = tables::waiting(tx, (0, ""), EXPIRED_MAX)?;
        let counts = (tables::outbox_count(tx)?, tables::waiting_count(tx)?);
        Ok((expired, counts, tables::outbox_next(tx)?.unwrap_or(0), tables::silence(tx)?))
    };
    let (first, (outbox, waiting), next, silence) = shared.state.read(look)?;
    shared.metrics.set_depths(outbox, waiting);
    for (_, id) in first.into_iter().filter(|(expires_at, _)| *expires_at < now.0) {
        look_again(core, &id).await;
    }
    if let Some(open) = shared.live.emergency().filter(|open| open.until <= now.0) {
        end_emergency(shared, &open).await?;
    }
    if silence.is_some() && outbox <= shared.settings.outbox_max / 2 {
        tell_silence(shared).await?;
    }
    if quiet.is_over(next, Duration::from_secs(shared.settings.heartbeat_s)) && outbox == 0 {
        heartbeat(shared, waiting).await?;
    }
    if shared.state.read(|tx| tables::has_overdue(tx, now.0))? {
        shared.state.write(move |tx| tables::give_up_permits(tx, now.0, OVERDUE_MAX)).await?;
    }
    if count.is_multiple_of(SESSION_TICKS) {
        let before = now.0.saturating_sub(SESSION_US);
        shared.state.write(move |tx| tables::forget_sessions(tx, before)).await?;
    }
    Ok(())
}

impl Quiet {
    /// Whether nothing was put into the outbox for so long; asked again, it counts anew.
    fn is_over(&mut self, next: u64, after: Duration) -> bool {
        let now = Instant::now();
        if self.last_number != Some(next) {
            (self.last_number, self.since) = (Some(next), Some(now));
            return false;
        }
        self.since.is_some_and(|since| now.duration_since(since) >= after)
    }
}

async fn end_emergency(
    shared: &Arc<Shared>,
    open: &super::rows::EmergencyRow,
) -> Result<(), StateError> {
    let (inside, open) = (Arc::clone(shared), open.clone());
    let write = move |tx: &WriteTransaction| {
        // Another one may have taken its place meanwhile.
        if tables::emergency(tx)?.as_ref() != Some(&open) {
            return Ok(());
        }
        let detail = json!({
            "event": "closed", "verdict": open.verdict, "until": Micros(open.until).format(),
        });
        tables::put_emergency(tx, None)?;
        own_notice(&inside, tx, "break_glass", &detail)
    };
    shared.state.write(write).await?;
    shared.live.reload(&shared.state)?;
    shared.work.notify_one();
    Ok(())
}

/// Tells of the intents that were refused for want of room, now that there is some.
async fn tell_silence(shared: &Arc<Shared>) -> Result<(), StateError> {
    let inside = Arc::clone(shared);
    let write = move |tx: &WriteTransaction| {
        let Some(silence) = tables::silence(tx)? else { return Ok(()) };
        let detail = json!({
            "event": "outbox_full",
            "refused": silence.refused,
            "from": Micros(silence.from).format(),
            "to": Micros(silence.to).format(),
        });
        tables::put_silence(tx, None)?;
        own_notice(&inside, tx, "silence", &detail)
    };
    shared.state.write(write).await?;
    shared.work.notify_one();
    Ok(())
}

async fn heartbeat(shared: &Arc<Shared>, waiting: u64) -> Result<(), StateError> {
    let policy = shared.live.policy().ok();
    let digest = policy.map(|loaded| countersign_core::encoding::hex(&loaded.name.digest));
    let detail = json!({
        // The promise that bounds a pack's tail (PACK-28).
        "interval_s": shared.settings.heartbeat_s,
        "mode": shared.live.mode().as_ref(), "policy": digest, "waiting": waiting,
    });
    notice(shared, "heartbeat", &detail).await
}

/// Says in the log that a process has begun, and what it found.
pub(crate) async fn say_restart(shared: &Arc<Shared>) -> Result<(), StateError> {
    let counts =
        |tx: &redb::ReadTransaction| Ok((tables::outbox_count(tx)?, tables::waiting_count(tx)?));
    let (outbox, waiting) = shared.state.read(counts)?;
    let mode = shared.live.mode();
    let detail = json!({
        "interval_s": shared.settings.heartbeat_s,
        "outbox": outbox, "waiting": waiting, "mode": mode.as_ref(),
    });
    notice(shared, "restart", &detail).await
}

async fn notice(
    shared: &Arc<Shared>,
    about: &'static str,
    detail: &serde_json::Value,
) -> Result<(), StateError> {
    let draft = match shared.notice(about, detail) {
        Ok(draft) => draft,
        Err(error) => {
            tracing::error!(%error, about, "a notice can't be drafted");
            return Ok(());
        }
    };
    let row = outbox_row(&draft, About::Notice(None));
    let room = Room::Own(shared.settings.outbox_max);
    shared.state.write(move |tx| tables::enqueue(tx, &row, room)).await?;
    shared.work.notify_one();
    Ok(())
}
