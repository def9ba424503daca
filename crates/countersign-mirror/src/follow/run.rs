//! Rounds, one after the other, with waits in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{FollowError, Follower, Round};
use crate::source::Fetch;

/// The first wait after a failure, and the longest.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// The wait after a smaller head was shown.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How a log is followed.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two rounds, unless somebody knows of a newer head earlier.
    pub interval: Duration,
    /// End with the first round that went well.
    pub once: bool,
    /// Who is told of a newer head.
    pub wake: Arc<Notify>,
}

/// Follows a log: for ever, or once. Dropping the future is a crash, which every step allows for.
///
/// # Errors
///
/// What can't pass by trying again: [`FollowError::Stopped`] above all. Asked to follow once, the
/// first failure.
pub async fn follow<F: Fetch>(follower: &mut Follower<F>, pace: &Pace) -> Result<(), FollowError> {
    let mut wait = BACKOFF;
    loop {
        match follower.round().await {
            Ok(Round::Behind) => sleep(LOOK_AGAIN).await,
            Ok(_) if pace.once => return Ok(()),
            Ok(_) => {
                wait = BACKOFF;
                // Told or not, it is time.
                let _ = timeout(pace.interval, pace.wake.notified()).await;
            }
            Err(error) if pace.once || !error.is_passing() => return Err(error),
            Err(error) => {
                let seconds = wait.as_secs();
                tracing::warn!(origin = follower.origin(), seconds, "trying again: {error}");
                sleep(wait).await;
                wait = (wait * 2).min(BACKOFF_MAX);
            }
        }
    }
}
