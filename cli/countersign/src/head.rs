//! `head`: the newest head, proven to continue the last one that this identity saw.

use countersign_core::encoding::{Micros, b64};
use serde_json::json;

use crate::args::{HeadArgs, Output};
use crate::connect::connect;
use crate::exit::{Exit, Failure};

pub(crate) async fn run(args: HeadArgs) -> Result<Exit, Failure> {
    let (_, client) = connect(&args.connection).await?;
    let head = client.head().await?;
    match args.output {
        // The note is data to be kept as it is: it ends with its own newline.
        Output::Human => tell_raw!("{}", head.checkpoint().as_str()),
        Output::Jsonl => {
            let time =
                head.clock_seconds().map(|seconds| Micros(seconds.saturating_mul(1_000_000)));
            let line = json!({
                "origin": head.checkpoint().origin,
                "size": head.size().0,
                "root": b64(&head.root().0),
                "time": time.map(Micros::format),
                "note": head.checkpoint().as_str(),
            });
            tell!("{line}");
        }
    }
    Ok(Exit::Success)
}
